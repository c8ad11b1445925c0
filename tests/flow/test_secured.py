"""A Kafka with TLS, passwords and rights, and people who try to cheat: each finds the door shut, or is found out.

In: a cluster as deploy/README.md says to set one up, platforms with topics of their own. Out: refusals of the broker,
reasons in the books, and errors that say what to do without the password.
"""

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import secured
from command import answer
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from kafka.errors import AuthorizationError, TopicAuthorizationFailedError
from secured import ADMIN, ADMIN_PASSWORD, Secured, as_user, end_of, give, password_of, read, rights_file, send
from sqlalchemy import Engine
from stdnum.cn import uscc
from streams import Running, command, wait_until
from support import ARRIVED, accepted, encode, owner, replayed, rows, rules, value
from typer.testing import CliRunner, Result

from consumers.kafka import grants, settings, topics
from consumers.kafka.answers import AnswerReader, Places
from consumers.kafka.rejected import TOPIC
from consumers.kafka.settings import Access, access
from consumers.loop import Booker
from consumers.orders import Consumer, Hooks, doors_for
from ledger.cli import kafka as kafka_command
from ledger.errors import DanbaoError
from ledger.store import connect, registry
from schemas.platforms import PlatformRegistration

NUMBERS = count(1)
ANSWER_S_MAX = 45
WRONG = "a password that is wrong"


@pytest.fixture(scope="module")
def cluster(kafka_ground: Path) -> Iterator[Secured]:
    """The secured Kafka, its ledger's user let in."""
    try:
        with secured.running(kafka_ground / "secured") as running:
            secured.let_in(running, "danbao")
            secured.make_topics(running, TOPIC)
            yield running
    except DanbaoError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"needs Kafka: {error}")


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for what cannot be."""
    monkeypatch.setattr(settings, "BOOTSTRAP_MS_MAX", 4_000)


# ---- two platforms: A, and B who cheats


@dataclass(frozen=True)
class Scene:
    """Two platforms with topics of their own, and one topic that both may write to; the ledger may read all three."""

    cluster: Secured
    engine: Engine
    a: str
    b: str
    shared: str

    def own(self, platform: str) -> str:
        return f"orders.v1.{platform}"

    def user(self, platform: str) -> Access:
        return as_user(self.cluster, f"platform-{platform}")

    def book(self) -> None:
        """Book all that the three topics hold."""
        whose = {self.own(self.a): self.a, self.own(self.b): self.b, self.shared: None}
        reading = consumer(self.engine, as_user(self.cluster, "danbao"), whose)
        reading.run(to_end=True)


def consumer(engine: Engine, who: Access, whose: dict[str, str | None], **more: Any) -> Consumer:
    """The ledger's consumer, under its own group."""
    doors = doors_for(engine, whose)
    return Consumer(engine, Booker(engine, rules(), lambda _: None), who, doors, hooks=Hooks(), **more)


def register(url: str, number: int, *platforms: str) -> None:
    with connect.ledger(url, connect.REGISTRAR) as engine, engine.begin() as tx:
        for place, platform in enumerate(platforms):
            code = f"91310000MA1F{number:04}{place}"
            facts = {
                "platform_id": platform,
                "name": platform,
                "name_zh": platform,
                "uscc": code + uscc.calc_check_digit(code),
                "lines": ["instant_delivery"],
                "provinces": {"31": "2026-07-01"},
            }
            registry.register(tx, PlatformRegistration.model_validate(facts))


@pytest.fixture
def scene(cluster: Secured, engine: Engine, ledger_url: str) -> Scene:
    number = next(NUMBERS)
    a, b, shared = f"a{number}", f"b{number}", f"orders.v1.shared.{number}"
    register(ledger_url, number, a, b)
    secured.let_in(cluster, f"platform-{a}", f"platform-{b}")
    rejections = (f"{TOPIC}.{a}", f"{TOPIC}.{b}")
    secured.make_topics(cluster, f"orders.v1.{a}", f"orders.v1.{b}", shared, *rejections)
    write = [{"on": "topic", "name": shared, "may": ["write"]}]
    give(cluster, rights_file([a, b], *({"user": f"platform-{one}", "grants": write} for one in (a, b))))
    return Scene(cluster, engine, a, b, shared)


def key_for(url: str, platform: str) -> Ed25519PrivateKey:
    """A key that the platform has signed with for a month."""
    key = Ed25519PrivateKey.generate()
    registered = ARRIVED - timedelta(days=30)
    with owner(url) as connection:
        connection.execute(
            """insert into platform_key (platform_no, public_key, registered_at, in_force_from)
            select platform_no, %s, %s, %s from platform where platform_id = %s""",
            (key.public_key().public_bytes_raw(), registered, registered + timedelta(hours=1), platform),
        )
    return key


def order(number: str, platform: str) -> bytes:
    return encode(accepted(number, platform=platform))


def charged(url: str) -> list[tuple[str, str]]:
    """Which orders of which platforms are charged."""
    return rows(url, "select platform_id, order_id from charge join platform using (platform_no) order by 1, 2")


def rejected(url: str) -> list[tuple[str, str, str]]:
    """What was rejected: topic, reason, whose it said it was."""
    records = "rejected_record join batch using (batch_id)"
    return rows(url, f"select topic, reason, platform_id from {records} order by batch_id, record_offset")


def test_each_platform_writes_to_its_own_topic_and_the_ledger_books_it(scene: Scene, ledger_url: str) -> None:
    for platform in (scene.a, scene.b):
        send(scene.user(platform), scene.own(platform), order("1", platform))
    scene.book()
    assert charged(ledger_url) == [(scene.a, "1"), (scene.b, "1")]
    assert replayed(ledger_url).findings.kept == []


def test_the_broker_refuses_who_writes_to_anothers_own_topic(scene: Scene) -> None:
    with pytest.raises(TopicAuthorizationFailedError):
        send(scene.user(scene.b), scene.own(scene.a), order("1", scene.a))
    assert end_of(scene.cluster, scene.own(scene.a)) == 0


def test_the_ledger_itself_may_write_no_orders(scene: Scene) -> None:
    for topic in (scene.own(scene.a), scene.shared):
        with pytest.raises(AuthorizationError):
            send(as_user(scene.cluster, "danbao"), topic, order("1", scene.a))
        assert end_of(scene.cluster, topic) == 0


def test_who_writes_anothers_orders_to_his_own_topic_is_found_out(scene: Scene, ledger_url: str) -> None:
    send(scene.user(scene.b), scene.own(scene.b), order("1", scene.a))
    scene.book()
    assert charged(ledger_url) == []
    assert rejected(ledger_url) == [(scene.own(scene.b), "wrong_source", scene.a)]


def test_on_a_shared_topic_anothers_name_without_his_signature_counts_for_nothing(
    scene: Scene, ledger_url: str
) -> None:
    key_for(ledger_url, scene.a)
    mine = key_for(ledger_url, scene.b)
    forged = order("1", scene.a)
    send(scene.user(scene.b), scene.shared, forged)
    send(scene.user(scene.b), scene.shared, forged, mine.sign(forged))
    scene.book()
    assert charged(ledger_url) == []
    assert rejected(ledger_url) == [(scene.shared, "unsigned", scene.a), (scene.shared, "bad_signature", scene.a)]


def test_a_signed_record_sent_again_by_somebody_else_is_never_charged_twice(scene: Scene, ledger_url: str) -> None:
    key = key_for(ledger_url, scene.a)
    raw = order("1", scene.a)
    send(scene.user(scene.a), scene.shared, raw, key.sign(raw))
    for topic in (scene.shared, scene.own(scene.b)):
        send(scene.user(scene.b), topic, raw, key.sign(raw))
    scene.book()
    assert charged(ledger_url) == [(scene.a, "1")]
    assert value(ledger_url, "select sum(duplicate) from batch") == 1
    assert rejected(ledger_url) == [(scene.own(scene.b), "wrong_source", scene.a)]
    assert replayed(ledger_url).findings.kept == []


# ---- what was rejected is told to the one whom it concerns


def test_a_platform_reads_what_was_rejected_of_its_own_and_nothing_of_anothers(scene: Scene) -> None:
    send(scene.user(scene.a), scene.own(scene.a), b"rubbish of A")
    send(scene.user(scene.b), scene.own(scene.b), order("1", scene.a))
    shared_before = end_of(scene.cluster, TOPIC)
    scene.book()
    wait_until(lambda: end_of(scene.cluster, f"{TOPIC}.{scene.b}") == 1)
    [told_a] = read(scene.user(scene.a), f"{TOPIC}.{scene.a}", f"platform-{scene.a}", 1)
    [told_b] = read(scene.user(scene.b), f"{TOPIC}.{scene.b}", f"platform-{scene.b}", 1)
    assert told_a.value == b"rubbish of A"
    assert dict(told_b.headers)["danbao-reason"] == b"wrong_source"
    assert [end_of(scene.cluster, f"{TOPIC}.{one}") for one in (scene.a, scene.b)] == [1, 1]
    assert end_of(scene.cluster, TOPIC) == shared_before
    for another in (f"{TOPIC}.{scene.a}", TOPIC, scene.own(scene.a), "orders.v1"):
        assert not may_see(scene.user(scene.b), another)
    assert may_see(scene.user(scene.b), scene.own(scene.b))


def test_who_pushes_hears_on_his_own_topic_what_was_rejected(scene: Scene) -> None:
    own = scene.own(scene.a)
    send(scene.user(scene.a), own, b"rubbish that is told before")
    scene.book()
    wait_until(lambda: end_of(scene.cluster, f"{TOPIC}.{scene.a}") == 1)
    with AnswerReader(scene.user(scene.a), "danbao-orders", scene.a) as reader:
        places = Places(own)
        for offset, record in enumerate((b"rubbish of A", order("1", scene.a)), 1):
            send(scene.user(scene.a), own, record)
            places.add(0, offset)
        scene.book()
        found = reader.read(places, 10)
    assert [(told.offset, told.raw) for told in found.rejected] == [(1, b"rubbish of A")]
    assert found.passed is None, "no platform may look into the ledger's group"


def may_see(who: Access, topic: str) -> bool:
    """Whether Kafka lets him know that the topic exists, as whoever may read or write there is."""
    with topics.connect(who) as admin:
        try:
            return topic in topics.look(admin, [topic])
        except TopicAuthorizationFailedError:
            return False


def test_what_no_topic_of_its_own_can_take_is_told_where_no_platform_reads(scene: Scene) -> None:
    before = end_of(scene.cluster, TOPIC)
    send(scene.user(scene.b), scene.shared, b"rubbish of nobody")
    scene.book()
    wait_until(lambda: end_of(scene.cluster, TOPIC) == before + 1)


# ---- who does not come in


def no_entry(who: Access) -> DanbaoError:
    with pytest.raises(DanbaoError) as refused, topics.connect(who):
        pass
    return refused.value


@pytest.mark.usefixtures("brief")
def test_a_wrong_password_is_said_and_shown_nowhere(cluster: Secured, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    who = cluster.access("danbao", WRONG)
    error = no_entry(who)
    assert "hung up on danbao: it does not know this user, or not by this password" in error.what.en
    assert "DANBAO_KAFKA_PASSWORD_FILE" in error.fix.en
    assert "Starting KafkaAdminClient with configuration" in caplog.text
    assert WRONG not in caplog.text + str(error) + repr(error) + repr(who) + repr(who.options())


@pytest.mark.usefixtures("brief")
def test_the_right_password_is_shown_nowhere_either(cluster: Secured, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with topics.connect(cluster.access()) as admin:
        topics.every_name(admin)
        grants.set_password(admin, "somebody", "the password of somebody")
    send(cluster.access(), TOPIC, b"rubbish")
    assert caplog.text.count("kafka") > 10
    assert ADMIN_PASSWORD not in caplog.text
    assert "the password of somebody" not in caplog.text


@pytest.mark.usefixtures("brief")
def test_who_comes_without_tls_or_without_a_user_is_told_what_to_set(cluster: Secured) -> None:
    for who in (Access(cluster.bootstrap), Access(cluster.bootstrap, cluster.ca)):
        assert "DANBAO_KAFKA_CA, DANBAO_KAFKA_USER, DANBAO_KAFKA_PASSWORD_FILE" in no_entry(who).fix.en


@pytest.mark.usefixtures("brief")
def test_a_broker_whom_our_authority_does_not_vouch_for_hears_no_password(cluster: Secured, tmp_path: Path) -> None:
    stranger, _ = secured.certificates(tmp_path)
    error = no_entry(replace(cluster.access(), ca=str(stranger)))
    assert f"no certificate that {stranger} vouches for" in error.what.en
    assert "do not go on" in error.fix.en


@pytest.mark.usefixtures("brief")
def test_a_certificate_is_good_only_for_the_names_it_bears(cluster: Secured) -> None:
    named = replace(cluster.access(), bootstrap=cluster.bootstrap.replace("127.0.0.1", "localhost"))
    assert "vouches for" in no_entry(named).what.en


def test_nobody_may_do_nothing(cluster: Secured) -> None:
    with pytest.raises(DanbaoError, match="refused"), topics.connect(Access(cluster.open_port)) as admin:
        admin.create_topics({"orders.v1.x": {"num_partitions": 1, "replication_factor": 1}})


def test_a_password_that_others_may_read_is_refused(cluster: Secured, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(ADMIN_PASSWORD)
    environment = {
        "DANBAO_KAFKA_CA": cluster.ca,
        "DANBAO_KAFKA_USER": ADMIN,
        "DANBAO_KAFKA_PASSWORD_FILE": str(file),
    }
    for mode in (0o640, 0o604, 0o620):
        file.chmod(mode)
        with pytest.raises(DanbaoError) as refused:
            access(cluster.bootstrap, environment)
        assert f"chmod 600 {file}" in refused.value.fix.en
        assert ADMIN_PASSWORD not in repr(refused.value)
    file.chmod(0o600)
    with topics.connect(access(cluster.bootstrap, environment)) as admin:
        assert topics.brokers(admin) == 1


def test_a_user_without_tls_and_an_authority_that_is_none_are_refused(cluster: Secured, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("x")
    file.chmod(0o600)
    named = {"DANBAO_KAFKA_USER": ADMIN, "DANBAO_KAFKA_PASSWORD_FILE": str(file)}
    for authority in ({}, {"DANBAO_KAFKA_CA": str(file)}, {"DANBAO_KAFKA_CA": str(tmp_path / "none")}):
        with pytest.raises(DanbaoError) as refused:
            access(cluster.bootstrap, named | authority)
        assert "PEM file" in refused.value.fix.en


# ---- the consumer gets an answer, whatever it may not do


def refusal_of(engine: Engine, who: Access, topic: str) -> str:
    """What ends a consumer that reads this topic."""
    with Running(consumer(engine, who, {topic: None})) as running:
        wait_until(lambda: not running.alive, "it hangs", ANSWER_S_MAX)
    assert isinstance(running.failure, DanbaoError)
    return str(running.failure)


@pytest.mark.parametrize(
    ("may", "group", "said"),
    [
        ([], True, "or none that we may read"),
        (["describe"], True, "TopicAuthorizationFailed"),
        (["read"], False, "GroupAuthorizationFailed"),
    ],
)
def test_a_consumer_that_may_not_read_gets_an_answer(scene: Scene, may: list[str], group: bool, said: str) -> None:
    user = f"reader{next(NUMBERS)}"
    allowed = [{"on": "topic", "name": scene.shared, "may": may}] if may else []
    allowed += [{"on": "group", "name": "danbao-orders", "may": ["read"]}] if group else []
    secured.let_in(scene.cluster, user)
    give(scene.cluster, rights_file([scene.a, scene.b], {"user": user, "grants": allowed}))
    assert said in refusal_of(scene.engine, as_user(scene.cluster, user), scene.shared)


def test_the_command_says_that_its_password_is_wrong(cluster: Secured, ledger_url: str, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(WRONG)
    file.chmod(0o600)
    environment = {"DANBAO_KAFKA_CA": cluster.ca, "DANBAO_KAFKA_USER": "danbao"}
    process = command(
        ledger_url, cluster.bootstrap, "--to-end", "--json", **environment, DANBAO_KAFKA_PASSWORD_FILE=str(file)
    )
    told = answer(process, 1)
    assert "hung up on danbao: it does not know this user, or not by this password" in told["error"]


# ---- the commands, as deploy/README.md goes through them


@dataclass(frozen=True)
class Desk:
    """Commands as one user after another."""

    cluster: Secured
    place: Path
    monkeypatch: pytest.MonkeyPatch

    def run(self, user: str, *arguments: str) -> Result:
        self.monkeypatch.setenv("DANBAO_KAFKA_USER", user)
        self.monkeypatch.setenv("DANBAO_KAFKA_PASSWORD_FILE", str(self.place / f"{user}.password"))
        return CliRunner().invoke(kafka_command.app, arguments)


@pytest.fixture
def desk(cluster: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setenv("DANBAO_LANG", "en")
    monkeypatch.setenv("DANBAO_KAFKA_BOOTSTRAP", cluster.bootstrap)
    monkeypatch.setenv("DANBAO_KAFKA_CA", cluster.ca)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "admin.password").write_text(ADMIN_PASSWORD)
    (tmp_path / "admin.password").chmod(0o600)
    return Desk(cluster, tmp_path, monkeypatch)


def write_rights(place: Path, platforms: str) -> str:
    file = place / "acls.yaml"
    packaged = Path(kafka_command.__file__).parents[2] / "deploy" / "kafka" / "acls.yaml"
    file.write_text(packaged.read_text().replace("platforms: []", f"platforms: {platforms}"))
    return str(file)


def test_an_operator_brings_a_platform_in_and_out_again(desk: Desk) -> None:
    platform = f"c{next(NUMBERS)}"
    file = write_rights(desk.place, f"[{platform}]")
    assert desk.run(ADMIN, "acls", "apply", file, "--dry-run").exit_code == 1
    applied = desk.run(ADMIN, "acls", "apply", file, "--yes")
    assert (applied.exit_code, applied.stdout.splitlines()[-1]) == (0, "Applied.")
    again = desk.run(ADMIN, "acls", "apply", file)
    assert (again.exit_code, again.stdout) == (0, "The rights are as the file says.\n")
    for user in ("danbao-operator", f"platform-{platform}"):
        added = desk.run(ADMIN, "users", "add", user)
        assert added.exit_code == 0, added.output
        assert (desk.place / f"{user}.password").stat().st_mode & 0o777 == 0o600
        assert (desk.place / f"{user}.password").read_text().strip() not in added.output
    made = desk.run("danbao-operator", "topics", "apply", "--platform", platform, "--yes")
    assert made.exit_code == 0, made.output
    password = (desk.place / f"platform-{platform}.password").read_text().strip()
    who = desk.cluster.access(f"platform-{platform}", password)
    send(who, f"orders.v1.{platform}", order("1", platform))
    taken = desk.run(ADMIN, "acls", "apply", write_rights(desk.place, "[]"), "--yes")
    assert f"User:platform-{platform}" in taken.stdout
    with pytest.raises(AuthorizationError):
        send(who, f"orders.v1.{platform}", order("2", platform))
    assert end_of(desk.cluster, f"orders.v1.{platform}") == 1


def test_the_operator_gives_no_rights_and_reads_and_deletes_nothing(desk: Desk) -> None:
    file = write_rights(desk.place, "[]")
    assert desk.run(ADMIN, "acls", "apply", file, "--yes").exit_code == 0
    secured.let_in(desk.cluster, "danbao-operator")
    who = as_user(desk.cluster, "danbao-operator")
    with pytest.raises(DanbaoError, match="ClusterAuthorizationFailed"), topics.connect(who) as admin:
        grants.look(admin)
    with pytest.raises(DanbaoError), topics.connect(who) as admin:
        grants.set_password(admin, "danbao", "mine")
    with pytest.raises(TopicAuthorizationFailedError):
        secured.read_without_group(who, TOPIC)
    with pytest.raises(DanbaoError, match="TopicAuthorizationFailed"), topics.connect(who) as admin:
        admin.delete_topics([TOPIC])


def test_rights_that_somebody_gave_by_the_way_are_shown_and_taken(desk: Desk) -> None:
    file = write_rights(desk.place, "[]")
    assert desk.run(ADMIN, "acls", "apply", file, "--yes").exit_code == 0
    wild = [
        secured.right("User:*", "orders.v1.a", "name", "write"),
        secured.right("User:mallory", "orders.", "prefix", "write"),
        secured.right("User:mallory", "*", "name", "read"),
    ]
    elsewhere = secured.right("User:shop", "carts.v1", "name", "write")
    with topics.connect(desk.cluster.access()) as admin:
        assert grants.apply(admin, set(), [*wild, elsewhere], []) == ([], [])
    found = desk.run(ADMIN, "acls", "apply", file, "--yes", "--json")
    assert found.exit_code == 0, found.output
    assert found.stdout.count('"too_many"') == len(wild)
    with topics.connect(desk.cluster.access()) as admin:
        left = grants.look(admin)
    assert elsewhere in left
    assert not set(wild) & left


def test_a_user_who_has_a_password_gets_another_only_when_asked_for(desk: Desk) -> None:
    user = f"twice{next(NUMBERS)}"
    assert desk.run(ADMIN, "users", "add", user).exit_code == 0
    old = (desk.place / f"{user}.password").read_text().strip()
    said = desk.run(ADMIN, "users", "add", user, "--file", "other")
    assert said.exit_code == 2
    assert not (desk.place / "other").exists()
    assert desk.run(ADMIN, "users", "add", user, "--file", f"{user}.password", "--replace").exit_code == 2
    with topics.connect(desk.cluster.access(user, old)):
        pass
    assert desk.run(ADMIN, "users", "add", user, "--file", "other", "--replace").exit_code == 0
    new = (desk.place / "other").read_text().strip()
    with topics.connect(desk.cluster.access(user, new)):
        pass
    assert (new != old, len(new) > 40) == (True, True)
    desk.monkeypatch.setattr(settings, "BOOTSTRAP_MS_MAX", 4_000)
    assert "password" in no_entry(desk.cluster.access(user, old)).what.en


def test_who_may_not_add_users_leaves_no_password_behind(desk: Desk) -> None:
    secured.let_in(desk.cluster, "danbao-operator")
    (desk.place / "danbao-operator.password").write_text(password_of("danbao-operator"))
    (desk.place / "danbao-operator.password").chmod(0o600)
    said = desk.run("danbao-operator", "users", "add", "mallory")
    assert said.exit_code == 1
    assert not (desk.place / "mallory.password").exists()
