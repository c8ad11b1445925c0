"""The shape of a rights file: the users of a Kafka, and what each may do there.

In: plain values, from `deploy/kafka/acls.yaml` or a file of the user's. Out: frozen rights. All is forbidden that no
right allows, so there is nothing here that forbids. What each platform may do names that platform, so that no line of
the file can give two of them the same thing.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.both import ShapeError
from schemas.codes import PLATFORM_ID

USERS_MAX = 256
RIGHTS_MAX = 64
USER = r"^[a-z0-9][a-z0-9._-]{0,63}$"
PLATFORM = "{platform}"
PLATFORM_USER = f"platform-{PLATFORM}"  # apart from all other users, whatever a platform is called


class Deed(StrEnum):
    """What may be done, in Kafka's words. `all` is missing on purpose: whoever needs it is a super user."""

    READ = "read"
    WRITE = "write"
    CREATE = "create"
    DELETE = "delete"
    ALTER = "alter"
    DESCRIBE = "describe"
    DESCRIBE_CONFIGS = "describe_configs"
    ALTER_CONFIGS = "alter_configs"


class Grant(BaseModel):
    """What may be done with one topic or group, or with all whose names begin so."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    on: Literal["topic", "group"]
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._{}-]{1,200}$")]
    match: Literal["name", "prefix"] = "name"
    may: Annotated[tuple[Deed, ...], Field(min_length=1, max_length=len(Deed))]


class User(BaseModel):
    """One user and what he may do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: Annotated[str, Field(pattern=USER)]
    grants: Annotated[tuple[Grant, ...], Field(min_length=1, max_length=RIGHTS_MAX)]


class PlatformGrant(Grant):
    """What a platform may do with what is its own."""

    match: Literal["name"] = "name"

    @model_validator(mode="after")
    def _of_one_platform(self) -> "PlatformGrant":
        if PLATFORM not in self.name:
            raise ShapeError(
                f"{self.name} would be every platform's; the name must hold {PLATFORM}",
                f"{self.name} 会为所有平台共有；名称须含 {PLATFORM}",
            )
        return self


class RightsFile(BaseModel):
    """A file of rights. A user who stands there twice may do both."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    users: Annotated[tuple[User, ...], Field(min_length=1, max_length=USERS_MAX)]
    each_platform: Annotated[tuple[PlatformGrant, ...], Field(max_length=RIGHTS_MAX)]
    platforms: Annotated[tuple[Annotated[str, Field(pattern=PLATFORM_ID)], ...], Field(max_length=USERS_MAX)] = ()
