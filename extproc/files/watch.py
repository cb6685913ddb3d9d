"""A file that is read again when it changes: `FileWatcher`.

Polled, not notified: that works on every file system, through symbolic links that are swapped (mounted ConfigMaps) and
through atomic renames. A file that can't be read or parsed changes nothing but `error_since_s`: what was good stays.

A change is believed when two looks in a row saw the same: who writes in place leaves the file empty, and then half, for a
moment, and a half is often a whole as far as YAML can tell.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from pathlib import Path
from typing import Final, Generic, NamedTuple, TypeVar

from extproc.files.problems import Unusable
from extproc.files.read import MAX_BYTES, read_file

DEFAULT_INTERVAL_S: Final = 0.5
DEFAULT_SETTLE_S: Final = 0.25
"""From the look that sees a change to the one that must see the same."""

_RESTS_S: Final = 2.0
"""A file whose metadata changed less than this ago may change again without a trace in them: their clock is coarse."""

_LOAD_ATTEMPTS: Final = 3

Value = TypeVar("Value")
_Metadata = Hashable


class _Look(NamedTuple, Generic[Value]):
    """What a look at the file found: a value in a tuple of one, or problems; neither when it is as it was, or not settled."""

    metadata: _Metadata | None
    digest: bytes
    good: tuple[Value] | None = None
    problems: tuple[str, ...] = ()
    settled: bool = True
    """False: another look must see the same before it is believed."""


class FileWatcher(Generic[Value]):
    """Watches one file. `parse` gets its bytes, raises Unusable with all problems, and may run in another thread.

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
        settle_s: float = DEFAULT_SETTLE_S,
        max_bytes: int = MAX_BYTES,
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
        self._settle_s = settle_s
        self._max_bytes = max_bytes
        self._clock = clock
        self._sleep = sleep
        self._metadata: _Metadata | None = None
        self._metadata_since_s = clock()
        self._digest = b""
        self._good_digest = b""
        self._unsettled: bytes | None = None
        """The digest of what the last look saw and is not believed yet."""

    def __repr__(self) -> str:
        state = f"{len(self.problems)} problems" if self.problems else "good" if self._good_digest else "not read"
        return f"<FileWatcher {self.path}, {state}>"

    def load(self) -> Value:
        """Read the file for the first time, without calling back. Raises Unusable with all problems."""
        for _ in range(_LOAD_ATTEMPTS):
            look = self._look(at_once=True)
            self._remember(look)
            if look.good:
                self._good_digest = look.digest
                return look.good[0]
            if look.problems:
                raise Unusable(look.problems)
        raise Unusable([f"{self.path}: changed each time it was read"])

    def poll(self) -> None:
        """Look once, and call back if something changed and has settled."""
        self._apply(self._look())

    async def run(self) -> None:
        """Poll until cancelled. The file is read and parsed in a thread: a file system that hangs holds up nothing."""
        while True:
            await self._sleep(self._interval_s if self._unsettled is None else self._settle_s)
            self._apply(await asyncio.to_thread(self._look))

    async def look(self) -> None:
        """Look now, in a thread, and again if what is seen has to settle. Not while `run` runs."""
        for _ in range(_LOAD_ATTEMPTS):
            self._apply(await asyncio.to_thread(self._look))
            if self._unsettled is None:
                return
            await self._sleep(self._settle_s)

    def _look(self, *, at_once: bool = False) -> _Look[Value]:
        """Touches no state that `_apply` writes while it runs: only one look is under way at a time."""
        try:
            metadata = self._metadata_of()
            rests = self._clock() - self._metadata_since_s >= _RESTS_S
            if metadata == self._metadata and rests and self._unsettled is None:
                return _Look(metadata, self._digest)
            data = self._content()
            if self._metadata_of() != metadata:
                return _Look(None, b"", settled=False)  # being written: look again
        except (OSError, Unusable) as error:
            problems = error.problems if isinstance(error, Unusable) else [f"{self.path}: {error.strerror or error}"]
            digest = "\n".join(problems).encode("utf-8", "surrogateescape")
            settled = at_once or digest in (self._digest, self._unsettled)
            return _Look(None, digest, problems=tuple(problems), settled=settled)
        digest = hashlib.sha256(data).digest()
        if digest == self._digest:
            return _Look(metadata, digest)
        if not at_once and digest != self._unsettled:
            return _Look(metadata, digest, settled=False)
        try:
            return _Look(metadata, digest, (self._parse(data),))
        except Unusable as error:
            return _Look(metadata, digest, problems=tuple(f"{self.path}: {problem}" for problem in error.problems))

    def _metadata_of(self) -> Hashable:
        """What is different when the content is. Raises OSError."""
        return _metadata(self.path)

    def _content(self) -> bytes:
        """Raises OSError, Unusable."""
        return read_file(self.path, self._max_bytes)

    def _remember(self, look: _Look[Value]) -> None:
        if look.metadata is None or look.metadata != self._metadata:
            self._metadata = look.metadata
            self._metadata_since_s = self._clock()
        self._unsettled = None if look.settled else look.digest
        if look.settled:
            self._digest = look.digest

    def _apply(self, look: _Look[Value]) -> None:
        news = look.settled and look.digest != self._digest
        self._remember(look)
        if not news:
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


def _metadata(path: Path) -> tuple[int, int, int, int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
