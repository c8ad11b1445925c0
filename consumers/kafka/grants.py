"""The rights and users of a cluster: look, give, take.

In: a connection of somebody who may alter the cluster, rights that `rights.py` found missing or too many, a user's new
password. Out: the cluster as wanted. Of a password only its salted hash leaves this process.
"""

from collections.abc import Sequence, Set

from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from kafka.admin import ACLResourcePatternType as Pattern
from kafka.errors import KafkaError

from consumers.kafka import rights
from consumers.kafka.rights import Right
from consumers.kafka.topics import MEND, settled
from ledger.errors import DanbaoError
from schemas.both import Both

PATTERNS = {"name": Pattern.LITERAL, "prefix": Pattern.PREFIXED}
MATCHES = {pattern: match for match, pattern in PATTERNS.items()}
ITERATIONS = 8192
EVERYTHING = ACLFilter(
    None,
    None,
    ACLOperation.ANY,
    ACLPermissionType.ALLOW,
    ResourcePatternFilter(ResourceType.ANY, None, Pattern.ANY),
)


def look(admin: KafkaAdminClient) -> set[Right]:
    """Every right that somebody has in the cluster."""
    found, _ = admin.describe_acls(EVERYTHING)
    return {
        Right(
            acl.principal,
            acl.resource_pattern.resource_type.name.lower(),
            acl.resource_pattern.resource_name,
            MATCHES[acl.resource_pattern.pattern_type],
            acl.operation.name.lower(),
            acl.host,
        )
        for acl in found
    }


def apply(
    admin: KafkaAdminClient, wanted: Set[Right], missing: Sequence[Right], too_many: Sequence[Right]
) -> tuple[list[Right], list[Right]]:
    """Give what is missing, then take what is too many; returns what is left of both."""
    if missing:
        answer = admin.create_acls([ACL(*_place(right), ResourcePattern(*_resource(right))) for right in missing])
        for error in answer["failed"]:
            raise error("a right was not given")
    if too_many:
        doomed = [ACLFilter(*_place(right), ResourcePatternFilter(*_resource(right))) for right in too_many]
        for _, _, error in admin.delete_acls(doomed):
            if error.errno:
                raise error("a right was not taken")

    def left() -> tuple[list[Right], list[Right]]:
        found = look(admin)
        return rights.missing(wanted, found), rights.too_many(wanted, found)

    settled(lambda: left() == ([], []))
    return left()


def _place(right: Right) -> tuple[str, str, ACLOperation, ACLPermissionType]:
    return right.principal, right.host, ACLOperation[right.may.upper()], ACLPermissionType.ALLOW


def _resource(right: Right) -> tuple[ResourceType, str, Pattern]:
    return ResourceType[right.on.upper()], right.name, PATTERNS[right.match]


def has_password(admin: KafkaAdminClient, user: str) -> bool:
    """Whether the cluster knows this user."""
    found = admin.describe_user_scram_credentials([user])
    return bool(found[user]["credential_infos"])


def set_password(admin: KafkaAdminClient, user: str, password: str) -> None:
    """Let a user in by this password and no other from now on."""
    change = UserScramCredentialUpsertion(user, ScramMechanism.SCRAM_SHA_512, password, ITERATIONS)
    try:
        refused = admin.alter_user_scram_credentials([change])[user]
    except KafkaError as error:
        refused = str(type(error).__name__)  # and not the request, which holds the hash
    if refused or not settled(lambda: has_password(admin, user)):
        raise DanbaoError(
            Both(f"Kafka did not take the user {user}: {refused}", f"Kafka 未接受用户 {user}：{refused}"), MEND
        )
