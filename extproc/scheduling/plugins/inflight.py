"""Our own requests in flight, and their tokens, by endpoint: `inflight-load-producer`.

    tokens of a request at an endpoint = prompt − cached blocks × block size, at least 0
    with `addEstimatedOutputTokens`    + min(prompt × `outputRatio`, what the client asks for at most, the cap)

Each profile that ran counts at whom it picked first. Prompt tokens are done with the first piece of the answer's body, as
upstream has it, and so is who only prefills or encodes; the rest when the request has ended. Where bodies don't come by us, an
answer that is no stream begins with its headers. A stream's headers may come before anything was computed, so its prompt
counts to the end, as nothing else is heard of it; but who only prefills is done then, as it is asked before.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any, Final, cast

from extproc.candidates import Candidates, Column
from extproc.domain import Endpoint, InferenceRequest
from extproc.scheduling import columns
from extproc.scheduling.cycle import Cycle
from extproc.scheduling.facts import IN_FLIGHT, PREFIX_MATCH, PROMPT, InFlight, PrefixMatch, Prompt
from extproc.scheduling.plugins.base import PRODUCER, Clock, Figure, Kit, Need, PluginType, Scheduled
from extproc.scheduling.plugins.parameters_tokens import InFlightLoadParameters

UNANSWERED_S: Final = 300.0
"""A request whose answer has not begun after so long does not count any more (upstream's 5 minutes)."""
ANSWERED_S: Final = 86_400.0
"""Nor does one whose answer takes this long: we hear nothing between its headers and its end."""
SWEEP_S: Final = 60.0
MOST_DUMPED: Final = 100
_MOST_TOKENS: Final = ("max_completion_tokens", "max_tokens", "max_output_tokens")
"""OpenAI's chat, OpenAI's completions and Anthropic's, OpenAI's responses."""


class Cell:
    """What is in flight at an endpoint."""

    __slots__ = ("requests", "slot", "tokens")

    def __init__(self, slot: int) -> None:
        self.requests = 0
        self.tokens = 0.0
        self.slot = slot
        """Where it stands in the columns; -1 when it stands nowhere (any more)."""


class Part:
    """What a request has in flight at an endpoint."""

    __slots__ = ("cell", "output", "prompt", "serves")

    def __init__(self, cell: Cell, prompt: float, output: float, serves: bool) -> None:
        self.cell = cell
        self.prompt = prompt
        self.output = output
        self.serves = serves
        """It serves the request, and is there to the end."""


class Held:
    """What a request has in flight."""

    __slots__ = ("number", "parts", "since_s")

    def __init__(self, number: int, parts: list[Part], since_s: float) -> None:
        self.number = number
        self.parts = parts
        self.since_s = since_s


class InFlightLoad:
    """`inflight-load-producer`. Kept by a number of its own for each request, as clients may send an id twice."""

    def __init__(
        self, name: str, prompt: str, match: str, clock: Clock, *, output_ratio: float = 0.0, most_output: int | None = None
    ) -> None:
        """`prompt` and `match`: who finds these out. `output_ratio` 0: answers don't count."""
        self._name = name
        self._prompt = prompt
        self._match = match
        self._clock = clock
        self._output_ratio = output_ratio
        self._most_output = most_output
        self._cells: dict[str, Cell] = {}
        self._endpoints: Sequence[Endpoint] = ()
        """Those that the columns are of."""
        self._slots: dict[str, int] = {}
        self._requests: Column = []
        self._tokens: Column = []
        self._number = 0
        self._waiting: OrderedDict[int, Held] = OrderedDict()
        """Whose answers have not begun, the oldest first."""
        self._answered: OrderedDict[int, Held] = OrderedDict()
        self._swept_s = clock()
        self._reaped = 0

    # -- deciding ------------------------------------------------------------------------------------------------

    def produce(self, cycle: Cycle, candidates: Candidates) -> object:
        if candidates.endpoints is not self._endpoints:
            self._lay_out(candidates)
        facts = cycle.facts
        match = cast(PrefixMatch, facts[self._match])
        tokens = float(cast(Prompt, facts[self._prompt]).tokens)
        return InFlight(self._requests, self._tokens, columns.rest_of(tokens, match.matched, float(match.block_tokens)))

    def _lay_out(self, candidates: Candidates) -> None:
        """Columns for these endpoints."""
        self._endpoints = candidates.endpoints
        self._slots = {endpoint.key: slot for slot, endpoint in enumerate(candidates.endpoints)}
        requests, tokens = [0.0] * len(self._slots), [0.0] * len(self._slots)
        for key, cell in self._cells.items():
            cell.slot = self._slots.get(key, -1)
            if cell.slot >= 0:
                requests[cell.slot] = float(cell.requests)
                tokens[cell.slot] = cell.tokens
        self._requests = columns.like(candidates.in_flight, requests)
        self._tokens = columns.like(candidates.in_flight, tokens)

    def tokens_at(self, key: str) -> float:
        """Tokens in flight at an endpoint."""
        cell = self._cells.get(key)
        return 0.0 if cell is None else cell.tokens

    def tells(self, cycle: Cycle) -> object:
        told = cycle.facts.get(self._name)
        if not isinstance(told, InFlight):
            return None
        return {"uncached_tokens": [float(each) for each in told.uncached[:MOST_DUMPED]]}

    # -- accounting ----------------------------------------------------------------------------------------------

    def picked(self, cycle: Cycle, scheduled: Scheduled) -> None:
        load = cast(InFlight, cycle.facts[self._name])
        output = self._output(cycle) if self._output_ratio else 0.0
        primary = scheduled.run.endpoint
        parts: list[Part] = []
        for name, run in scheduled.runs.items():
            serves = name == scheduled.primary
            key = run.endpoint
            if not serves and key == primary:
                continue  # one endpoint does both: it is one request there
            prompt = float(load.uncached[run.place])
            part = Part(self._cell(key), prompt, output if serves else 0.0, serves)
            self._add(part.cell, 1, prompt + part.output)
            parts.append(part)
        now_s = self._clock()
        self._number += 1
        held = Held(self._number, parts, now_s)
        self._waiting[held.number] = held
        cycle.kept[self._name] = held
        if now_s - self._swept_s >= SWEEP_S:
            self._sweep(now_s)

    def answered(self, cycle: Cycle, status: int) -> None:
        held = cast("Held | None", cycle.kept.get(self._name))
        if held is None or self._waiting.pop(held.number, None) is None:
            return
        held.since_s = self._clock()
        self._answered[held.number] = held
        if not cycle.answer_is_seen:
            self._others_are_done(held)

    def prefilled(self, cycle: Cycle) -> None:
        held = cast("Held | None", cycle.kept.get(self._name))
        if held is None or held.number not in self._answered:
            return
        self._others_are_done(held)
        for part in held.parts:
            self._add(part.cell, 0, -part.prompt)
            part.prompt = 0.0

    def _others_are_done(self, held: Held) -> None:
        """Who prefilled or encoded."""
        for part in held.parts:
            if not part.serves:
                self._add(part.cell, -1, -part.prompt)
        held.parts = [part for part in held.parts if part.serves]

    def ended(self, cycle: Cycle, status: int, served: str) -> None:
        held = cast("Held | None", cycle.kept.pop(self._name, None))
        if held is None:
            return
        if self._waiting.pop(held.number, None) is not None or self._answered.pop(held.number, None) is not None:
            self._release(held)

    def forget(self, endpoint: str) -> None:
        """What was in flight there ended with it; what is told of it later changes nothing that counts."""
        cell = self._cells.pop(endpoint, None)
        if cell is not None and cell.slot >= 0:
            self._requests[cell.slot] = self._tokens[cell.slot] = 0.0
            cell.slot = -1

    def _cell(self, key: str) -> Cell:
        cell = self._cells.get(key)
        if cell is None:
            cell = self._cells[key] = Cell(self._slots.get(key, -1))
        return cell

    def _add(self, cell: Cell, requests: int, tokens: float) -> None:
        cell.requests += requests
        cell.tokens = cell.tokens + tokens if cell.requests else 0.0  # so that roundings don't add up
        if cell.slot >= 0:
            self._requests[cell.slot] = float(cell.requests)
            self._tokens[cell.slot] = cell.tokens

    def _release(self, held: Held) -> None:
        for part in held.parts:
            self._add(part.cell, -1, -part.prompt - part.output)
        held.parts = []

    def _sweep(self, now_s: float) -> None:
        self._swept_s = now_s
        for kept, longest_s in ((self._waiting, UNANSWERED_S), (self._answered, ANSWERED_S)):
            while kept:
                number = next(iter(kept))
                if now_s - kept[number].since_s < longest_s:
                    break
                self._release(kept.pop(number))
                self._reaped += 1
        for key in [key for key, cell in self._cells.items() if cell.slot < 0 and not cell.requests]:
            del self._cells[key]

    def _output(self, cycle: Cycle) -> float:
        """How many tokens the answer may have."""
        output = float(round(cast(Prompt, cycle.facts[self._prompt]).tokens * self._output_ratio))
        asked = asked_for_at_most(cycle.asked)
        if asked is not None:
            output = min(output, float(asked))
        return output if self._most_output is None else min(output, float(self._most_output))

    # -- for people ----------------------------------------------------------------------------------------------

    def figures(self) -> Iterable[Figure]:
        doc = "Tokens of ours in flight that an endpoint has to compute: prompts without what is cached, and estimated output."
        figures = [
            Figure("extproc_inflight_tokens", doc, cell.tokens, (("endpoint", key),)) for key, cell in self._cells.items()
        ]
        doc = "Requests that stopped counting as nothing was heard of them for very long."
        figures.append(Figure("extproc_inflight_reaped_total", doc, self._reaped, counts=True))
        return figures

    def dump(self) -> object:
        shown = list(self._cells.items())[:MOST_DUMPED]
        return {
            "unanswered": len(self._waiting),
            "answered": len(self._answered),
            "reaped": self._reaped,
            "endpoints": {key: {"requests": cell.requests, "tokens": cell.tokens} for key, cell in shown},
        }


def asked_for_at_most(request: InferenceRequest) -> int | None:
    """How many tokens the client wants at most; None when it does not say."""
    if request.payload is not None:
        for name in _MOST_TOKENS:
            most = request.payload.get(name)
            if isinstance(most, int) and not isinstance(most, bool) and most > 0:
                return min(most, 2**53)
    return None


def in_flight_need(parameters: Any) -> Need:
    """Of a plugin whose parameters name the producer."""
    return Need(IN_FLIGHT, parameters.in_flight_load_producer_name, "inFlightLoadProducerName")


def match_need(parameters: Any) -> Need:
    """Of a plugin whose parameters name the producer."""
    return Need(PREFIX_MATCH, parameters.prefix_match_info_producer_name, "prefixMatchInfoProducerName")


def _in_flight(parameters: InFlightLoadParameters, kit: Kit) -> InFlightLoad:
    return InFlightLoad(
        kit.name,
        kit.source(),
        kit.source(1),
        kit.clock,
        output_ratio=parameters.output_ratio if parameters.add_estimated_output_tokens else 0.0,
        most_output=parameters.max_estimated_output_tokens,
    )


TYPES: Final = (
    PluginType(
        "inflight-load-producer",
        PRODUCER,
        "requests of ours in flight, and their tokens: prompt − cached, until the first piece of the answer; with "
        "`addEstimatedOutputTokens` also min(prompt × `outputRatio`, what is asked for at most, "
        "`maxEstimatedOutputTokens`), to its end",
        InFlightLoadParameters,
        _in_flight,
        needs=lambda parameters: (Need(PROMPT), match_need(parameters)),
        provides=IN_FLIGHT,
    ),
)
