"""What a server presents and whom it lets in, from files: read at start, watched, and exchanged as a whole."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

from extproc.files.problems import Unusable
from extproc.files.watch import FileWatcher
from extproc.settings.base import SettingsError
from extproc.sockets.certificates import Identity, paired, read_chain, read_key
from extproc.sockets.tls import read_authorities

_SETTLE_S: Final = 1.0
"""Longer than a watcher's interval: certificate and key are two files, and the second is seen a little after the first."""

Part = TypeVar("Part")


class TlsFiles(NamedTuple):
    """Where the files are, and the flags that say so, for messages."""

    folder: str | None
    """Has tls.crt and tls.key. None: who we are is in no file."""
    folder_flag: str
    authorities: str | None
    authorities_flag: str


class Reports(Protocol):
    """Hears what becomes of the files."""

    def broken(self, path: Path, problems: Sequence[str]) -> None:
        """Once per change of what is wrong; what was good stays in force."""

    def good(self, path: Path) -> None:
        """The file is good, whether or not it was before."""

    def exchanged(self, served: ServedTls) -> None:
        """New connections get something else from now on."""


class ServedTls:
    """An identity, the authorities that sign clients' certificates, and the context made of them.

    `run` watches the files, `look` looks at them once. Each exchange is a whole: a context is made anew of all that is good.
    """

    def __init__(
        self,
        files: TlsFiles,
        make: Callable[[Identity, bytes | None], ssl.SSLContext],
        reports: Reports,
        *,
        otherwise: Callable[[], tuple[Identity, str]] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Read everything. Raises SettingsError with every problem, each with its flag.

        `make` makes a context, and raises SettingsError. `otherwise` gives the identity when it is in no file, and the flag
        that its problems are told under.
        """
        self._make = make
        self._reports = reports
        self._sleep = sleep
        self._changed = asyncio.Event()
        self._told: tuple[str, ...] = ()
        """What was last said to be wrong with certificate and key as a pair."""
        problems: list[str] = []

        def watched(path: Path, flag: str, parse: Callable[[bytes], Part]) -> _File[Part]:
            return _File(path, flag, parse, self._changed, reports.broken, problems)

        self._chain = self._key = None
        if files.folder is not None:
            folder = Path(files.folder)
            self._chain = watched(folder / "tls.crt", files.folder_flag, read_chain)
            self._key = watched(folder / "tls.key", files.folder_flag, read_key)
        self._authorities = None
        if files.authorities is not None:
            self._authorities = watched(Path(files.authorities), files.authorities_flag, read_authorities)
        if problems:
            raise SettingsError(problems)
        label = f"{files.folder_flag}: "
        try:
            if self._chain is not None and self._key is not None:
                label += f"{self._key.path}: "
                self.identity = paired(self._chain.good, self._key.good)
            else:
                assert otherwise is not None, "an identity comes from files or from elsewhere"
                self.identity, flag = otherwise()
                label = f"{flag}: "
            self.authorities = self._wanted_authorities()
            self.context = make(self.identity, self.authorities)
        except SettingsError as error:
            raise SettingsError([label + problem for problem in error.problems]) from None
        for each in self._all():
            reports.good(each.path)

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files, if there are any."""
        return tuple(each.path for each in self._all())

    async def run(self) -> None:
        """Watch the files until cancelled; without any that is at once."""
        if not (watched := self._all()):
            return
        async with asyncio.TaskGroup() as group:
            for each in watched:
                group.create_task(each.watcher.run(), name=f"watch {each.path}")
            while True:
                await self._changed.wait()
                self._changed.clear()
                await self._exchange()

    async def look(self) -> None:
        """Look at the files now, until what is there has settled. Not while `run` runs."""
        await asyncio.gather(*(each.watcher.look() for each in self._all()))
        if self._changed.is_set():
            self._changed.clear()
            await self._exchange()

    async def _exchange(self) -> None:
        """Put into force what the files say, as far as it is good."""
        problems: tuple[str, ...] = ()
        context: ssl.SSLContext | None = None
        authorities = self._wanted_authorities()
        try:
            identity = self._wanted_identity()
            context = self._make(identity, authorities)
        except SettingsError as error:
            problems = tuple(error.problems)
            await self._sleep(_SETTLE_S)
            if self._changed.is_set():
                return  # the other half of the pair: look again
            identity = self.identity
            with contextlib.suppress(SettingsError):
                context = self._make(identity, authorities)
        if context is not None and (identity, authorities) != (self.identity, self.authorities):
            self.identity, self.authorities, self.context = identity, authorities, context
            self._reports.exchanged(self)
        self._tell(problems)

    def _wanted_identity(self) -> Identity:
        """Who the files say we are. As before when one of them is broken, which is told elsewhere. Raises SettingsError."""
        if self._chain is None or self._key is None or self._chain.watcher.problems or self._key.watcher.problems:
            return self.identity
        return paired(self._chain.good, self._key.good)

    def _wanted_authorities(self) -> bytes | None:
        return None if self._authorities is None else self._authorities.good

    def _tell(self, problems: tuple[str, ...]) -> None:
        """Say once what is wrong with the pair, under the name of the key's file; and of the other files that they are good."""
        if problems and problems != self._told and self._key is not None:
            self._reports.broken(self._key.path, problems)
        self._told = problems
        for each in self._all():
            if not each.watcher.problems and not (problems and each is self._key):
                self._reports.good(each.path)

    def _all(self) -> list[_File[Any]]:
        return [each for each in (self._chain, self._key, self._authorities) if each is not None]


class _File(Generic[Part]):
    """A watched file and what was last good in it."""

    good: Part

    def __init__(
        self,
        path: Path,
        flag: str,
        parse: Callable[[bytes], Part],
        changed: asyncio.Event,
        broken: Callable[[Path, Sequence[str]], None],
        problems: list[str],
    ) -> None:
        """Read it for the first time. What is wrong is added to `problems`, under `flag`."""
        self.path = path
        self._changed = changed
        self.watcher: FileWatcher[Part] = FileWatcher(
            path, parse, on_change=self._take, on_error=lambda found: broken(path, found), on_heal=changed.set
        )
        try:
            self.good = self.watcher.load()
        except Unusable as error:
            problems += [f"{flag}: {problem}" for problem in error.problems]

    def _take(self, part: Part) -> None:
        self.good = part
        self._changed.set()
