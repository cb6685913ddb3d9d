"""A file that is read again when it changes: `FileWatcher`.

Polled, not notified: that works on every file system, through symbolic links that are swapped (mounted ConfigMaps) and
through atomic renames. A file that can't be read or parsed changes nothing but `error_since_s`: what was good stays.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, Generic, NamedTuple, TypeVar

from extproc.settings.base import SettingsError

DEFAULT_INTERVAL_S: Final = 0.5
DEFAULT_MAX_BYTES: Final = 2**20

_SETTLED_S: Final = 2.0
"""A file whose metadata changed less than this ago may change again without a trace in them: their clock is coarse."""

_LOAD_ATTEMPTS: Final = 3

Value = TypeVar("Value")
_Metadata = tuple[int, int, int, int, int]


class _Look(NamedTuple, Generic[Value]):
    """What a look at the file found: a value in a tuple of one, or problems; neither when it is as it was."""

    metadata: _Metadata | None
    digest: bytes
    good: tuple[Value] | None = None
    problems: tuple[str, ...] = ()


class FileWatcher(Generic[Value]):
    """Watches one file. `parse` gets its bytes, raises SettingsError with all problems, and may run in another thread.

    The callbacks run in the caller's thread (`poll`) or the event loop (`run`): `on_change` with each new good value,
    `on_error` once per change of what is wrong, `on_heal` when the file is again what was good before.
    """

    def __init__(
        self,
        path: str | Path,
        parse: Callable[[bytes], Value],
        *,
        on_change: Callable[[Value], None],
        on_error: Callable[[Sequence[str]], None],
        on_heal: Callable[[], None] = lambda: None,
        interval_s: float = DEFAULT_INTERVAL_S,
        max_bytes: int = DEFAULT_MAX_BYTES,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.path = Path(path)
        self.problems: tuple[str, ...] = ()
        """What is wrong with the file now."""
        self.error_since_s: float | None = None
        """When it became so, by the clock; None while all is well."""
        self._parse = parse
        self._on_change = on_change
        self._on_error = on_error
        self._on_heal = on_heal
        self._interval_s = interval_s
        self._max_bytes = max_bytes
        self._clock = clock
        self._sleep = sleep
        self._metadata: _Metadata | None = None
        self._metadata_since_s = clock()
        self._digest = b""
        self._good_digest = b""

    def __repr__(self) -> str:
        state = f"{len(self.problems)} problems" if self.problems else "good" if self._good_digest else "not read"
        return f"<FileWatcher {self.path}, {state}>"

    def load(self) -> Value:
        """Read the file for the first time, without calling back. Raises SettingsError with all problems."""
        for _ in range(_LOAD_ATTEMPTS):
            look = self._look()
            self._remember(look)
            if look.good:
                self._good_digest = look.digest
                return look.good[0]
            if look.problems:
                raise SettingsError(list(look.problems))
        raise SettingsError([f"{self.path}: changed each time it was read"])

    def poll(self) -> None:
        """Look once, and call back if something changed."""
        self._apply(self._look())

    async def run(self) -> None:
        """Poll until cancelled. The file is read and parsed in a thread: a file system that hangs holds up nothing."""
        while True:
            await self._sleep(self._interval_s)
            self._apply(await asyncio.to_thread(self._look))

    def _look(self) -> _Look[Value]:
        """Touches no state that `_apply` writes while it runs: only one look is under way at a time."""
        try:
            metadata = _metadata(self.path)
            settled = self._clock() - self._metadata_since_s >= _SETTLED_S
            if metadata == self._metadata and settled:
                return _Look(metadata, self._digest)
            data = self._read()
            if _metadata(self.path) != metadata:
                return _Look(None, self._digest)  # being written: look again next time
        except OSError as error:
            problem = f"{self.path}: {error.strerror or error}"
            return _Look(None, problem.encode(), problems=(problem,))
        digest = hashlib.sha256(data).digest()
        if digest == self._digest:
            return _Look(metadata, digest)
        if len(data) > self._max_bytes:
            return _Look(metadata, digest, problems=(f"{self.path}: larger than {self._max_bytes} bytes",))
        try:
            return _Look(metadata, digest, (self._parse(data),))
        except SettingsError as error:
            return _Look(metadata, digest, problems=tuple(f"{self.path}: {problem}" for problem in error.problems))

    def _read(self) -> bytes:
        with open(self.path, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError("expected a file")
            return file.read(self._max_bytes + 1)

    def _remember(self, look: _Look[Value]) -> None:
        if look.metadata is None or look.metadata != self._metadata:
            self._metadata = look.metadata
            self._metadata_since_s = self._clock()
        self._digest = look.digest

    def _apply(self, look: _Look[Value]) -> None:
        same = look.digest == self._digest
        self._remember(look)
        if same:
            return
        if look.problems:
            if self.error_since_s is None:
                self.error_since_s = self._clock()
            if look.problems != self.problems:
                self.problems = look.problems
                self._on_error(look.problems)
            return
        healed = self.problems != ()
        self.problems = ()
        self.error_since_s = None
        if look.good and look.digest != self._good_digest:
            self._good_digest = look.digest
            self._on_change(look.good[0])
        elif healed:
            self._on_heal()


def _open_at_once(path: str, flags: int) -> int:
    """Never wait for the other end of a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def _metadata(path: Path) -> _Metadata:
    found = os.stat(path)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
