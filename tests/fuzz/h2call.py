"""One call of a peer that keeps the rules, and what it must get, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from extproc.errors import ProtocolError
from extproc.transport.codec import joined
from extproc.transport.held import overloaded
from extproc.transport.session import Session
from tests.fakes.decider import FakeDecider
from tests.fuzz import wire as w
from tests.fuzz.h2peer import ENCODER, STREAM_LIMITS, Outcome

CANCEL: Final = 8


class PoliteCall:
    """What is to be sent, what was, and what has to come."""

    def __init__(self, stream_id: int, messages: Sequence[bytes], outcome: Outcome) -> None:
        self.id = stream_id
        self.left = b"".join(map(w.grpc, messages))
        self.ended = False
        self.reset = False
        self.credit = 0
        """Bytes that were sent beyond what windows were opened by."""
        self.expected: list[bytes] = []
        self.status = "0"
        self._messages = messages
        self._outcome = outcome
        session = self._session()
        try:
            for message in messages:
                self.expected += map(joined, session.receive(message))
        except ProtocolError:
            self.status = "3"

    def gave_up(self, seen: w.Seen) -> bool:
        """Whether this is what comes of it when too much is held: the answer `overloaded`, the status that says so, or a reset.

        Only a reset may cut a message, and what came before it is the beginning of what would have come. What ends in any
        other way is whole.
        """
        if seen.reset == CANCEL:
            return not seen.ended and self.began(seen)
        if seen.reset not in (None, 0) or seen.trailers is None:
            return False
        status = seen.trailers.get("grpc-status")
        if status == "8":
            messages = seen.messages()
            return messages == self.expected[: len(messages)]
        return status == "0" and seen.body != self._whole() and bytes(seen.body) in self._refusals()

    def began(self, seen: w.Seen) -> bool:
        """Whether what came is the beginning of what could have come."""
        return any(body.startswith(seen.body) for body in self._bodies())

    def _whole(self) -> bytes:
        return b"".join(map(w.grpc, self.expected))

    def _bodies(self) -> Iterator[bytes]:
        """All that could have come."""
        yield self._whole()
        yield from self._refusals()

    def _refusals(self) -> Iterator[bytes]:
        """What comes when it is given up behind each of its messages while it is undecided."""
        for number in range(len(self._messages) + 1):
            session = self._session()
            try:
                answers = [answer for message in self._messages[:number] for answer in session.receive(message)]
            except ProtocolError:
                return
            refusal = session.give_up(overloaded())
            if refusal:
                yield b"".join(w.grpc(joined(answer)) for answer in (*answers, *refusal))

    def _session(self) -> Session:
        return Session(FakeDecider(self._outcome), ENCODER, STREAM_LIMITS)
