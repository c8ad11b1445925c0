"""What the README says in its first ten minutes works as it is written, in both languages.

In: the commands of README.md and README.zh.md, on a fresh home. Out: each ends with the exit code that the text says.
"""

import json
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import run

ROOT = Path(__file__).parents[2]
READMES = {"en": ROOT / "README.md", "zh": ROOT / "README.zh.md"}
SECTIONS = {"en": "## The first ten minutes", "zh": "## 上手十分钟"}
DOUBTFUL = 3


def commands(language: str) -> list[str]:
    """The commands of the section, without what is said beside them."""
    text = READMES[language].read_text("utf-8")
    section = text.partition(SECTIONS[language])[2].partition("\n## ")[0]
    blocks = re.findall(r"^```sh\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    return [line.partition(" #")[0].strip() for line in "".join(blocks).splitlines()]


@pytest.fixture(scope="module")
def home(server_url: str) -> Iterator[Path]:
    """A state directory that the server's user can reach; asked for after `server_url`, which can skip."""
    directory = Path(tempfile.mkdtemp(prefix="danbao-readme-"))
    directory.chmod(0o755)
    yield directory / "home"
    shutil.rmtree(directory)


def type_in(home: Path, here: Path, line: str) -> subprocess.CompletedProcess[str]:
    """A command as it is written; what it writes to /tmp goes to a directory of the test."""
    words = shlex.split(line.replace("/tmp/", f"{here}/"))
    if words[0] == "danbao":
        return run(words[1:], here, {"DANBAO_HOME": str(home)}, "en")
    return subprocess.run(words, capture_output=True, text=True, check=False)


def test_both_languages_give_the_same_commands() -> None:
    assert commands("en") == commands("zh")
    assert len(commands("en")) > 12


def test_every_command_works_on_what_make_run_leaves(home: Path, tmp_path: Path) -> None:
    first = type_in(home, tmp_path, "danbao run")
    assert first.returncode == 0, first.stderr
    assert "An injury, verified" in first.stdout
    [again] = re.findall(r"^  (danbao windows .*)$", first.stdout, re.MULTILINE)
    assert type_in(home, tmp_path, again).returncode == 0
    shown = {}
    for line in commands("en"):
        if line.startswith("echo"):
            continue
        done = shown[line] = type_in(home, tmp_path, line)
        assert done.returncode == (DOUBTFUL if line.startswith("danbao windows") else 0), f"{line}\n{done.stderr}"
    [head] = [json.loads(done.stdout) for line, done in shown.items() if line.startswith("head")]
    [explain] = [line for line in shown if line.startswith("danbao explain")]
    [windows] = [line for line in shown if line.startswith("danbao windows")]
    assert head["subject"] in explain
    assert head["data"]["worker_id"] in windows
    assert head["time"][:14] in windows
