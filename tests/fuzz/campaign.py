"""Targets in processes of their own, watched from outside: one that hangs, dies or grows is ended, and its input kept."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

from tests.fuzz import corpus
from tests.fuzz.box import Box

ATHERIS: Final = corpus.WORK.parent / "atheris"
_POLL_S: Final = 0.25


class Plan(NamedTuple):
    """How long, and with what."""

    executions: int
    seconds: float
    seed: int
    engine: str
    hang_s: float = 10.0
    """An execution that takes longer is a finding: in seconds of CPU, as the machine may have others to serve."""
    most_mb: int = 1024
    """A process that grows larger is one too."""


class Outcome(NamedTuple):
    """What came of one target."""

    name: str
    executions: int
    seconds: float
    kept: int
    peak_mb: float
    slowest_s: float
    slowest: bytes
    finding: str = ""
    """What was wrong, and where its input is."""

    @property
    def line(self) -> str:
        """For people."""
        rate = self.executions / self.seconds if self.seconds else 0
        told = (
            f"{self.name:9} {self.executions:>11,} executions {self.seconds:8.0f} s {rate:8,.0f}/s {self.kept:6,} new inputs"
            f" {self.peak_mb:5.0f} MB slowest {self.slowest_s * 1e3:.1f} ms"
        )
        return f"{told}\n{self.finding}" if self.finding else told


def engine(wanted: str) -> str:
    """`auto`: atheris where it is."""
    if wanted != "auto":
        return wanted
    return "atheris" if ATHERIS.is_dir() or importlib.util.find_spec("atheris") else "mutational"


def run_all(shares: dict[str, Plan], jobs: int) -> Iterable[Outcome]:
    """The targets, `jobs` at a time, as they end."""
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        yield from pool.map(lambda item: run_one(*item), shares.items())


def run_one(name: str, plan: Plan) -> Outcome:
    """One target in a process."""
    corpus.WORK.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "box"
        box = Box(path, new=True)
        module = "tests.fuzz.guided" if plan.engine == "atheris" else "tests.fuzz.mutational"
        command = [sys.executable, "-m", module, name, str(path), str(plan.executions), str(plan.seconds), str(plan.seed)]
        paths = [str(corpus.HERE.parent.parent), str(ATHERIS), os.environ.get("PYTHONPATH", "")]
        with (Path(folder) / "out").open("w+b") as out:
            began = time.monotonic()
            before = len(list((corpus.WORK / name).glob("*")))
            process = subprocess.Popen(
                command, stdout=out, stderr=out, env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
            )
            code, peak_kb, why = _watch(process, box, plan)
            seconds = time.monotonic() - began
            out.seek(0)
            said = out.read().decode(errors="replace")
    finding = ""
    if not box.executions:
        raise RuntimeError(f"{name} did not begin:\n{said[-3000:]}")
    if why or code:
        found = corpus.crash_path(name, box.input, kind="hang-" if why == "hangs" else "")
        found.parent.mkdir(exist_ok=True)
        found.write_bytes(box.input)
        finding = f"{_told(said)}\n{name} {why or f'ended with {code}'}: {found}"
    kept = len(list((corpus.WORK / name).glob("*"))) - before
    slowest_s, slowest = box.slowest
    return Outcome(name, box.executions, seconds, max(kept, 0), peak_kb / 1024, slowest_s, slowest, finding)


def _watch(process: subprocess.Popen[bytes], box: Box, plan: Plan) -> tuple[int, int, str]:
    """Exit code, peak memory in KB, and why it was ended if it was."""
    why = ""
    at, since = box.executions, _cpu_s(process.pid)
    while True:
        pid, status, used = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode, used.ru_maxrss, why
        now = _cpu_s(process.pid)
        if box.executions != at:
            at, since = box.executions, now
        elif at and now - since > plan.hang_s and not why:
            why = "hangs"
            process.kill()
        if not why and _resident_mb(process.pid) > plan.most_mb:
            why = "grows"
            process.kill()
        time.sleep(_POLL_S)


def _cpu_s(pid: int) -> float:
    """What the process has used; the clock's time where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return time.monotonic()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident_mb(pid: int) -> float:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _told(said: str) -> str:
    """The traceback, without libFuzzer's own words."""
    begin = max(said.rfind("Traceback"), said.rfind("Uncaught Python exception"), 0)
    return re.split(r"\n(?===\d+==|INFO:|#\d+\t)", said[begin:])[0].strip()[-3000:]
