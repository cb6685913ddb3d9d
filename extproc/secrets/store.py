"""What is known of the secrets that are referred to, now.

    want(references) ──▶ run: read them, again each `fresh_s` ──▶ known ──▶ get(reference), synchronous, for requests
    check(references)  reads at once: for whoever is about to store a reference

A secret that was read and can't be read now (the API server is away) is used on for `keep_s`; one that its sources say
is gone is gone at once. A secret is forgotten when nothing refers to it any more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from extproc.credentials import Reference, Secret
from extproc.errors import SecretMissing
from extproc.secrets.source import Source, Unreadable

FRESH_S: Final = 30.0
KEEP_S: Final = 3600.0
_SOON_S: Final = 2.0
"""Until a secret that is not to be had is looked for again."""
_HELD_S: Final = 30.0
"""For how long what was checked is kept although nothing refers to it: what is about to be stored refers to it soon."""


class _Known(NamedTuple):
    secret: Secret | None
    read_at_s: float
    """When `secret` was read; when it was looked for last, if there is none."""
    trouble: str = ""
    """Why it could not be read last time; '' when it was."""


class SecretStore:
    """One per process. `sources` are asked in their order; the first that has a secret is believed."""

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        fresh_s: float = FRESH_S,
        keep_s: float = KEEP_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._sources = tuple(sources)
        self._fresh_s = fresh_s
        self._keep_s = keep_s
        self._clock = clock
        self._sleep = sleep
        self._wanted: frozenset[Reference] = frozenset()
        self._known: dict[Reference, _Known] = {}
        self._held_until_s: dict[Reference, float] = {}
        self._hurry = asyncio.Event()

    def __repr__(self) -> str:
        missing = sum(known.secret is None for known in self._known.values())
        return f"<SecretStore {len(self._wanted)} wanted, {len(self._known)} known, {missing} missing>"

    # -- for requests ----------------------------------------------------------------------------------------------------

    def get(self, reference: Reference) -> Secret:
        """What was read last. Raises SecretMissing, with the reference and where it was looked for."""
        known = self._known.get(reference)
        if known is None:
            self._hurry.set()
            raise SecretMissing(f"secret {reference}: not read yet")
        if known.secret is None:
            raise SecretMissing(f"secret {reference}: {known.trouble}")
        if known.trouble and self._clock() - known.read_at_s > self._keep_s:
            raise SecretMissing(f"secret {reference}: {known.trouble}")
        return known.secret

    # -- for whoever configures ------------------------------------------------------------------------------------------

    def want(self, references: Iterable[Reference]) -> None:
        """From now on these are referred to, and no others; `run` reads what is new at once."""
        self._wanted = frozenset(references)
        self._forget()
        if self._wanted - self._known.keys():
            self._hurry.set()

    async def check(self, references: Collection[Reference]) -> Mapping[Reference, str]:
        """Read these now. What is missing or can't be read, each with why; empty when all is well.

        What was found is known to `get` at once, and stays so for a while, in which it is to be wanted: whatever else is wanted
        before that does not make it forgotten.
        """
        until_s = self._clock() + _HELD_S
        self._held_until_s.update(dict.fromkeys(references, until_s))
        await self._read(references)
        troubles = {reference: self._known[reference].trouble for reference in references}
        return {reference: trouble for reference, trouble in troubles.items() if trouble}

    def troubles(self) -> Mapping[Reference, str]:
        """Which of those that are wanted could not be read last time, and why."""
        return {
            reference: known.trouble for reference, known in self._known.items() if known.trouble and reference in self._wanted
        }

    # -- in the background -----------------------------------------------------------------------------------------------

    async def refresh(self) -> None:
        """One round: all that are wanted are read."""
        await self._read(self._wanted)
        self._forget()

    def _forget(self) -> None:
        now_s = self._clock()
        self._held_until_s = {each: until_s for each, until_s in self._held_until_s.items() if until_s > now_s}
        for reference in self._known.keys() - self._wanted - self._held_until_s.keys():
            del self._known[reference]

    async def run(self) -> None:
        """Rounds until cancelled: each `fresh_s`, sooner while something is missing, at once when something new is wanted."""
        while True:
            self._hurry.clear()
            await self.refresh()
            await self._pause(self._soon())

    def _soon(self) -> float:
        return min(_SOON_S, self._fresh_s) if self.troubles() else self._fresh_s

    async def _pause(self, pause_s: float) -> None:
        hurry = asyncio.ensure_future(self._hurry.wait())
        rest = asyncio.ensure_future(self._sleep(pause_s))
        try:
            await asyncio.wait((hurry, rest), return_when=asyncio.FIRST_COMPLETED)
        finally:
            hurry.cancel()
            rest.cancel()
            await asyncio.gather(hurry, rest, return_exceptions=True)

    async def _read(self, references: Collection[Reference]) -> None:
        left = set(references)
        places: dict[Reference, list[str]] = {reference: [] for reference in left}
        unreadable: dict[Reference, str] = {}
        for source in self._sources:
            if not left:
                break
            for reference, found in (await source.read(left)).items():
                if isinstance(found, Secret):
                    self._known[reference] = _Known(found, self._clock())
                    left.discard(reference)
                elif isinstance(found, Unreadable):
                    unreadable.setdefault(reference, f"{source.place(reference)}: {found.why}")
                else:
                    places[reference].append(source.place(reference))
        for reference in left:
            self._not_found(reference, places[reference], unreadable.get(reference))

    def _not_found(self, reference: Reference, places: Sequence[str], unreadable: str | None) -> None:
        before = self._known.get(reference)
        if unreadable is not None and before is not None and before.secret is not None:
            self._known[reference] = before._replace(trouble=unreadable)
            return
        trouble = unreadable or (
            f"not found; looked for {', '.join(places)}" if places else "no source of secrets is configured"
        )
        self._known[reference] = _Known(None, self._clock(), trouble)
