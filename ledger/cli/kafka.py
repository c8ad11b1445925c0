"""danbao kafka: a Kafka of this home, for development and tests; topics, rights and users of any Kafka.

In: `DANBAO_HOME`, `DANBAO_KAFKA_BOOTSTRAP`. Out: exit code 0 up, down, answering; 1 not.
"""

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ledger.cli import acls, common, topics, usage, users
from ledger.cli.common import say
from ledger.errors import DanbaoError
from schemas.both import Both

if TYPE_CHECKING:
    from consumers.kafka.broker import Cluster, State

app = typer.Typer(
    cls=usage.Group,
    no_args_is_help=True,
    help=say("Kafka: one of this home; topics, rights and users of any.", "Kafka：本机 Kafka；主题、权限与用户。"),
)
app.add_typer(topics.app, name="topics")
app.add_typer(acls.app, name="acls")
app.add_typer(users.app, name="users")


@app.command(cls=usage.Command)
@common.command(
    "启动 DANBAO_HOME 中的本机 Kafka，已在运行则直接沿用；它一直运行，直到 `danbao kafka down`。\n\n"
    '需要 Java 17；首次启动还需要 Maven。标准输出供 shell 执行：eval "$(danbao kafka up)"'
)
def up(
    brokers: Annotated[
        int | None,
        typer.Option(
            help=say(
                "1, or 3 to see one of them fail. Default: as it was made, else 1.",
                "1 个；或 3 个，可演练其中一个故障。默认沿用创建时的数量，否则为 1。",
            ),
            metavar="1|3",
        ),
    ] = None,
    as_json: common.AsJson = False,
) -> None:
    """Start the Kafka of this home, or take the one that runs; it stays until `danbao kafka down`.

    Needs Java 17 and, once, Maven. What is printed on stdout is for the shell: eval "$(danbao kafka up)"

    Example: danbao kafka up --brokers 3
    """
    from consumers.kafka import broker

    cluster = broker.up(common.kafka_home(), brokers, broker.NOTHING, common.notice)
    if as_json:
        common.print_json(_described(cluster, broker.states(cluster)))
        return
    common.notice(
        Both(
            f"Kafka answers at {cluster.bootstrap}; its records lie in {cluster.directory}.",
            f"Kafka 已就绪：{cluster.bootstrap}；其记录位于 {cluster.directory}。",
        )
    )
    _warn_of_another(cluster.bootstrap)
    common.out.print(f"export DANBAO_KAFKA_BOOTSTRAP={cluster.bootstrap}", soft_wrap=True)


@app.command(cls=usage.Command)
@common.command("停止本机 Kafka；其中的记录保留。")
def down(as_json: common.AsJson = False) -> None:
    """End the Kafka of this home; its records stay.

    Example: danbao kafka down
    """
    from consumers.kafka import broker

    cluster = broker.find(common.kafka_home(), common.notice)
    ended = cluster.stop() if cluster else []
    if as_json:
        common.print_json({"directory": str(common.kafka_home()), "ended": ended})
    elif ended:
        common.out.print(
            say(
                f"Ended {len(ended)} broker(s); the records stay in {common.kafka_home()}.",
                f"已停止 {len(ended)} 个 broker；记录保留在 {common.kafka_home()}。",
            ),
            soft_wrap=True,
            markup=False,
        )
    else:
        common.out.print(say("No Kafka of this home runs.", "本机 Kafka 没有在运行。"))
    if cluster and os.environ.get("DANBAO_KAFKA_BOOTSTRAP") == cluster.bootstrap:
        common.notice(
            Both(
                "This shell still names it, and commands would wait for it: unset DANBAO_KAFKA_BOOTSTRAP",
                "当前终端仍指向它，命令会等待其响应：unset DANBAO_KAFKA_BOOTSTRAP",
            )
        )


@app.command(cls=usage.Command)
@common.command("显示本机 Kafka 的各个 broker。全部正常时退出码为 0，否则为 1。")
def status(as_json: common.AsJson = False) -> None:
    """Show the brokers of this home. Exit code 0 when all of them answer, else 1.

    Example: danbao kafka status
    """
    from consumers.kafka import broker

    cluster = broker.find(common.kafka_home(), common.notice)
    if cluster is None:
        raise DanbaoError(
            Both(f"There is no Kafka in {common.kafka_home()}.", f"{common.kafka_home()} 中没有 Kafka。"),
            Both("Make one: danbao kafka up", "新建一个：danbao kafka up"),
        )
    states = broker.states(cluster)
    if as_json:
        common.print_json(_described(cluster, states))
    else:
        _print(cluster, states)
        _warn_of_another(cluster.bootstrap)
    if not all(state.answers for state in states):
        raise typer.Exit(1)


def _described(cluster: "Cluster", states: "list[State]") -> dict[str, Any]:
    return {
        "bootstrap": cluster.bootstrap,
        "directory": str(cluster.directory),
        "brokers": [
            {
                "node_id": state.broker.node_id,
                "address": state.broker.address,
                "pid": state.pid,
                "answers": state.answers,
                "log": str(state.broker.log),
            }
            for state in states
        ],
    }


def _print(cluster: "Cluster", states: "list[State]") -> None:
    table = Table(box=None)
    for heading in (say("broker", "编号"), say("address", "地址"), say("process", "进程"), say("state", "状态"), ""):
        table.add_column(heading)
    for state in states:
        word = say("does not run", "未运行")
        if state.pid is not None:
            word = say("answers", "正常") if state.answers else say("runs, does not answer", "运行中，无响应")
        pid = "–" if state.pid is None else str(state.pid)
        table.add_row(str(state.broker.node_id), state.broker.address, pid, word, str(state.broker.log))
    common.out.print(table)


def _warn_of_another(bootstrap: str) -> None:
    """Commands follow the environment; say so when it leads elsewhere."""
    named = os.environ.get("DANBAO_KAFKA_BOOTSTRAP", "").strip()
    if named and named != bootstrap:
        common.notice(
            Both(
                f"Commands of this shell use another Kafka: DANBAO_KAFKA_BOOTSTRAP={named}",
                f"当前 shell 中的命令使用另一个 Kafka：DANBAO_KAFKA_BOOTSTRAP={named}",
            )
        )
