"""How much memory we may have: the container's limit, as cgroups say it, and the process's own."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Final

_UNLIMITED: Final = 2**60
"""Version 1 of cgroups says a number near 2^63 for none."""


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
