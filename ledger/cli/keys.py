"""danbao platforms key: the keys that platforms sign their order streams with.

In: a platform and a public key; the clock, for keys are announced before they count. Out: a private key in a file of
its owner's alone, rows in the registry, a list.
"""

import os
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from sqlalchemy import Connection

from ledger.calendar import SHANGHAI
from ledger.cli import common, usage
from ledger.cli.common import say
from ledger.errors import BadQuestion
from schemas.both import Both

SPARE = timedelta(minutes=1)  # between our clock and the database's

app = typer.Typer(
    cls=usage.Group,
    no_args_is_help=True,
    help=say(
        "Keys that platforms sign their streams with (Ed25519)."
        "\n\nTo change a key without a gap: make a new one (new), add it (add), wait until it is in force (list), sign"
        " with it, and only then end the old one (end). While both are in force, signatures by either count. From the"
        " moment its first key is in force, all that a platform sends through Kafka must be signed."
        " What is said of a key counts a quarter of an hour later at the soonest, so that every consumer knows it.",
        "平台企业报送签名的密钥（Ed25519）。"
        "\n\n不间断地更换密钥：先生成新密钥（new），登记公钥（add），待其生效（list）后改用新密钥签名，最后停用旧公钥（end）。"
        "新旧公钥同时有效期间，任一签名均有效。自首个公钥生效起，该平台企业经 Kafka 报送的记录均须签名。"
        "登记与停用最早于十五分钟后生效，以便所有消费进程知悉。",
    ),
)

_Platform = Annotated[
    str, typer.Argument(help=say("Id, alias, name or code of the platform.", "平台企业的标识、别名、名称或代码。"))
]
_PublicKey = Annotated[str, typer.Option(metavar="HEX", help=say("64 hexadecimal digits.", "64 位十六进制数字。"))]
_SOONEST = ("default: as soon as may be, some 16 minutes from now", "默认尽早，约 16 分钟后")


@app.command(cls=usage.Command)
@common.command("生成一对新密钥：私钥写入仅本人可读的文件，公钥显示在屏幕上，供登记使用。")
def new(
    out: Annotated[
        Path,
        typer.Option(help=say("Where the private key goes; never overwritten.", "私钥文件，不会覆盖已有文件。")),
    ],
    as_json: common.AsJson = False,
) -> None:
    """Make a key: the private half into a file of yours alone, the public half on the screen, to be registered.

    Example: danbao platforms key new --out kuaisong.pem
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from ledger import signing

    key = Ed25519PrivateKey.generate()
    _write_private(out, signing.private_pem(key))
    public = signing.public_text(key)
    if as_json:
        common.print_json({"public_key": public, "private_key_file": str(out)})
        return
    common.out.print(public)
    common.notice(
        Both(
            f"The private key is in {out}: keep it to yourself. Register the public one above with:"
            f" danbao platforms key add PLATFORM --public-key {public}",
            f"私钥在 {out} 中，请妥善保管，切勿外传。登记上面的公钥："
            f"danbao platforms key add 平台 --public-key {public}",
        )
    )


@app.command(cls=usage.Command)
@common.command("登记平台企业的公钥。自首个公钥生效起，其报送的记录均须签名。")
def add(
    platform: _Platform,
    public_key: _PublicKey,
    since: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="2026-12-01T00:00+08:00",
            help=say(f"In force from; {_SOONEST[0]}.", f"生效时刻；{_SOONEST[1]}。"),
        ),
    ] = None,
    as_json: common.AsJson = False,
) -> None:
    """Register a public key of a platform. Once its first key is in force, it must sign what it sends.

    Example: danbao platforms key add kuaisong --public-key 3d40…660c --from 2026-12-01T00:00+08:00
    """
    from ledger.store import registry

    _change(registry.add_key, platform, public_key, since, as_json, say("Registered.", "已登记。"))


@app.command(cls=usage.Command)
@common.command("停用平台企业的公钥：自所定时刻起，以其签名的记录一律拒收；若届时无其他有效公钥，则全部拒收。")
def end(
    platform: _Platform,
    public_key: _PublicKey,
    until: Annotated[
        str | None,
        typer.Option(
            metavar="2026-12-31T00:00+08:00",
            help=say(f"In force until before; {_SOONEST[0]}.", f"失效时刻；{_SOONEST[1]}。"),
        ),
    ] = None,
    as_json: common.AsJson = False,
) -> None:
    """End a public key of a platform: from then on, records signed with it are rejected; without another key, all are.

    Example: danbao platforms key end kuaisong --public-key 3d40…660c --until 2026-12-31T00:00+08:00
    """
    from ledger.store import registry

    _change(registry.end_key, platform, public_key, until, as_json, say("Ended.", "已停用。"))


@app.command("list", cls=usage.Command)
@common.command("列出平台企业的公钥及其生效、失效时刻。")
def list_(platform: _Platform, as_json: common.AsJson = False) -> None:
    """List the public keys of a platform, and when they are in force.

    Example: danbao platforms key list kuaisong
    """
    from ledger.store import connect, registry

    with common.database(connect.AUDIT) as engine, engine.connect() as connection:
        shown = _described(connection, registry.find(connection, platform), common.now())
    if as_json:
        common.print_json(shown)
    else:
        _print(shown)


def _write_private(path: Path, pem: bytes) -> None:
    """A new file that only its owner may read."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise BadQuestion(
            Both(f"{path} exists already.", f"{path} 已存在。"),
            Both("A key is never overwritten; name another file.", "密钥不会被覆盖；请另取文件名。"),
        ) from None
    except OSError as error:
        raise BadQuestion(
            Both(f"{path} cannot be written: {error.strerror}.", f"无法写入 {path}：{error.strerror}。"),
            Both("Name a file in a directory of yours.", "请指定您可以写入的目录中的文件。"),
        ) from None
    with os.fdopen(handle, "wb") as file:
        file.write(pem)


def _change(
    change: Callable[[Connection, int, bytes, datetime, datetime], bool],
    platform: str,
    public_key: str,
    instant: str | None,
    as_json: bool,
    done: str,
) -> None:
    """Add or end a key, and show how the platform's keys stand."""
    from ledger import signing
    from ledger.identity import KEY_NOTICE
    from ledger.store import connect, registry

    key = signing.read_public(public_key)
    wanted = common.parse_instant(instant) if instant else None
    with common.database(connect.REGISTRAR) as engine, engine.begin() as tx:
        row = registry.find(tx, platform)
        now = common.now()
        soonest = (now + KEY_NOTICE + SPARE).replace(microsecond=0)
        changed = change(tx, row.platform_no, key, wanted or soonest, now)
        shown = _described(tx, row, now)
    if as_json:
        common.print_json(shown | {"changed": changed})
        return
    common.out.print(done if changed else say("Nothing new.", "无新增内容。"))
    _print(shown)


def _described(tx: Connection, row: Any, now: datetime) -> dict[str, Any]:
    """The keys of a platform; `state`: coming, in_force or ended."""
    from ledger.store import registry

    keys = [key for key in registry.all_keys(tx) if key.platform_no == row.platform_no]
    return {
        "platform_id": row.platform_id,
        "keys": [
            {
                "public_key": key.public_key.hex(),
                "in_force_from": _instant(key.in_force_from),
                "in_force_until": key.in_force_until and _instant(key.in_force_until),
                "state": _state(key, now),
            }
            for key in keys
        ],
    }


def _instant(moment: datetime) -> str:
    return moment.astimezone(SHANGHAI).isoformat(timespec="seconds")


def _state(key: Any, now: datetime) -> str:
    if now < key.in_force_from:
        return "coming"
    return "in_force" if key.in_force_until is None or now < key.in_force_until else "ended"


def _print(shown: dict[str, Any]) -> None:
    if not shown["keys"]:
        common.out.print(say("No key is registered; nothing has to be signed.", "未登记公钥，无须签名。"))
        return
    states = {
        "coming": say("not yet in force", "尚未生效"),
        "in_force": say("in force", "有效"),
        "ended": say("ended", "已失效"),
    }
    table = Table(box=None)
    for heading in (say("public key", "公钥"), say("from", "生效"), say("until", "失效"), say("state", "状态")):
        table.add_column(heading, no_wrap=True)
    for key in shown["keys"]:
        table.add_row(key["public_key"], key["in_force_from"], key["in_force_until"] or "–", states[key["state"]])
    common.out.print(table)
