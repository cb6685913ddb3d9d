"""Processes that say what was acknowledged, and are killed."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Self

from extproc.storage.keep import Keep

ROOT = Path(__file__).resolve().parents[2]
ACK = "ack "
ALL = Keep(revisions=1_000_000)
"""All of history is looked at, however much faster one process is than another."""


class Replica:
    """`tests.storage.committer` or `updater`, running. Lines that begin with ACK are acknowledgements, others its log."""

    def __init__(self, program: str, url: str, prefix: str) -> None:
        command = [sys.executable, "-m", f"tests.storage.{program}", url, prefix]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self._acks = self._read()

    def _read(self) -> Iterator[str]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(ACK) and line.endswith("\n"):  # the last one may be cut
                yield line.removeprefix(ACK).strip()

    def acknowledged(self, count: int) -> list[str]:
        """The next so many."""
        found = list(islice(self._acks, count))
        assert len(found) == count, "it has ended by itself"
        return found

    def killed(self, enough: int) -> list[str]:
        """Kill it some time after so many; all that it had acknowledged by then and were not read yet."""
        found = self.acknowledged(enough)
        time.sleep(random.Random(enough).uniform(0, 0.03))  # not always where a commit begins: one takes about so long
        self._process.kill()
        return found + list(self._acks)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
