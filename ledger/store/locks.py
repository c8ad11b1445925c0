"""File locks that the kernel drops with the process that held them, and patience for those who wait.

In: paths, and where to say that something takes long. Out: descriptors that are locked, or not. A lock
is inherited only by processes that are given its descriptor; kill −9 leaves none behind.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ledger.store.server_home import Notice
from schemas.both import Both

NOTICE_EVERY_S = 3.0


def open_lock(path: Path) -> int:
    """A descriptor to lock by; it is closed on exec."""
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def try_lock(descriptor: int) -> bool:
    """Lock it for us alone, unless somebody has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def patiently(notice: Notice, why: Both) -> Iterator[None]:
    """Pace a loop that waits: short naps, then longer ones, and every few seconds a line saying how long."""
    began = said = time.monotonic()
    nap_s = 0.002
    while True:
        yield
        time.sleep(nap_s)
        nap_s = min(nap_s * 1.2, 0.1)
        if (now := time.monotonic()) - said >= NOTICE_EVERY_S:
            said = now
            notice(Both(f"{why.en} … {now - began:.0f} s", f"{why.zh}…… {now - began:.0f} 秒"))


@contextmanager
def one_at_a_time(path: Path, notice: Notice, why: Both) -> Iterator[None]:
    """Hold the lock of a file, waiting for whoever has it; `why` says for whom."""
    lock = open_lock(path)
    try:
        for _ in patiently(notice, why):
            if try_lock(lock):
                break
        yield
    finally:
        os.close(lock)
