"""The answer that the client gets, as it passes: times, size, and what it says."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from extproc.domain import BodyPath
from extproc.shadow.answer import AnswerText


class LiveAnswer:
    """A `Tap` of the answer's reader. Everything is said in the order of time; `end` once and last."""

    __slots__ = (
        "_clock",
        "complete",
        "ended_s",
        "first_s",
        "listeners",
        "seen",
        "served",
        "size_bytes",
        "started_s",
        "status",
        "text",
    )

    def __init__(self, started_s: float, clock: Callable[[], float]) -> None:
        """`started_s`: when its request came, by `clock`."""
        self._clock = clock
        self.started_s = started_s
        self.status = 0
        self.seen = False
        """Its body came by here."""
        self.text: AnswerText | None = None
        """Reads the body, where there is one that came by here."""
        self.first_s: float | None = None
        self.ended_s: float | None = None
        self.size_bytes = 0
        self.served = ""
        """The endpoint that answered, as far as is known."""
        self.complete = False
        self.listeners: list[Callable[[], None]] = []
        """Who is told when it ended; whoever comes later looks at `ended_s`."""

    def headers(self, status: int, headers: Mapping[str, bytes], path: BodyPath) -> bool:
        """Whether `piece` is to be told of the body."""
        self.status = status
        self.seen = path is not BodyPath.UNSEEN
        if not self.seen or path is BodyPath.EMPTY:
            return False
        self.text = AnswerText(headers.get("content-type", b""), headers.get("content-encoding", b""))
        return True

    def piece(self, piece: bytes) -> None:
        """A piece of the body came."""
        if not piece:
            return
        if self.first_s is None:
            self.first_s = self._clock()
        self.size_bytes += len(piece)
        if self.text is not None:
            self.text.feed(piece)

    def end(self, status: int, complete: bool, served: str) -> None:
        """The request is over; `complete`: the end of the answer was seen."""
        self.status = status
        self.complete = complete
        self.served = served
        self.ended_s = self._clock()
        listeners, self.listeners = self.listeners, []
        for listener in listeners:
            listener()
