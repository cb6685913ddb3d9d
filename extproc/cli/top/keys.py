"""Keys that somebody presses, without waiting for the end of the line."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

ESCAPE: Final = "\x1b"
ENTER: Final = ("\r", "\n")
BACK: Final = ("\x7f", "\b")

Keys = Callable[[float], str]
"""Waits so many seconds for keys, and gives all that came; '' when none did."""


def _nobody(wait_s: float) -> str:
    time.sleep(wait_s)
    return ""


@contextlib.contextmanager
def pressed() -> Iterator[Keys]:
    """Of the terminal, which is as it was afterwards. Where there is none, or it is no Unix, nobody presses any."""
    try:
        import termios
        import tty

        handle = sys.stdin.fileno()
        before = termios.tcgetattr(handle)
    except (ImportError, OSError, ValueError, AttributeError):
        yield _nobody
        return
    except termios.error:
        yield _nobody
        return

    def read(wait_s: float) -> str:
        ready, _, _ = select.select([handle], [], [], wait_s)
        told = os.read(handle, 64).decode("utf-8", "replace") if ready else ""
        return ESCAPE if told.startswith(ESCAPE) else told  # arrows and their like begin with it, too

    tty.setcbreak(handle)
    try:
        yield read
    finally:
        termios.tcsetattr(handle, termios.TCSADRAIN, before)
