"""danbao chaos: a seeded campaign of faults against the stream consumer, with the ledger compared after each run.

In: a seed and how many runs; run number n is the history of seed + n. Out: exit code 0 when every ledger was the one
of a plain dictionary; 1 with the seed and the shortest history where one was not. Broker and database are its own and
thrown away, unless DANBAO_KAFKA_BOOTSTRAP and DANBAO_DATABASE_URL name others; a named broker is not killed.
"""

import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ledger.cli import common
from ledger.cli.common import say

if TYPE_CHECKING:
    from consumers.chaos.plan import History
    from consumers.chaos.world import World

TRIES_TO_SHORTEN = 12
THROWAWAY = {"fsync": "off", "full_page_writes": "off"}


@common.command(
    "以随机种子生成故障演练：任意报送、进程被杀、数据库连接中断、Kafka 重启、位移回拨，"
    "每轮之后将账簿与纯字典模型核对。\n\n"
    "第 n 轮为种子 seed + n 的历史。退出码 1：某轮不符，并给出其种子与最短历史。"
)
def chaos(
    seed: Annotated[int, typer.Option(help=say("Of the first run.", "第一轮的种子。"), min=0)] = 1,
    runs: Annotated[int, typer.Option(help=say("How many runs.", "轮数。"), min=1, max=100_000)] = 20,
    at_once: Annotated[int, typer.Option(help=say("Runs at a time.", "同时进行的轮数。"), min=1, max=32)] = 4,
    as_json: common.AsJson = False,
) -> None:
    """Let random faults loose on the stream consumer, and compare each ledger with a plain dictionary.

    Run number n is the history of seed + n. Exit code 1 when a ledger differs, with its seed and shortest history.

    Example: danbao chaos --seed 7 --runs 50
    """
    from consumers.chaos import plan
    from consumers.loop import STEPS

    started = perf_counter()
    histories = {one: plan.history(one, STEPS) for one in range(seed, seed + runs)}
    with _world() as world:
        failed = _first_failure(world, histories, at_once)
        result: dict[str, Any] = {"seed": seed, "runs": runs, "failed": None}
        if failed is not None:
            number, faults = failed
            shortest = plan.shortest(histories[number], lambda shorter: bool(world.run(shorter)), TRIES_TO_SHORTEN)
            result["failed"] = {"seed": number, "faults": faults, "history": [plan.told(step) for step in shortest]}
    result["seconds"] = round(perf_counter() - started, 1)
    if as_json:
        common.print_json(result)
    else:
        _show(result)
    if failed is not None:
        raise typer.Exit(1)


def _first_failure(world: "World", histories: "dict[int, History]", at_once: int) -> tuple[int, list[str]] | None:
    """The first run whose ledger differs. A broker that dies is seen by all, so those runs come alone and last."""
    from consumers.chaos import plan

    alone = {seed for seed, history in histories.items() if plan.bounces(history)}
    with common.progress(len(histories)) as advance, ThreadPoolExecutor(at_once) as pool:
        together = [seed for seed in histories if seed not in alone]
        for seed, faults in zip(together, pool.map(lambda one: world.run(histories[one]), together), strict=True):
            advance(1)
            if faults:
                pool.shutdown(cancel_futures=True)
                return seed, faults
        for seed in sorted(alone):
            if faults := world.run(histories[seed]):
                return seed, faults
            advance(1)
    return None


@contextmanager
def _world() -> "Iterator[World]":
    """Where the runs take place, on servers of their own where none is named."""
    from consumers.chaos.world import World
    from consumers.kafka import broker
    from consumers.kafka.settings import Access, access
    from ledger.store import scratch, server

    named_database, named_broker = os.environ.get("DANBAO_DATABASE_URL"), os.environ.get("DANBAO_KAFKA_BOOTSTRAP")
    word = f"danbao_chaos_{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix="danbao-chaos-") as text:
        home = Path(text)
        home.chmod(0o755)  # as root the database runs as another user
        with ExitStack() as own:
            url = named_database or own.enter_context(server.running(home / "home", common.notice, THROWAWAY))
            ledgers = own.enter_context(scratch.Scratch(url, word))
            if named_broker:
                yield World.of(ledgers, access(named_broker), None, word)
            else:
                cluster = own.enter_context(broker.running(home / "kafka", notice=common.notice))
                yield World.of(ledgers, Access(cluster.bootstrap), cluster, word)


def _show(result: dict[str, Any]) -> None:
    failed = result["failed"]
    if failed is None:
        text = say(
            f"{result['runs']} runs, every ledger right, {result['seconds']} s",
            f"共 {result['runs']} 轮，账簿全部相符，用时 {result['seconds']} 秒",
        )
        common.out.print(text)
        return
    common.out.print(
        say(
            f"Seed {failed['seed']} fails. Again: danbao chaos --seed {failed['seed']} --runs 1",
            f"种子 {failed['seed']} 不符。重现：danbao chaos --seed {failed['seed']} --runs 1",
        )
    )
    for line in (*failed["faults"], "", *failed["history"]):
        common.out.print(line, markup=False, soft_wrap=True)
