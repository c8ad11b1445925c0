"""The installed command `danbao` on the ledger of a test, started or run to its end.

In: the ledger's URL, a command line, the language. Out: a process; of what ran to its end exit code, stdout, stderr.

Tests start it hundreds of times, and most of its time would go into importing the same modules. So a process that has
imported those that do not look at the environment forks for each command (`forking.py`); the fork runs the installed
script from its first line in an environment and a directory of its own.
"""

import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

DANBAO = Path(sys.executable).with_name("danbao")
FORKING = Path(__file__).with_name("forking.py")
ANSWER_S = 120


@cache
def _forking() -> socket.socket:
    """Where to ask the process that forks; it ends when we do, for then nobody can ask it any more."""
    asking, asked = socket.socketpair(type=socket.SOCK_SEQPACKET)
    with asked:
        line = [sys.executable, str(FORKING), str(asked.fileno())]
        subprocess.Popen(line, stdin=subprocess.DEVNULL, pass_fds=[asked.fileno()])
    return asking


class Started:
    """A command that runs: what tests use of a `Popen`."""

    def __init__(self, arguments: Iterable[object], environment: Mapping[str, str], here: Path = Path()) -> None:
        """The command with this environment and no other, in a directory."""
        self.args = [str(DANBAO), *map(str, arguments)]
        self.returncode: int | None = None
        asked = json.dumps({"line": self.args, "environment": dict(environment), "here": str(here.absolute())})
        pipes = [os.pipe() for _ in range(3)]
        self._asking = _forking()  # kept: of two threads that ask first, each has a process of its own
        socket.send_fds(self._asking, [asked.encode()], [written for _, written in pipes])
        for _, written in pipes:
            os.close(written)
        out, err, told = (read for read, _ in pipes)
        self.stdout, self.stderr = os.fdopen(out), os.fdopen(err)
        self._told = os.fdopen(told, "rb", buffering=0)
        self.pid = self._next()

    def _next(self) -> int:
        [number] = struct.unpack("i", self._told.read(4))
        return int(number)

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, when it has ended."""
        if self.returncode is None:
            if not select.select([self._told], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = self._next()
        return self.returncode

    def poll(self) -> int | None:
        """Its exit code, if it has ended."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """All that it writes until it has ended; it is killed if it takes longer."""
        with ThreadPoolExecutor(2) as reading, self.stdout, self.stderr:
            out, err = reading.submit(self.stdout.read), reading.submit(self.stderr.read)
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
            return out.result(), err.result()


def answer(process: Started, code: int = 0, seconds: float = ANSWER_S) -> dict[str, Any]:
    """The one JSON object that a command with --json answers, when it has ended with this exit code."""
    out, err = process.communicate(timeout=seconds)
    assert process.returncode == code, (out, err)
    found: dict[str, Any] = json.loads(out)
    return found


def kill(pids: Iterable[int]) -> None:
    """kill −9 of these processes, of which some may end by themselves as they see others go."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def clean(environment: Mapping[str, str], language: str) -> dict[str, str]:
    """This process's environment with nothing of ours in it but what is given."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("DANBAO_")}
    return others | environment | {"DANBAO_LANG": language}


def run(
    arguments: Iterable[object], here: Path, environment: Mapping[str, str], language: str
) -> subprocess.CompletedProcess[str]:
    """The command, run to its end in a directory, with nothing of ours in the environment but this."""
    started = Started(arguments, clean(environment, language), here)
    out, err = started.communicate()
    return subprocess.CompletedProcess(started.args, started.wait(), out, err)


class Command:
    """`danbao` in a directory, on a ledger."""

    def __init__(self, url: str, here: Path) -> None:
        self.url, self.here = url, here

    def __call__(
        self, *arguments: object, exit_code: int = 0, language: str = "en"
    ) -> subprocess.CompletedProcess[str]:
        """Run it; it must end with this exit code."""
        done = run(arguments, self.here, {"DANBAO_DATABASE_URL": self.url}, language)
        assert done.returncode == exit_code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def start(self, *arguments: object) -> Started:
        """It runs."""
        return Started(arguments, clean({"DANBAO_DATABASE_URL": self.url}, "en"), self.here)

    def plain(self, *arguments: object, exit_code: int = 0) -> dict[str, Any]:
        """The one JSON object that it answers a machine with."""
        found: dict[str, Any] = json.loads(self(*arguments, "--json", exit_code=exit_code).stdout)
        return found

    def refuses(self, *arguments: object, exit_code: int = 2) -> str:
        """What it says was wrong, and what to do, in one line."""
        told = self.plain(*arguments, exit_code=exit_code)
        return f"{told['error']} {told['fix']}"

    def raw(self, *arguments: object) -> bytes:
        """What it writes to stdout, byte for byte."""
        environment = clean({"DANBAO_DATABASE_URL": self.url}, "en")
        line = [DANBAO, *map(str, arguments)]
        return subprocess.run(line, cwd=self.here, env=environment, stdout=subprocess.PIPE, check=True).stdout
