"""What the machine has. In: nothing. Out: memory, and what one of our parts may take of it."""

import os
from pathlib import Path


def memory_bytes() -> int:
    """The memory of the machine, or of the container when that is less."""
    least = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            least = min(least, int(Path(file).read_text()))
        except (OSError, ValueError):  # no such container, or "max"
            continue
    return least


def quarter_of_memory_mib(at_least: int) -> int:
    """What a part that would use all it can get may take."""
    return max(memory_bytes() // 4 >> 20, at_least)
