"""Child processes that never outlive us."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from extproc.demo.errors import DemoError

# On Linux asks the kernel for SIGTERM when the parent dies, however it dies; then becomes the real program.
_LAUNCHER: Final = """
import ctypes, os, sys
try:
    ctypes.CDLL(None).prctl(1, 15)
except (AttributeError, OSError):
    pass
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""
_LOG_LINES: Final = 15


def launched(argv: Sequence[str]) -> list[str]:
    """The command line of a program that ends when this process does."""
    return [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *argv]


class Child:
    """A program with its output in files of `directory`. Has a session of its own: Ctrl-C in the terminal is ours alone."""

    def __init__(self, name: str, argv: Sequence[str], directory: Path) -> None:
        self.name = name
        self.argv = tuple(argv)
        self.output = directory / f"{name}.out"
        self.log = directory / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<Child {self.name} {self.pid or 'not running'}>"

    @property
    def pid(self) -> int | None:
        """None when it is not running."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start it; the files are continued when it ran before."""
        with self.output.open("ab") as output, self.log.open("ab") as log:
            self._process = subprocess.Popen(
                launched(self.argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                start_new_session=True,
            )

    def check(self) -> None:
        """Raise DemoError when it has stopped by itself."""
        if self._process is not None and self._process.poll() is not None:
            raise DemoError(f"{self.name} stopped with exit code {self._process.returncode}\n{self.tail()}")

    def stop(self, within_s: float = 5.0) -> int | None:
        """Ask it to end, and end it after `within_s`. Returns the exit code, None when it was not running."""
        process, self._process = self._process, None
        if process is None:
            return None
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            return process.wait(within_s)
        except subprocess.TimeoutExpired:
            return self._end(process)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        process, self._process = self._process, None
        if process is not None:
            self._end(process)

    def tail(self) -> str:
        """The command line and the end of its log, for an error."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return "\n".join([f"$ {shlex.join(self.argv)}", *text.splitlines()[-_LOG_LINES:]])

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> int:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        return process.wait()
