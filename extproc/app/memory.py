"""How much memory we may have: the container's limit, as cgroups say it, and the process's own; and what of it we keep."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Final

_UNLIMITED: Final = 2**60
"""Version 1 of cgroups says a number near 2^63 for none."""
_LEARNED_BYTES: Final = 4 * 2**20
"""glibc keeps twice as much."""


def keep_freed() -> None:
    """Keep up to 8 MiB of memory that is free, instead of giving it back and asking for it again with each large body.

    glibc gives back what is free at the end of its heap when that is twice as much as the largest block that it ever got from
    the system by itself and gave back (M_MMAP_THRESHOLD of mallopt(3), which moves as long as nobody sets it): from 256 KiB on.
    A body of 400 KB needs a few times that until it is decided on, in pages that the system clears, one fault each. So a
    block is asked for and let go of once. No page of it is touched. Elsewhere that does nothing.
    """
    bytes(_LEARNED_BYTES)


def memory_limit_bytes(root: Path = Path("/")) -> int | None:
    """The least of what the control groups that we are in (https://docs.kernel.org/admin-guide/cgroup-v2.html) and
    `ulimit -d` and `-v` allow; None when nothing does. `root` is where /proc and /sys are.
    """
    limits = [resource.getrlimit(each)[0] for each in (resource.RLIMIT_DATA, resource.RLIMIT_AS)]
    groups = root / "sys/fs/cgroup"
    limits.append(_number(groups / "memory/memory.limit_in_bytes"))
    # Inside of a container its own group is the root; elsewhere every group above ours counts.
    ours = groups / _group(root / "proc/self/cgroup").lstrip("/")
    for group in (ours, *ours.parents):
        limits.append(_number(group / "memory.max"))
        if group == groups:
            break
    known = [limit for limit in limits if 0 < limit < _UNLIMITED]
    return min(known, default=None)


def _group(file: Path) -> str:
    """Our group of version 2; '' for the root."""
    try:
        for line in file.read_text().splitlines():
            if line.startswith("0::") and ".." not in line:
                return line[3:]
    except OSError:
        pass
    return ""


def _number(file: Path) -> int:
    """What stands in the file; -1 when that is no number, such as `max`, or there is none."""
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return -1
