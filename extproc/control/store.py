"""Where desired state lies: a document for each endpoint, a number that rises with each change, and the changes themselves.

    StoreError
    ├── StoreUnavailable    it can't be reached or can't write: nothing was changed, as far as anybody knows; try again later
    ├── Superseded          somebody else committed since: load what is new, decide again
    ├── Forgotten           the history does not reach back that far: load the state
    └── SchemaTooNew        it was written by a newer release; an operator has to act, trying again is of no use

A store keeps bytes and knows nothing of what is in them. The number belongs to the whole state and not to one endpoint, so a
commit that names the number it was decided on can't lose anybody's change, whatever the two have touched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from extproc.audit.changes import Link


class StoreError(Exception):
    """A store did not do what it was asked. Its text is shown to people: no address with a password in it."""


class StoreUnavailable(StoreError):
    """The store can't be reached, or can't write.

    After a `commit` that ended so, the change may be there all the same: load to know.
    """


class Superseded(StoreError):
    """The state is not the one that a commit was decided on; nothing of the commit is there."""

    def __init__(self, current: int) -> None:
        super().__init__(f"the state has changed meanwhile, its number is {current} now")
        self.current = current


class Forgotten(StoreError):
    """History was asked for from a revision on that it no longer reaches back to."""

    def __init__(self, number: int) -> None:
        super().__init__(f"the history no longer has all that came after revision {number}")
        self.number = number


class SchemaTooNew(StoreError):
    """The schema is one of a newer release, which this one does not know how to read."""


class Change(NamedTuple):
    """One endpoint's next document."""

    endpoint: str
    document: bytes | None
    """JSON of the endpoint's record after the change; None when it is deleted."""
    kind: str
    """What was done, in a word: `create`, `update`, `delete`, `tags`, `revert` ..."""
    record: bytes = b""
    """For the audit: what `audit.ChangeRecord.to_bytes` gives. Empty: none is kept."""


class Revision(NamedTuple):
    """A change that is stored, for good."""

    number: int
    """Of the whole state: rises by one with each changed endpoint, so a commit of three changes takes three numbers."""
    change: Change
    actor: str
    """Who did it: a user, or the feeder that owns the endpoint. At most 256 characters, never a token."""
    reason: str
    """Why, in the actor's words; empty when not said. At most 1,024 characters."""
    at_ms: int
    """When, in Unix milliseconds by the clock of the process that committed."""


class State(NamedTuple):
    """All that is desired at one moment."""

    number: int
    """Of the last revision; 0 in a store that never had one. Deleting lowers nothing."""
    documents: Mapping[str, bytes]
    """By the endpoint's name; deleted ones are not in it."""


class Kept(NamedTuple):
    """What goes on beside the desired state, such as a rollout: a document that changes often and has no history."""

    version: int
    """From 1; rises by one each time."""
    document: bytes


class KeepingStore(Protocol):
    """Documents by name, each with a version of its own that decides between replicas. May raise StoreUnavailable."""

    async def kept(self) -> Mapping[str, Kept]:
        """All of them, as they were at one moment."""

    async def keep(self, name: str, expected: int, document: bytes | None) -> int:
        """Write one and give its new version; None forgets it, and gives 0. It is on disk when this returns.

        Raises Superseded when its version is not `expected`, 0: there is none. Then nothing is written.
        """


class RevisionStore(Protocol):
    """One state and its history, shared by all replicas. Every method but `open` may raise StoreUnavailable.

    A store may be called by several tasks at once.
    """

    async def open(self) -> None:
        """Connect, and bring the schema up to date under a lock that replicas share. Raises SchemaTooNew, StoreUnavailable.

        What failed may be tried again.
        """

    async def load(self) -> State:
        """State and number as they were at one moment."""

    async def commit(self, expected: int, changes: Sequence[Change], actor: str, reason: str, at_ms: int) -> int:
        """Store all of them or none, with their records, and give the new number. It is on disk when this returns.

        Raises Superseded when the state's number is not `expected`: then nothing is stored. No changes change nothing.
        """

    async def since(self, number: int) -> Sequence[Revision]:
        """What was committed after `number`, oldest first, without gaps.

        Raises Forgotten when some of it is not kept any more; then `load` tells where things stand.
        """

    async def history(self, endpoint: str, before: int | None = None, limit: int = 50) -> Sequence[Revision]:
        """The endpoint's last revisions, newest first, of those numbered below `before`; deleted endpoints keep theirs."""

    async def changes(self, after: int = 0, endpoint: str = "", limit: int = 1000) -> Sequence[Link]:
        """Records of changes with a higher number than `after`, oldest first, with their place in the chain; of one endpoint
        when it is given. They are never forgotten. A store whose state ends with the process has none.
        """

    async def latest_changes(self, before: int | None = None, endpoint: str = "", limit: int = 1000) -> Sequence[Link]:
        """The same, newest first, of those with a lower number than `before`."""

    async def watch(self, changed: Callable[[int], None]) -> None:
        """Runs until it is cancelled and calls `changed` with the state's number when others may have committed.

        Calls may be late by less than a second, come twice, or come for commits of one's own; none is lost while this runs.
        Raises StoreUnavailable when it can't go on; who calls it again is first told the number as it is then.
        """

    async def close(self) -> None:
        """Let go of connections; an open commit is waited for. May be called twice."""


class Store(RevisionStore, KeepingStore, Protocol):
    """Both, in one place."""
