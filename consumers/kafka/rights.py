"""How the rights in a cluster differ from those that a file grants. Pure.

In: a rights file, the rights found. Out: those missing, and those too many. Too many is whatever is not granted here
and concerns us: a right of a user of the file or of a platform, or anybody's on a topic or group that the file speaks
of, for by such a right somebody could write where only one platform may. What else a cluster holds is nobody's
business here, and what forbids something is left alone.
"""

from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass

from schemas.rights import PLATFORM, PLATFORM_USER, Grant, RightsFile

ANYWHERE = "*"  # the host; as a name: every topic
PRINCIPAL = "User:"


@dataclass(frozen=True, order=True)
class Right:
    """One right as Kafka keeps it. `match`: name or prefix."""

    principal: str
    on: str
    name: str
    match: str
    may: str
    host: str = ANYWHERE


def granted(file: RightsFile) -> set[Right]:
    """Every right that the file grants."""
    return set(_granted(file))


def _granted(file: RightsFile) -> Iterator[Right]:
    for user in file.users:
        for grant in user.grants:
            yield from _rights(user.user, grant, grant.name)
    for platform in file.platforms:
        for grant in file.each_platform:
            yield from _rights(PLATFORM_USER.replace(PLATFORM, platform), grant, grant.name.replace(PLATFORM, platform))


def _rights(user: str, grant: Grant, name: str) -> Iterator[Right]:
    for deed in grant.may:
        yield Right(f"{PRINCIPAL}{user}", grant.on, name, grant.match, str(deed))


def missing(wanted: Set[Right], found: Set[Right]) -> list[Right]:
    """What is granted and not in the cluster yet."""
    return sorted(wanted - found)


def too_many(wanted: Set[Right], found: Iterable[Right]) -> list[Right]:
    """What is in the cluster, concerns us, and is not granted."""
    users = {right.principal for right in wanted}
    return sorted(right for right in found if right not in wanted and _concerns_us(right, users, wanted))


def _concerns_us(right: Right, users: Set[str], wanted: Set[Right]) -> bool:
    of_platforms = f"{PRINCIPAL}{PLATFORM_USER.removesuffix(PLATFORM)}"
    if right.principal in users or right.principal.startswith(of_platforms):
        return True
    return any(right.on == ours.on and _meet(right, ours) for ours in wanted)


def _meet(one: Right, other: Right) -> bool:
    """Whether something has a name that both speak of."""
    if ANYWHERE in (one.name, other.name):
        return True
    if one.match == other.match == "name":
        return one.name == other.name
    prefixes = [right.name for right in (one, other) if right.match == "prefix"]
    return any(one.name.startswith(prefix) and other.name.startswith(prefix) for prefix in prefixes)
