"""Worker processes, watched. In: a command and how many of it. Out: they run until told to stop, or until all are done.

A worker that dies is started again, after a pause that doubles while it keeps dying (BACK_OFF_S). One that ends by
itself is done; one that says that the question was wrong (exit code 2) ends them all, since no restart would help.

The stdin of every worker is a pipe into which nobody writes and of which this process alone holds the other end: it
ends when this process does, however that comes to pass, and a worker that watches it never outlives the watcher.
"""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from time import monotonic
from typing import Any

from ledger.errors import BadQuestion, DanbaoError
from schemas.both import Both

BACK_OFF_S = (0.5, 30.0)
STEADY_S = 60.0  # a worker that lived so long begins again with the shortest pause
DEATHS_MAX = 5  # in a row, of a worker that was to run to an end
STOP_S = 60.0
LOOK_S = 0.1
WRONG_QUESTION = 2


@dataclass(slots=True)
class Worker:
    """One seat: its process, or when the next one starts there."""

    number: int
    process: subprocess.Popen[bytes] | None = None
    began: float = 0.0
    starts_at: float = 0.0
    deaths: int = 0  # in a row
    restarts: int = 0
    done: bool = False


@dataclass(slots=True)
class Workers:
    """`count` processes of one command. `ends`: whether it is expected to end by itself; `more`: what the command of
    one seat has besides; `on_event`: who hears the same as `on_notice`, as a name and facts."""

    command: Sequence[str]
    count: int
    ends: bool
    on_notice: Callable[[Both], None]
    stop: Event = field(default_factory=Event)
    more: Callable[[Worker], Sequence[str]] = lambda seat: ()
    on_event: Callable[[str, dict[str, Any]], None] = lambda name, facts: None
    _seats: list[Worker] = field(default_factory=list)

    def run(self, on_look: Callable[[], None] = lambda: None) -> None:
        """Watch until all are done or `stop` is set; `on_look` is called ten times a second."""
        self._seats = [Worker(number) for number in range(1, self.count + 1)]
        with _hand() as stdin:
            try:
                while not self.stop.is_set() and not all(seat.done for seat in self._seats):
                    for seat in self._seats:
                        self._look_at(seat, stdin)
                    on_look()
                    self.stop.wait(LOOK_S)
            finally:
                self._end()

    def _look_at(self, seat: Worker, stdin: int) -> None:
        if seat.done:
            return
        if seat.process is None:
            if monotonic() >= seat.starts_at:
                seat.process = subprocess.Popen([*self.command, *self.more(seat)], stdin=stdin)
                seat.began = monotonic()
        elif (code := seat.process.poll()) is not None:
            seat.process = None
            self._ended(seat, code)

    def _ended(self, seat: Worker, code: int) -> None:
        if code == 0:
            seat.done = True
            return
        if code == WRONG_QUESTION:
            raise BadQuestion(
                Both("The workers cannot run as asked.", "工作进程无法按要求运行。"),
                Both("Their message stands above.", "原因见上文。"),
            )
        seat.deaths = 1 if monotonic() - seat.began > STEADY_S else seat.deaths + 1
        if self.ends and seat.deaths >= DEATHS_MAX:
            raise DanbaoError(
                Both(
                    f"Worker {seat.number} ended {seat.deaths} times.",
                    f"工作进程 {seat.number} 已退出 {seat.deaths} 次。",
                ),
                Both("Its message stands above; what is booked stays booked.", "原因见上文；已入账的不受影响。"),
            )
        pause_s = min(BACK_OFF_S[0] * 2 ** (seat.deaths - 1), BACK_OFF_S[1])
        seat.starts_at = monotonic() + pause_s
        seat.restarts += 1
        facts = {"process": seat.number, "exit_code": code, "pause_ms": round(pause_s * 1000), "times": seat.restarts}
        self.on_event("worker_restarted", facts)
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        self.on_notice(
            Both(
                f"Worker {seat.number} ended ({how}); it starts again in {pause_s:.1f} s.",
                f"工作进程 {seat.number} 已退出（{how}），{pause_s:.1f} 秒后重新启动。",
            )
        )

    def _end(self) -> None:
        """Ask all to stop, within one batch; end those that do not."""
        alive = [seat.process for seat in self._seats if seat.process is not None and seat.process.poll() is None]
        for process in alive:
            process.send_signal(signal.SIGTERM)
        deadline = monotonic() + STOP_S
        for process in alive:
            try:
                process.wait(max(0.1, deadline - monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def _hand() -> Iterator[int]:
    """The end of a pipe to be read, while the other is held here and by nobody else."""
    read, held = os.pipe()
    try:
        yield read
    finally:
        os.close(read)
        os.close(held)
