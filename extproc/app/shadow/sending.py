"""One copy from its place in a pool to its comparison with the live answer."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Final

from extproc import names
from extproc.app.shadow.client import Client
from extproc.app.shadow.connection import AskFailed
from extproc.app.shadow.place import NO_ENDPOINT, NotSent, Place, Places
from extproc.app.shadow.request import served, written
from extproc.app.shadow.states import Hold, Shadowed, States
from extproc.request import ParseOptions
from extproc.shadow import NOTHING_SAID, AnswerText, Bodies, Comparison, LiveAnswer, Side, compared
from extproc.shadow.answer import MOST_COMPARED_BYTES
from extproc.shadow.compare import ANSWERED, GOES_ON, LEFT
from extproc.slices import Slices
from extproc.stages import Copy

TIMEOUT: Final = "timeout"


def held_bytes(copy: Copy) -> int:
    """What a copy counts for in its budget: the request, parsed and as it is sent too, and what is kept of two answers until
    they are compared."""
    return 3 * len(copy.body) + 2 * MOST_COMPARED_BYTES


class Received:
    """The shadow's answer, as it comes."""

    def __init__(self, place: Place, clock: Callable[[], float]) -> None:
        self._place = place
        self._clock = clock
        self.began_s = clock()
        self.status = 0
        self.first_s: float | None = None
        self.ended_s: float | None = None
        self.size_bytes = 0
        self.text: AnswerText | None = None

    def head(self, status: int, headers: dict[str, bytes]) -> None:
        self.status = status
        self.text = AnswerText(headers.get("content-type", b""), headers.get("content-encoding", b""))
        self._place.answered(status)

    def piece(self, piece: bytes) -> None:
        if self.first_s is None:
            self.first_s = self._clock()
            self._place.begun()
        self.size_bytes += len(piece)
        if self.text is not None:
            self.text.feed(piece)

    def side(self, copy: Copy, outcome: str) -> Side:
        """The answer for a comparison."""
        ended_s = self._clock() if self.ended_s is None else self.ended_s
        return Side(
            copy.entity.name,
            self._place.endpoint.key,
            outcome,
            self.status,
            ended_s - self.began_s,
            None if self.first_s is None else self.first_s - self.began_s,
            self.size_bytes,
            said=NOTHING_SAID if self.text is None else self.text.said(),
        )


class Sending:
    """Sends copies and compares. `verdict` hears of each pair: endpoint, the shadow's entity, and whether they are the same."""

    def __init__(
        self,
        places: Places,
        client: Client,
        states: States,
        draw: Callable[[], float],
        options: ParseOptions,
        *,
        verdict: Callable[[str, str, bool | None], None] = lambda endpoint, entity, same: None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`clock` is the stages'."""
        self._places = places
        self._client = client
        self._states = states
        self._draw = draw
        self._options = options
        self._verdict = verdict
        self._clock = clock
        self._slices = Slices()

    async def send(self, copy: Copy, state: Shadowed, hold: Hold) -> None:
        """All of it; who took `hold` lets go of it."""
        try:
            received, outcome = await self._answer(copy)
        except NotSent as error:
            self._states.refused(state, error.reason)
            return
        hold.answered()
        self._states.answered(state, outcome)
        await self._compare(copy, state, received, outcome)

    async def _answer(self, copy: Copy) -> tuple[Received, str]:
        spec = copy.shadow
        pool = self._places.pool(copy.pool)
        if pool is None or copy.entity.problem:
            raise NotSent(NO_ENDPOINT)
        asked = served(copy, pool, self._draw, self._options)
        place = self._places.find(copy.pool, asked.request, spec.max_saturation)
        received = Received(place, self._clock)
        outcome, end_status = ANSWERED, 0
        try:
            endpoint = place.endpoint
            request = written(asked, copy, endpoint.key, place.scheduled.set_headers)
            async with asyncio.timeout(spec.timeout_s):
                await self._client.ask(endpoint.address, endpoint.port, request, received, spec.max_answer_bytes)
            place.begun()
            end_status = received.status
        except TimeoutError:
            outcome = TIMEOUT
        except AskFailed as error:
            outcome = error.outcome
        finally:
            received.ended_s = self._clock()
            tokens = None if received.text is None else received.text.usage.completion
            ttft_s = None if received.first_s is None else received.first_s - received.began_s
            place.leave(end_status, ttft_s, tokens)
        return received, outcome

    async def _compare(self, copy: Copy, state: Shadowed, received: Received, outcome: str) -> None:
        live, spec = copy.live, copy.shadow
        if live.ended_s is None:
            await _end_of(live, spec.timeout_s)
        async with self._slices.turn():
            one = live_side(copy)
        async with self._slices.turn():
            other = received.side(copy, outcome)
        async with self._slices.turn():
            found = compared(one, other, min_similarity=spec.min_similarity, max_difference=spec.max_difference)
            bodies = _bodies(copy, one, other)
            request_id = copy.request.head.text(names.REQUEST_ID_HEADER)
            self._states.compared(state, request_id, one, other, found, bodies)
            self._tell(copy, found)

    def _tell(self, copy: Copy, found: Comparison) -> None:
        self._verdict(copy.endpoint.name, copy.entity.name, found.same)


def live_side(copy: Copy) -> Side:
    """The live answer for a comparison."""
    live = copy.live
    whole = live.status > 0 and (live.complete or not live.seen)
    return Side(
        copy.live_entity,
        live.served,
        GOES_ON if live.ended_s is None else ANSWERED if whole else LEFT,
        live.status,
        None if live.ended_s is None else live.ended_s - live.started_s,
        None if live.first_s is None else live.first_s - live.started_s,
        live.size_bytes,
        live.seen,
        NOTHING_SAID if live.text is None else live.text.said(),
    )


async def _end_of(live: LiveAnswer, timeout_s: float) -> None:
    """Wait for it, but no longer than that."""
    done = asyncio.get_running_loop().create_future()

    def end() -> None:
        if not done.done():
            done.set_result(None)

    live.listeners.append(end)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await done


def _bodies(copy: Copy, live: Side, shadow: Side) -> Bodies | None:
    most = copy.shadow.kept_body_bytes
    if not most:
        return None
    return Bodies(copy.body[:most], _cut(live.said.text, most), _cut(shadow.said.text, most))


def _cut(text: str | None, most: int) -> str:
    """At most so many bytes of it."""
    return "" if text is None else text.encode("utf-8", "replace")[:most].decode("utf-8", "ignore")
