"""The installed command `danbao`, run to its end on the ledger of a test.

In: the ledger's URL, a command line, the language. Out: exit code, stdout, stderr.

Tests run it hundreds of times, and three quarters of its time would go into importing the same libraries. So a process
that has imported them, and nothing of ours, forks for each command; the fork runs the installed script from its first
line in an environment and a directory of its own. What depends on signals, pipes and terminals starts a process anew.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

DANBAO = Path(sys.executable).with_name("danbao")

FORKING = """
import gc, json, os, runpy, sys
import cryptography.hazmat.primitives.asymmetric.ed25519, orjson, platformdirs, psycopg, rich.console, rich.table
import sqlalchemy.dialects.postgresql.psycopg, stdnum.cn.uscc, typer, yaml, zstandard
from pydantic import BaseModel, TypeAdapter
assert not {"ledger", "consumers", "schemas", "typer.rich_utils"} & {*sys.modules}  # these look at the environment
gc.freeze()
for line in open(int(sys.argv[1])):
    asked = json.loads(line)
    child = os.fork()
    if child == 0:
        break
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
else:
    sys.exit()
os.chdir(asked["here"])
os.environ.clear()
os.environ.update(asked["environment"])
for number, file in enumerate((os.devnull, asked["out"], asked["err"])):
    os.dup2(os.open(file, os.O_RDWR), number)
sys.argv = asked["line"]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@cache
def _forking() -> tuple[subprocess.Popen[str], int]:
    """The process that forks, and where to ask it; it ends when we do, for then nobody can ask it any more."""
    read_end, write_end = os.pipe()
    try:
        line = [sys.executable, "-c", FORKING, str(read_end)]
        ends = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "pass_fds": [read_end]}
        return subprocess.Popen(line, text=True, **ends), write_end
    finally:
        os.close(read_end)


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
    arguments: list[str], here: Path, environment: Mapping[str, str], language: str
) -> subprocess.CompletedProcess[str]:
    """The command, run to its end in a directory, with nothing of ours in the environment but this."""
    line = [str(DANBAO), *arguments]
    process, write_end = _forking()
    with tempfile.NamedTemporaryFile("r") as out, tempfile.NamedTemporaryFile("r") as err:
        asked = {"here": str(here), "environment": clean(environment, language), "line": line}
        os.write(write_end, json.dumps(asked | {"out": out.name, "err": err.name}).encode() + b"\n")
        assert process.stdout
        return subprocess.CompletedProcess(line, int(process.stdout.readline()), out.read(), err.read())


class Command:
    """`danbao` in a directory, on a ledger."""

    def __init__(self, url: str, here: Path) -> None:
        self.url, self.here = url, here

    def __call__(
        self, *arguments: object, exit_code: int = 0, language: str = "en"
    ) -> subprocess.CompletedProcess[str]:
        """Run it; it must end with this exit code."""
        done = run([*map(str, arguments)], self.here, {"DANBAO_DATABASE_URL": self.url}, language)
        assert done.returncode == exit_code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

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
