"""A change as it is kept: who, from where, when, why, what; and the chain that shows when one was altered or taken out.

Each record's hash is SHA-256 over the hash before it and the record's bytes; the first follows 32 zero bytes. So nobody can
change, drop or insert one without making all hashes behind it anew; and who has noted a hash elsewhere (`extproc audit
--verify` prints the last one) notices that too.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Any, Final, NamedTuple

import orjson

VERSION: Final = 1
FIRST: Final = bytes(32)
"""What the first record follows."""

Moves = tuple[tuple[int, int, str, str], ...]
"""Runs of buckets with another owner: first, last, the entity before and the one after."""


class ChangeRecord(NamedTuple):
    """One change of one endpoint."""

    number: int
    """Of the whole state after it, its revision."""
    at_ms: int
    """Unix milliseconds, by the clock of who made it."""
    actor: str
    origin: str
    """From where: the address that asked, or the host that has the file."""
    reason: str
    approved_by: str
    """In the words of who made it; '' when nobody was named."""
    endpoint: str
    kind: str
    config_version: int | None
    """Of the endpoint after it; None when it is gone."""
    diff: tuple[tuple[str, Any, Any], ...]
    """Field by field: path, before, after; None where there was nothing. Secrets are references."""
    moved: Moves = ()
    document: str = ""
    """SHA-256 of the endpoint's document after it, in hex; '' when it is gone."""

    def to_bytes(self) -> bytes:
        """JSON; the same record gives the same bytes."""
        return orjson.dumps({"v": VERSION, **self._asdict()}, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)

    def owner_moved(self, bucket: int) -> tuple[str, str] | None:
        """Whose the bucket was and is, when the change moved it."""
        for first, last, before, after in self.moved:
            if first <= bucket <= last:
                return before, after
        return None


class UnreadableChange(ValueError):
    """A record that this release can't read."""


_KINDS: Final = {
    **dict.fromkeys(("actor", "origin", "reason", "approved_by", "endpoint", "kind", "document"), str),
    **dict.fromkeys(("number", "at_ms"), int),
}


def read_change(body: bytes) -> ChangeRecord:
    """The record in these bytes. Raises UnreadableChange."""
    try:
        values = orjson.loads(body)
        if values.pop("v") != VERSION:
            raise UnreadableChange(f"its version is not {VERSION}: a newer release wrote it")
        known = {name: values[name] for name in ChangeRecord._fields if name in values}
        known["diff"] = tuple([(str(path), before, after) for path, before, after in known["diff"]])
        known["moved"] = tuple([(int(a), int(b), str(before), str(after)) for a, b, before, after in known["moved"]])
        record = ChangeRecord(**known)
        if any(not isinstance(values[name], kind) for name, kind in _KINDS.items()):
            raise UnreadableChange("a field of it is of another kind")
    except UnreadableChange:
        raise
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UnreadableChange(f"it is no record of a change ({type(error).__name__})") from None
    return record


def chained(previous: bytes, body: bytes) -> bytes:
    """The hash of a record behind another one's."""
    return sha256(previous + body).digest()


class Link(NamedTuple):
    """A record in the chain, as it is stored."""

    number: int
    body: bytes
    hash: bytes


class Verdict(NamedTuple):
    """What came of looking at a whole chain."""

    records: int
    head: bytes
    """The last hash; FIRST for an empty chain."""
    faults: tuple[str, ...]
    """What is wrong, with the number of the record; empty when all is well."""
    notes: tuple[str, ...] = ()
    """What is no fault, and is not whole either."""
    seen: bool = True
    """The hash that was looked for is in it."""


_TOLD: Final = 20


def verified(links: Iterable[Link], *, state: int | None = None, known: bytes | None = None) -> Verdict:
    """Look at all of a chain, oldest first. `state`: the number of the state that the last record must have led to; None where
    records are of several lives of a state, whose numbers begin again. `known`: a hash that was noted before and must be in it.
    """
    looking = Looking(state=state, known=known)
    for link in links:
        looking.at(link)
    return looking.verdict()


class Looking:
    """As `verified`, link by link."""

    def __init__(self, *, state: int | None = None, known: bytes | None = None) -> None:
        self._state = state
        self._known = known
        self._previous = FIRST
        self._last = 0
        self._records = 0
        self._faults: list[str] = []
        self._more = 0
        self._notes: list[str] = []
        self._seen = known is None or known == FIRST

    def at(self, link: Link) -> None:
        """Look at the next one."""
        last = self._last
        self._records += 1
        if chained(self._previous, link.body) != link.hash:
            self._wrong(f"change {link.number}: its hash is not that of its content behind the one before it")
        for fault in _not_its_own(link):
            self._wrong(fault)
        if self._state is not None:
            if last and link.number <= last:
                self._wrong(f"change {link.number}: it comes behind {last}")
            elif link.number != last + 1 and len(self._notes) < _TOLD:
                what = f"change {last + 1}" if link.number == last + 2 else f"changes {last + 1} to {link.number - 1}"
                self._notes.append(f"{what}: no record, as of an older release; or made before there was an audit")
        self._last, self._previous = link.number, link.hash
        self._seen = self._seen or link.hash == self._known

    def _wrong(self, fault: str) -> None:
        if len(self._faults) < _TOLD:
            self._faults.append(fault)
        else:
            self._more += 1

    def verdict(self) -> Verdict:
        """That was the last one."""
        state = self._state
        if state is not None and self._last != state:
            self._wrong(f"the state's number is {state} and the last record's {self._last}: records at the end are missing")
        if not self._seen:
            self._wrong("the hash that was noted is not in the chain: it was made anew, or cut off before it")
        told = (*self._faults, *([f"... and {self._more} more"] if self._more else []))
        return Verdict(self._records, self._previous, told, tuple(self._notes), self._seen)


def _not_its_own(link: Link) -> list[str]:
    try:
        number = read_change(link.body).number
    except UnreadableChange as error:
        return [f"change {link.number}: {error}"]
    return [] if number == link.number else [f"change {link.number}: its record says {number}"]
