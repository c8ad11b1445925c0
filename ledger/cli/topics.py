"""danbao kafka topics: make the topics of a Kafka what a file says, and show them.

In: a topics file (default: `deploy/topics.yaml`), the Kafka of `DANBAO_KAFKA_BOOTSTRAP` or of this home.
Out: a table of differences, and after a yes the changes. Exit code 0 when nothing differs any more, else 1.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ledger.cli import common, usage
from ledger.cli.common import say
from ledger.errors import BadQuestion
from schemas.both import Both
from schemas.codes import PLATFORM_ID
from schemas.topics import DAY_MS, REPLICAS_MAX, Topic, TopicsFile

if TYPE_CHECKING:
    from consumers.kafka.plan import Difference, Found
    from consumers.kafka.settings import Access

MIB = 1024 * 1024
TOPICS_FILE = Path(__file__).parents[2] / "deploy" / "topics.yaml"
HOW_TO = Both("See deploy/topics.yaml for a file as it should be.", "写法可参照 deploy/topics.yaml。")
PARTITIONS_MOVE = Both(
    "More partitions: keys move, so an order's later events may come by another partition than its earlier ones."
    " The ledger bears that.",
    "增加分区后键会重新分布，同一订单的后续事件可能进入另一分区；账簿能够正确处理。",
)
EACH_PLATFORMS = ("orders.v1", "orders.rejected.v1")
CANNOT = {
    "fewer_partitions": Both(
        "Kafka takes no partition away. Keep the number that is there in the file, or give the topic a new name.",
        "Kafka 不能减少分区。请在文件中保留现有数量，或改用新的主题名。",
    ),
    "other_replication": Both(
        "The copies of a topic that exists are moved with Kafka's own kafka-reassign-partitions.sh; then apply again."
        " Or take it as it is with --replication.",
        "已有主题的副本须用 Kafka 自带的 kafka-reassign-partitions.sh 调整，再重新应用；"
        "也可用 --replication 接受现状。",
    ),
}

app = typer.Typer(
    cls=usage.Group, no_args_is_help=True, help=say("Topics: apply a file, show.", "主题：按文件应用、查看。")
)


@app.command(cls=usage.Command)
@common.command("显示主题与文件的差异，询问后按文件更改；重复执行不再有更改。\n\n文件中没有的主题不受影响。")
def apply(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help=say("Topics file; default: deploy/topics.yaml.", "主题文件；默认为 deploy/topics.yaml。"),
        ),
    ] = None,
    replication: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=REPLICAS_MAX,
            help=say(
                "At most so many copies; default: as many as the cluster has brokers.",
                "副本数上限；默认为集群的 broker 数。",
            ),
        ),
    ] = None,
    platform: Annotated[
        list[str] | None,
        typer.Option(
            help=say(
                "Also the topics of this platform's own: orders.v1.NAME, orders.rejected.v1.NAME. May be repeated.",
                "同时包括该平台的专用主题 orders.v1.名称 与 orders.rejected.v1.名称；可重复。",
            )
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help=say("Do not ask.", "不再询问。"))] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help=say("Only show.", "仅显示差异。"))] = False,
    as_json: common.AsJson = False,
) -> None:
    """Show how the topics differ from the file, ask, and make them so. A second time changes nothing.

    Topics that the file does not name are left alone.

    Example: danbao kafka topics apply --dry-run
    """
    from consumers.kafka import plan
    from consumers.kafka import topics as kafka_topics

    wanted = _of_platforms(_read(file or TOPICS_FILE), platform or [])
    with kafka_topics.connect(common.kafka_access()) as admin:
        fitting = plan.fitting(wanted, _copies(replication, kafka_topics.brokers(admin)))
        _say_what_was_lowered(wanted, fitting)
        found = plan.differences(fitting, kafka_topics.look(admin, [topic.name for topic in fitting]))
        if not as_json:
            _print_differences(found)
        left = found
        if any(one.kind.can_be_mended for one in found) and not dry_run and (yes or common.confirmed()):
            left = kafka_topics.apply(admin, fitting, found)
            if not as_json:
                _print_outcome(left)
    if as_json:
        common.print_json({"differences": _as_values(found), "left": _as_values(left)})
    if left:
        raise typer.Exit(1)


@app.command(cls=usage.Command)
@common.command("显示各个主题（Kafka 自身的除外），以及主题文件所设的各项。")
def show(as_json: common.AsJson = False) -> None:
    """Show every topic but Kafka's own, with what a topics file sets.

    Example: danbao kafka topics show
    """
    from consumers.kafka import topics as kafka_topics

    with kafka_topics.connect(common.kafka_access()) as admin:
        found = kafka_topics.look(admin, kafka_topics.every_name(admin))
    if as_json:
        common.print_json({"topics": [{"name": name, **asdict(topic)} for name, topic in sorted(found.items())]})
    elif found:
        _print_topics(found)
    else:
        common.out.print(say("There are no topics.", "没有主题。"))


def make_missing(access: "Access") -> None:
    """Make those topics of deploy/topics.yaml that the Kafka lacks; what is there stays as it is."""
    from consumers.kafka import plan
    from consumers.kafka import topics as kafka_topics

    with kafka_topics.connect(access) as admin:
        fitting = plan.fitting(_read(TOPICS_FILE), kafka_topics.brokers(admin))
        there = kafka_topics.look(admin, [topic.name for topic in fitting])
        missing = [topic for topic in fitting if topic.name not in there]
        kafka_topics.apply(admin, missing, plan.differences(missing, there))


def _read(path: Path) -> tuple[Topic, ...]:
    from ledger import yamlfile

    named = Both("Name a topics file such as deploy/topics.yaml.", "请给出主题文件，如 deploy/topics.yaml。")
    return yamlfile.parse(common.read_file(path, named), path.name, TopicsFile, HOW_TO).topics


def _of_platforms(topics: Sequence[Topic], platforms: Sequence[str]) -> tuple[Topic, ...]:
    """The topics, and after them those of each platform's own, made as the ones that all share are."""
    for platform in platforms:
        if not re.fullmatch(PLATFORM_ID, platform):
            raise BadQuestion(
                Both(f"{platform!r} is no platform's id.", f"{platform!r} 不是平台标识。"),
                Both("See: danbao platforms list", "参见：danbao platforms list"),
            )
    shared = {topic.name: topic for topic in topics}
    if platforms and (absent := [name for name in EACH_PLATFORMS if name not in shared]):
        raise BadQuestion(
            Both(
                f"The file has no {', '.join(absent)}, which a platform's own topic is made like.",
                f"文件中没有 {'、'.join(absent)}，无法据以创建平台的专用主题。",
            ),
            HOW_TO,
        )
    own = (
        shared[name].model_copy(update={"name": f"{name}.{platform}"})
        for platform in platforms
        for name in EACH_PLATFORMS
    )
    return (*topics, *(topic for topic in own if topic.name not in shared))


def _copies(asked: int | None, brokers: int) -> int:
    """How many copies a topic may have."""
    if asked is not None and asked > brokers:
        raise BadQuestion(
            Both(
                f"--replication {asked}, but the cluster has {brokers} broker(s).",
                f"--replication 为 {asked}，而集群只有 {brokers} 个 broker。",
            ),
            Both(f"Give {brokers} at most.", f"至多为 {brokers}。"),
        )
    return asked or brokers


def _say_what_was_lowered(wanted: Sequence[Topic], fitting: Sequence[Topic]) -> None:
    """Fewer copies than the file says is a choice that a reader must see; topics with the same one in a line."""
    lowered: dict[str, list[str]] = {}
    for before, after in zip(wanted, fitting, strict=True):
        if before != after:
            was, now = before.settings.min_insync_replicas, after.settings.min_insync_replicas
            change = f"replication {before.replication} → {after.replication}, min.insync.replicas {was} → {now}"
            lowered.setdefault(change, []).append(before.name)
    for change, names in lowered.items():
        common.notice(
            Both(
                f"For development only, fewer copies than the file says: {change} ({', '.join(names)})",
                f"副本数低于文件所列，仅供开发使用：{change}（{'、'.join(names)}）",
            )
        )


def _as_values(differences: "Sequence[Difference]") -> list[dict[str, Any]]:
    return [asdict(one) for one in differences]


def _print_differences(found: "Sequence[Difference]") -> None:
    if not found:
        common.out.print(say("The topics are as the file says.", "主题与文件一致。"))
        return
    table = Table(box=None)
    for heading in (say("topic", "主题"), say("setting", "设置"), say("is", "现状"), say("should be", "应为")):
        table.add_column(heading)
    above = ""
    for one in found:
        name, above = ("" if one.topic == above else one.topic), one.topic
        table.add_row(name, one.setting, _readable(one.setting, one.found), _readable(one.setting, one.wanted))
    common.out.print(table)
    kinds = {one.kind for one in found}
    if "more_partitions" in kinds:
        common.notice(PARTITIONS_MOVE)
    _say_what_cannot_be_done(found)


def _say_what_cannot_be_done(found: "Sequence[Difference]") -> None:
    for one in found:
        if one.kind in CANNOT:
            common.err.print(f"{one.topic}, {one.setting}: {say(*CANNOT[one.kind])}", markup=False, style="yellow")


def _print_outcome(left: "Sequence[Difference]") -> None:
    if not left:
        common.out.print(say("Applied.", "已应用。"))
    else:
        common.out.print(say(f"{len(left)} difference(s) left.", f"尚余 {len(left)} 处差异。"))


def _print_topics(found: "dict[str, Found]") -> None:
    table = Table(box=None)
    table.add_column(say("topic", "主题"))
    table.add_column(say("setting", "设置"))
    table.add_column(say("is", "现状"))
    for name, topic in sorted(found.items()):
        for number, (setting, value) in enumerate(topic.by_name.items()):
            table.add_row("" if number else name, setting, _readable(setting, value))
    common.out.print(table)


def _readable(setting: str, value: str | None) -> str:
    """Kafka's value; whole days and MiB in words beside it."""
    if value is None:
        return "–"
    for ending, unit, word in ((".ms", DAY_MS, say("days", "天")), (".message.bytes", MIB, "MiB")):
        if setting.endswith(ending) and value.isdigit() and int(value) >= unit and int(value) % unit == 0:
            return f"{value} ({int(value) // unit} {word})"
    return value
