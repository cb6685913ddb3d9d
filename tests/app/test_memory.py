"""How much memory there is, and what may be held of it."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from extproc.app.memory import memory_limit_bytes

GIB = 2**30


@pytest.fixture(autouse=True)
def no_ulimit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def put(root: Path, **files: str) -> None:
    for name, text in files.items():
        file = root / name.replace("__", "/").replace("_MAX", "memory.max").replace("_LIMIT", "memory.limit_in_bytes")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, None),
        ({"sys__fs__cgroup___MAX": "max\n"}, None),
        ({"sys__fs__cgroup___MAX": f"{GIB}\n", "proc__self__cgroup": "0::/\n"}, GIB),
        ({"proc__self__cgroup": "0::/a/b\n", "sys__fs__cgroup__a___MAX": "9000", "sys__fs__cgroup__a__b___MAX": "max"}, 9000),
        ({"proc__self__cgroup": "0::/a/b\n", "sys__fs__cgroup__a___MAX": "9000", "sys__fs__cgroup__a__b___MAX": "800"}, 800),
        ({"proc__self__cgroup": "0::/../b\n", "sys__fs__cgroup___MAX": "700"}, 700),
        ({"proc__self__cgroup": "4:memory:/x\n", "sys__fs__cgroup__memory___LIMIT": "600\n"}, 600),
        ({"sys__fs__cgroup__memory___LIMIT": "9223372036854771712\n"}, None),
    ],
)
def test_control_groups(tmp_path: Path, files: dict[str, str], limit: int | None) -> None:
    put(tmp_path, **files)
    assert memory_limit_bytes(tmp_path) == limit


@pytest.mark.parametrize("which", [resource.RLIMIT_DATA, resource.RLIMIT_AS])
def test_the_process_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: int) -> None:
    def getrlimit(asked: int) -> tuple[int, int]:
        return (GIB, GIB) if asked == which else (resource.RLIM_INFINITY, resource.RLIM_INFINITY)

    monkeypatch.setattr(resource, "getrlimit", getrlimit)
    put(tmp_path, sys__fs__cgroup___MAX=str(2 * GIB))
    assert memory_limit_bytes(tmp_path) == GIB


@pytest.mark.parametrize(
    ("limit", "told", "most"), [(None, {}, 512), (8 * GIB, {}, 512), (GIB, {}, 256), (GIB, {"max_held_bytes": 7 * 2**20}, 7)]
)
def test_what_may_be_held(monkeypatch: pytest.MonkeyPatch, limit: int | None, told: dict[str, Any], most: int) -> None:
    from extproc.app import transports
    from extproc.settings.commands import BbrSettings

    monkeypatch.setattr(transports, "memory_limit_bytes", lambda: limit)
    assert transports.most_held(BbrSettings(**told)) == most * 2**20


BODIES = """
import resource, sys
from extproc.app.memory import keep_freed

def decide():
    return [b"x" * 400_000 for _ in range(5)]

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

if sys.argv[1] == "kept":
    keep_freed()
for _ in range(3):
    decide()
before = faults()
for _ in range(50):
    decide()
print(faults() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="others have their own ways")
def test_large_bodies_find_memory_that_is_there() -> None:
    """Five copies of 400 KB are 490 pages: 24,500 in 50 decisions, when each asks the system for them anew."""
    faults = {
        kept: int(subprocess.run([sys.executable, "-c", BODIES, kept], capture_output=True, text=True, check=True).stdout)
        for kept in ("kept", "not")
    }
    assert faults["kept"] < 2_000 < faults["not"]
