"""The comparison in virtual time: the picker's own pool store and scheduler, and the simulator's engines, on a calendar.

No process, no socket, no clock: thousands of requests in seconds, and the same figures for a seed on every machine. Left out is
what only real parts have: Envoy, the wire, and the time that a choice takes.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Final, NamedTuple, Protocol, TypeAlias

from extproc.domain import Endpoint, InferenceRequest, Load, RequestHead
from extproc.pool import PoolStore
from extproc.scheduling import Cycle
from extproc.simulator import tokens
from extproc.simulator.answers import Answer, AnswerOptions, Speaker
from extproc.simulator.engine import Emission, Engine, EngineConfig
from extproc.simulator.engine import Sequence as EngineSequence
from tests.evaluation.measured import Measured
from tests.evaluation.policies import Policy
from tests.evaluation.scenarios import ENGINE, RESTART_S, SERVERS, Scenario
from tests.evaluation.workload import ANSWER_TOKENS, MODEL, Conversation, body_of, requests_of

_WARM_S: Final = 1.0
"""Before the load begins at 0, so that the picker knows its pool."""
_PAGE_S: Final = 0.002
"""From asking for a page to having it; it says what was true halfway."""
_TIMEOUT_S: Final = 1.0
"""After which a page that is not answered has failed."""

Event: TypeAlias = Callable[[], None]


class Calendar:
    """What happens when."""

    def __init__(self) -> None:
        self.now_s = -_WARM_S
        self._entries: list[tuple[float, int, Event]] = []
        self._numbers = itertools.count()

    def at(self, time_s: float, event: Event) -> None:
        """Events of the same time happen in the order in which they were entered."""
        heapq.heappush(self._entries, (max(time_s, self.now_s), next(self._numbers), event))

    def run(self) -> None:
        """Until there is nothing left."""
        while self._entries:
            self.now_s, _, event = heapq.heappop(self._entries)
            event()


class Server:
    """A model server: an engine, and the steps that it is in."""

    def __init__(self, endpoint: Endpoint, config: EngineConfig, calendar: Calendar) -> None:
        self.endpoint = endpoint
        self.up = True
        self.started_s = 1.0
        self.hits = self.queries = 0
        self.requests = 0
        self._config = config
        self._calendar = calendar
        self._engine = Engine(config)
        self._busy = False
        self._hear: dict[EngineSequence, Callable[[Emission | None], None]] = {}

    def submit(self, sequence: EngineSequence, hear: Callable[[Emission | None], None]) -> None:
        """`hear` is told of each token; None when the server dies."""
        self.requests += 1
        self._engine.add(sequence, self._calendar.now_s)
        self._hear[sequence] = hear
        if not self._busy:
            self._busy = True
            self._calendar.at(self._calendar.now_s, self._stepper(self._engine))

    def page(self) -> Load:
        engine = self._engine
        return Load(
            waiting=float(len(engine.waiting)),
            running=float(len(engine.running)),
            kv_usage=engine.kv.usage,
            kv_block_size=self._config.block_size,
            kv_blocks=self._config.num_blocks,
            kv_usage_mean=engine.kv.usage,
            started_s=self.started_s,
        )

    def kill(self) -> None:
        """Whoever was served hears of it; what comes back is empty."""
        self.up = False
        heard, self._hear = self._hear, {}
        self._engine, self._busy = Engine(self._config), False
        for hear in heard.values():
            hear(None)

    def revive(self) -> None:
        self.up = True
        self.started_s = 1.0 + self._calendar.now_s

    def _stepper(self, engine: Engine) -> Event:
        def step() -> None:
            if engine is not self._engine:
                return  # killed meanwhile
            under_way = engine.schedule(self._calendar.now_s)
            if under_way is None:
                self._busy = False
                return
            self.hits += under_way.cache_hits
            self.queries += under_way.cache_queries

            def finish() -> None:
                if engine is not self._engine:
                    return
                for emission in engine.finish(under_way).emissions:
                    hear = self._hear.pop(emission.sequence) if emission.finished else self._hear[emission.sequence]
                    hear(emission)
                step()

            self._calendar.at(under_way.ends_s, finish)

        return step


class Sent(Protocol):
    """A request on its way."""

    key: str

    def moved(self, key: str) -> None:
        """The endpoint was not there, and another one serves it."""
        ...

    def answered(self) -> None: ...

    def ended(self, status: int) -> None: ...


class Balancer(Protocol):
    """Chooses."""

    def send(self, request: InferenceRequest) -> Sent: ...

    def members(self, endpoints: Sequence[Endpoint]) -> None: ...


class RoundRobin:
    """Each in turn, as a single worker of Envoy's does it."""

    class Going:
        def __init__(self, key: str) -> None:
            self.key = key

        def moved(self, key: str) -> None:
            self.key = key

        def answered(self) -> None:
            pass

        def ended(self, status: int) -> None:
            pass

    def __init__(self) -> None:
        self._endpoints: Sequence[Endpoint] = ()
        self._next = 0

    def members(self, endpoints: Sequence[Endpoint]) -> None:
        self._endpoints = endpoints

    def send(self, request: InferenceRequest) -> Sent:
        self._next += 1
        return self.Going(self._endpoints[self._next % len(self._endpoints)].key)


class Picker:
    """The pool's store and plugins, called as the stage calls them."""

    def __init__(self, policy: Policy, scenario: Scenario, calendar: Calendar, chance: Random) -> None:
        pages = scenario.pages
        self.store = PoolStore("p", lambda: calendar.now_s, stale_after_s=pages.stale_after_s)
        self.scheduler = policy.blueprint().pool(chance.random, lambda: calendar.now_s, pages.interval_s).scheduler
        self.store.forget = self.scheduler.forget

    class Going:
        def __init__(self, picker: Picker, request: InferenceRequest) -> None:
            self._picker = picker
            self._cycle = Cycle(request)
            scheduled = picker.scheduler.schedule(self._cycle, picker.store.candidates())
            run = scheduled.run
            self._ticket = picker.store.picked(run.candidates.endpoints[run.pick.positions[0]])
            self.key = run.endpoint
            picker.scheduler.picked(self._cycle, scheduled)

        def moved(self, key: str) -> None:
            self._ticket = self._picker.store.move(self._ticket, key)
            self.key = key

        def answered(self) -> None:
            self._picker.scheduler.answered(self._cycle, 200)

        def ended(self, status: int) -> None:
            self._picker.store.release(self._ticket, answered=0 < status < 500)
            self._picker.scheduler.ended(self._cycle, status, self.key)

    def members(self, endpoints: Sequence[Endpoint]) -> None:
        self.store.replace_endpoints(endpoints)

    def send(self, request: InferenceRequest) -> Sent:
        return self.Going(self, request)


class Ask(NamedTuple):
    """A turn as the engine sees it."""

    sequence: EngineSequence
    answer: Answer
    sent_s: float


class Evaluation:
    """One policy in one scenario."""

    def __init__(self, policy: Policy, scenario: Scenario, seed: int) -> None:
        self._scenario = scenario
        self._calendar = Calendar()
        self._speaker = Speaker(mean_tokens=ANSWER_TOKENS)
        workload = scenario.workload(seed)
        self._left = requests_of(workload)
        endpoints = [Endpoint("10.0.0.1", 8000 + number) for number in range(SERVERS)]
        self._servers = {
            each.key: Server(each, _slowed(ENGINE, scenario.slower if not number else 1.0), self._calendar)
            for number, each in enumerate(endpoints)
        }
        self._picker = Picker(policy, scenario, self._calendar, Random(f"picker {seed}")) if _chooses(policy) else None
        self._balancer: Balancer = RoundRobin() if self._picker is None else self._picker
        self._fallback = itertools.cycle(endpoints)
        self._ttft_s: list[float] = []
        self._failed = 0
        self._happen(endpoints)
        for conversation in workload:
            self._calendar.at(conversation.turns[0].at_s, self._turn(conversation, []))

    def run(self) -> Measured:
        self._calendar.run()
        servers = self._servers.values()
        return Measured(
            self._ttft_s,
            sum(each.hits for each in servers),
            sum(each.queries for each in servers),
            self._failed,
            [each.requests for each in servers],
        )

    # -- what happens to the servers -----------------------------------------------------------------------------

    def _happen(self, endpoints: Sequence[Endpoint]) -> None:
        scenario, calendar = self._scenario, self._calendar
        if scenario.joins_at_s is None:
            self._balancer.members(endpoints)
        else:
            self._balancer.members(endpoints[:-1])
            calendar.at(scenario.joins_at_s, lambda: self._balancer.members(endpoints))
        if scenario.restart_at_s is not None:
            for each in endpoints[: SERVERS // 2]:
                calendar.at(scenario.restart_at_s, self._servers[each.key].kill)
                calendar.at(scenario.restart_at_s + RESTART_S, self._servers[each.key].revive)
        if self._picker is not None:
            for number, each in enumerate(endpoints):
                self._scrape(
                    self._picker.store, self._servers[each.key], scenario.pages.interval_s * number / SERVERS - _WARM_S
                )

    def _scrape(self, store: PoolStore, server: Server, at_s: float) -> None:
        pages, calendar, key = self._scenario.pages, self._calendar, server.endpoint.key

        def ask() -> None:
            if not self._left:
                return
            store.page_started(key)
            if pages.hang_at_s is not None and calendar.now_s >= pages.hang_at_s:
                calendar.at(calendar.now_s + _TIMEOUT_S, fail)
            elif not server.up:
                store.page_failed(key, "refused", down=True)
                calendar.at(calendar.now_s + pages.interval_s, ask)
            else:
                calendar.at(calendar.now_s + _PAGE_S / 2, make)
                calendar.at(calendar.now_s + pages.interval_s, ask)

        def fail() -> None:
            store.page_failed(key, "timeout", down=False)
            ask()

        def make() -> None:
            load = server.page()
            calendar.at(calendar.now_s + _PAGE_S / 2, lambda: store.page_read(key, load))

        calendar.at(at_s, ask)

    # -- what is asked -------------------------------------------------------------------------------------------

    def _turn(self, conversation: Conversation, answers: list[str]) -> Event:
        def begin() -> None:
            messages = conversation.messages(answers)
            request = InferenceRequest(RequestHead({}), "/v1/chat/completions", MODEL, payload=body_of(messages))
            sent = self._balancer.send(request)
            while not self._servers[sent.key].up:
                sent.moved(next(self._fallback).key)
            prompt = tokens.encode(tokens.chat_segments(messages))
            answer = self._speaker.answer(prompt, 0, AnswerOptions(ANSWER_TOKENS, ignore_eos=True))
            hashes = tokens.block_hashes([*prompt, *answer.token_ids], ENGINE.block_size)
            sequence = EngineSequence(len(prompt), ANSWER_TOKENS, hashes)
            ask = Ask(sequence, answer, self._calendar.now_s)
            self._servers[sent.key].submit(sequence, self._hearing(conversation, answers, ask, sent))
            sent.answered()  # vLLM sends the headers of a stream before it computes anything

        return begin

    def _hearing(
        self, conversation: Conversation, answers: list[str], ask: Ask, sent: Sent
    ) -> Callable[[Emission | None], None]:
        def hear(emission: Emission | None) -> None:
            if emission is None:
                self._failed += 1
                over(502, ask.answer.piece(1, ask.sequence.emitted))
                return
            if emission.number == 1:
                self._ttft_s.append(self._calendar.now_s - ask.sent_s)
            if emission.finished:
                over(200, ask.answer.text)

        def over(status: int, text: str) -> None:
            sent.ended(status)
            self._left -= 1
            answers.append(text)
            if len(answers) < len(conversation.turns):
                self._calendar.at(conversation.turns[len(answers)].at_s, self._turn(conversation, answers))

        return hear


def _chooses(policy: Policy) -> bool:
    """Asking takes no time here, so that a picker that nobody obeys is none."""
    return bool(policy.config) and policy.obeyed


def _slowed(config: EngineConfig, factor: float) -> EngineConfig:
    return replace(
        config,
        prefill_tokens_per_s=config.prefill_tokens_per_s / factor,
        step_s=config.step_s * factor,
        step_per_sequence_s=config.step_per_sequence_s * factor,
    )


def evaluate(policy: Policy, scenario: Scenario, seed: int) -> Measured:
    """In virtual time. Raises SettingsError when the policy's config does not load."""
    return Evaluation(policy, scenario, seed).run()
