"""The installed command `danbao`, run to its end on the ledger of a test.

In: the ledger's URL, a command line, the language. Out: exit code, stdout, stderr.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

DANBAO = Path(sys.executable).with_name("danbao")


class Command:
    """`danbao` in a directory, on a ledger."""

    def __init__(self, url: str, here: Path) -> None:
        self.url, self.here = url, here

    def __call__(
        self, *arguments: object, exit_code: int = 0, language: str = "en", stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run it; it must end with this exit code."""
        done = subprocess.run(
            [DANBAO, *map(str, arguments)],
            cwd=self.here,
            env=self._environment(language),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
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
        line = [DANBAO, *map(str, arguments)]
        return subprocess.run(
            line, cwd=self.here, env=self._environment("en"), stdout=subprocess.PIPE, check=True
        ).stdout

    def _environment(self, language: str) -> dict[str, str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("DANBAO_")}
        return clean | {"DANBAO_DATABASE_URL": self.url, "DANBAO_LANG": language}
