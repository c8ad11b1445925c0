"""The registry of platforms. In: registrations. Out: rows, and the look-ups that intake and commands need."""

from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, func, select
from sqlalchemy.dialects.postgresql import insert

from ledger.calendar import SHANGHAI, to_us
from ledger.errors import BadQuestion
from ledger.identity import KEY_BYTES, KEY_NOTICE, Registered, SigningKey
from ledger.intake import sources
from ledger.store.tables import platform, platform_key, platform_key_end, platform_line, platform_province
from schemas.both import Both
from schemas.platforms import PlatformRegistration

REGISTRY_LOCK = 2022_07_01_02


class PlatformRow(NamedTuple):
    """A registered platform, as the commands show it."""

    platform_no: int
    platform_id: str
    name: str
    name_zh: str
    aliases: list[str]
    uscc: str
    example: bool


class KeyRow(NamedTuple):
    """A platform's public key, and when it is in force; `in_force_until` None: until further notice."""

    platform_no: int
    public_key: bytes
    in_force_from: datetime
    in_force_until: datetime | None


def register(tx: Connection, wanted: PlatformRegistration, example: bool = False) -> bool:
    """Register a platform, or add lines and provinces to it; False when nothing was new.

    A name, code or first day that stands is never changed: BadQuestion names what differs.
    """
    tx.execute(select(func.pg_advisory_xact_lock(REGISTRY_LOCK)))  # no constraint sees an alias given twice
    existing = tx.execute(select(platform).where(platform.c.platform_id == wanted.platform_id)).one_or_none()
    if existing is None:
        _refuse_taken(tx, wanted)
        values = wanted.model_dump(include={"platform_id", "name", "name_zh", "uscc"})
        inserted = platform.insert().values(**values, aliases=list(wanted.aliases), example=example)
        number = tx.scalar(inserted.returning(platform.c.platform_no))
    else:
        _refuse_changes(existing, wanted)
        number = existing.platform_no
    added = _add_lines(tx, number, wanted) + _add_provinces(tx, number, wanted)
    return existing is None or added > 0


def _refuse_changes(existing: Row[Any], wanted: PlatformRegistration) -> None:
    for word, stands, asked in (
        (Both("code", "统一社会信用代码"), existing.uscc, wanted.uscc),
        (Both("name", "英文名称"), existing.name, wanted.name),
        (Both("Chinese name", "中文名称"), existing.name_zh, wanted.name_zh),
    ):
        if stands != asked:
            raise BadQuestion(
                Both(
                    f"Platform {wanted.platform_id} is registered with the {word.en} {stands}, not {asked}.",
                    f"平台 {wanted.platform_id} 登记的{word.zh}为 {stands}，不是 {asked}。",
                ),
                Both(
                    "A registration is never changed; register another enterprise under an id of its own.",
                    "登记不可更改；如为另一家企业，请另用标识登记。",
                ),
            )
    if strange := set(wanted.aliases) - set(existing.aliases):
        raise BadQuestion(
            Both(
                f"Platform {wanted.platform_id} is registered without the alias {', '.join(sorted(strange))}.",
                f"平台 {wanted.platform_id} 登记时没有别名 {'、'.join(sorted(strange))}。",
            ),
            Both(
                "A registration is never changed; aliases are named when a platform is registered.",
                "登记不可更改；别名须在平台登记时写明。",
            ),
        )


def _refuse_taken(tx: Connection, wanted: PlatformRegistration) -> None:
    names = {wanted.platform_id, *wanted.aliases}
    for row in tx.execute(select(platform)):
        if row.uscc == wanted.uscc or names & {row.platform_id, *row.aliases}:
            raise BadQuestion(
                Both(
                    f"Platform {row.platform_id} has that code or one of these names already.",
                    f"平台 {row.platform_id} 已占用该代码或其中一个名称。",
                ),
                Both(
                    f"See it with: danbao platforms show {row.platform_id}",
                    f"请查看 danbao platforms show {row.platform_id}",
                ),
            )


def _add_lines(tx: Connection, number: int, wanted: PlatformRegistration) -> int:
    if not wanted.lines:
        return 0
    rows = [{"platform_no": number, "line": str(line)} for line in wanted.lines]
    fresh = insert(platform_line).values(rows).on_conflict_do_nothing().returning(platform_line.c.line)
    return len(tx.execute(fresh).all())


def _add_provinces(tx: Connection, number: int, wanted: PlatformRegistration) -> int:
    there = platform_province
    found = tx.execute(select(there.c.province, there.c.first_day).where(there.c.platform_no == number))
    standing = {row.province: row.first_day for row in found}
    fresh = []
    for province, first_day in wanted.provinces.items():
        if standing.get(province, first_day) != first_day:
            raise BadQuestion(
                Both(
                    f"{wanted.platform_id} is registered in province {province} from {standing[province]}.",
                    f"{wanted.platform_id} 在省份 {province} 登记的首日为 {standing[province]}。",
                ),
                Both("A first day that stands is never changed.", "已登记的首日不可更改。"),
            )
        if province not in standing:
            fresh.append({"platform_no": number, "province": province, "first_day": first_day})
    if fresh:
        tx.execute(there.insert(), fresh)
    return len(fresh)


def all_platforms(tx: Connection) -> list[PlatformRow]:
    """Every registered platform, in order of registration."""
    columns = [platform.c[name] for name in PlatformRow._fields]
    return [PlatformRow(*row) for row in tx.execute(select(*columns).order_by(platform.c.platform_no))]


class Known(NamedTuple):
    """What is registered of platforms, as intake needs it."""

    platforms: list[PlatformRow]
    keys: list[KeyRow]


def known(tx: Connection) -> Known:
    """Every platform and every key."""
    return Known(all_platforms(tx), all_keys(tx))


def for_intake(platforms: list[PlatformRow], keys: list[KeyRow]) -> dict[str, Registered]:
    """CloudEvents source → platform with its keys, aliases included."""
    held: dict[int, list[SigningKey]] = {}
    for number, public_key, since, until in keys:
        held.setdefault(number, []).append(SigningKey(public_key, to_us(since), to_us(until) if until else None))
    return sources(
        (Registered(row.platform_no, row.platform_id, row.example, tuple(held.get(row.platform_no, ()))), row.aliases)
        for row in platforms
    )


# ---- keys


def all_keys(tx: Connection) -> list[KeyRow]:
    """Every key of every platform, in the order in which they came into force."""
    ends = platform_key_end.c
    until = (ends.platform_no == platform_key.c.platform_no) & (ends.public_key == platform_key.c.public_key)
    wanted = select(
        platform_key.c.platform_no, platform_key.c.public_key, platform_key.c.in_force_from, ends.in_force_until
    ).select_from(platform_key.outerjoin(platform_key_end, until))
    ordered = wanted.order_by(platform_key.c.in_force_from, platform_key.c.public_key)
    return [KeyRow(row[0], bytes(row[1]), *row[2:]) for row in tx.execute(ordered)]


def add_key(tx: Connection, platform_no: int, public_key: bytes, since: datetime, now: datetime) -> bool:
    """Register a key from an instant on; False when it stands already. BadQuestion where that cannot be."""
    assert len(public_key) == KEY_BYTES
    for row in all_keys(tx):
        if (row.platform_no, row.public_key) == (platform_no, public_key):
            if row.in_force_from == since:
                return False
            raise BadQuestion(
                Both(
                    f"That key is registered, in force from {_minute(row.in_force_from)}.",
                    f"该公钥已登记，自 {_minute(row.in_force_from)} 起生效。",
                ),
                Both("A registration is never changed; make a new key.", "登记不得更改；请生成新的密钥。"),
            )
    _refuse_too_soon(since, now)
    values = {"platform_no": platform_no, "public_key": public_key, "in_force_from": since}
    tx.execute(platform_key.insert().values(values))
    return True


def end_key(tx: Connection, platform_no: int, public_key: bytes, until: datetime, now: datetime) -> bool:
    """Let a key's signatures count no longer from an instant on; False when that stands already."""
    for row in all_keys(tx):
        if (row.platform_no, row.public_key) == (platform_no, public_key):
            if row.in_force_until is None:
                break
            if row.in_force_until == until:
                return False
            raise BadQuestion(
                Both(
                    f"That key ends on {_minute(row.in_force_until)} already.",
                    f"该公钥已定于 {_minute(row.in_force_until)} 失效。",
                ),
                Both("A registration is never changed.", "登记不得更改。"),
            )
    else:
        raise BadQuestion(
            Both("The platform has no such key.", "该平台企业没有登记此公钥。"),
            Both("See them with: danbao platforms key list PLATFORM", "查看公钥：danbao platforms key list 平台"),
        )
    _refuse_too_soon(until, now)
    values = {"platform_no": platform_no, "public_key": public_key, "in_force_until": until}
    tx.execute(platform_key_end.insert().values(values))
    return True


def _refuse_too_soon(instant: datetime, now: datetime) -> None:
    soonest = now + KEY_NOTICE
    if instant < soonest:
        raise BadQuestion(
            Both(
                f"{_minute(instant)} is too soon: every consumer must know of it before.",
                f"{_minute(instant)} 过早：须先让所有消费进程知悉。",
            ),
            Both(f"Give {_minute(soonest, 1)} or later.", f"请给出 {_minute(soonest, 1)} 或更晚的时刻。"),
        )


def _minute(instant: datetime, more: int = 0) -> str:
    return (instant.astimezone(SHANGHAI) + timedelta(minutes=more)).isoformat(timespec="minutes")


def find(tx: Connection, name: str) -> PlatformRow:
    """A platform by id, alias, name or code; BadQuestion lists those that are known."""
    rows = all_platforms(tx)
    for row in rows:
        if name in (row.platform_id, row.name, row.name_zh, row.uscc, *row.aliases):
            return row
    known = ", ".join(row.platform_id for row in rows)
    raise BadQuestion(
        Both(f"{name!r} is not a registered platform.", f"{name!r} 不是已登记的平台。"),
        Both(
            f"Known: {known}. Register one with: danbao platforms add {name} …",
            f"已登记的平台：{known}。登记平台：danbao platforms add {name} …",
        ),
    )
