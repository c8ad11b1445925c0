"""The process that `command.py` lets fork: it has imported what `danbao` needs, but not its shell.

In: the number of a socket; on it a command line, an environment and a directory as JSON, with the ends of three pipes:
stdout, stderr, and where to tell. Out: there, the number of the fork's process at once, and its exit code at its end.
When nobody is left who could ask, it kills what still runs, and ends.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import struct
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

LIBRARIES = (
    *("annotated_types", "cryptography.hazmat.primitives.asymmetric.ed25519", "kafka", "orjson", "platformdirs"),
    *("psycopg", "pydantic.main", "pydantic.type_adapter", "pydantic.types", "rich._emoji_codes", "rich.console"),
    *("rich.progress", "rich.table", "sqlalchemy.dialects.postgresql.psycopg", "stdnum.cn.uscc", "typer", "yaml"),
    "zstandard",
)
# Ours that look at neither clock nor environment: test_tidy.py sees to it.
PURE = ("connect", "explain", "record", "rejections", "server", "settle")
REQUEST_BYTES_MAX = 1 << 20


def forked(asking: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Forks for each that asks; returns in the forks, with what was asked, and stdout and stderr."""
    living = dict[int, tuple[int, int]]()
    while True:
        for ready in select.select([asking, *living], [], [])[0]:
            if ready in living:
                pid, told = living.pop(ready)
                tell(told, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                os.close(told)
                os.close(ready)
                continue
            asked, ends, *_ = socket.recv_fds(asking, REQUEST_BYTES_MAX, 3)
            if not asked:
                for pid, _ in living.values():
                    os.kill(pid, signal.SIGKILL)
                sys.exit()
            *written, told = ends
            pid = os.fork()
            if pid == 0:
                return json.loads(asked), written
            living[os.pidfd_open(pid)] = pid, told
            tell(told, pid)
            for end in written:
                os.close(end)


def tell(told: int, number: int) -> None:
    """Nobody need listen."""
    with suppress(BrokenPipeError):
        os.write(told, struct.pack("i", number))


kept = dict[str, Any]()


@atexit.register  # before anything else does, to be asked last
def leave() -> None:
    """Hide what was imported before the fork from Python's end: to take it apart costs more than most commands do."""
    for name in kept.keys() - {"__main__", "builtins", "sys"}:
        sys.modules.pop(name, None)


for name in (*LIBRARIES, *(f"ledger.store.{part}" for part in PURE)):
    importlib.import_module(name)
assert not {"ledger.cli", "consumers", "typer.rich_utils"} & {*sys.modules}  # these look at the environment
kept |= sys.modules
kept["kept"] = kept  # what refers to itself and is frozen outlives even this module
gc.freeze()
found, ends = forked(socket.socket(fileno=int(sys.argv[1])))
for number, end in enumerate(ends, 1):
    os.dup2(end, number)
os.closerange(3, os.sysconf("SC_OPEN_MAX"))
os.chdir(found["here"])
os.environ.clear()
os.environ.update(found["environment"])
sys.argv = found["line"]
sys.path[0] = str(Path(sys.argv[0]).parent)
runpy.run_path(sys.argv[0], run_name="__main__")
