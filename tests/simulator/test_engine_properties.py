"""Any load on any small engine: limits hold in every step, nothing is lost, the order of arrival is kept."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.simulator import tokens
from extproc.simulator.engine import Engine, EngineConfig, Sequence

BLOCK = 4


@dataclass(frozen=True)
class Arrival:
    """A request: the first `shared` of its prompt's tokens are those that others share."""

    after_s: float
    prompt: int
    shared: int
    output: int
    lora: str | None
    gives_up_after: int | None
    """Steps after which its client goes away."""


def arrivals(loras: bool) -> st.SearchStrategy[list[Arrival]]:
    one = st.builds(
        Arrival,
        after_s=st.sampled_from([0.0, 0.01, 0.1]),
        prompt=st.integers(1, 30),
        shared=st.integers(0, 30),
        output=st.integers(1, 12),
        lora=st.sampled_from([None, "a", "b"]) if loras else st.none(),
        gives_up_after=st.none() | st.integers(0, 12),
    )
    return st.lists(one, min_size=1, max_size=12)


configs = st.builds(
    EngineConfig,
    block_size=st.just(BLOCK),
    num_blocks=st.integers(11, 24),
    max_model_len=st.just(44),
    max_num_seqs=st.integers(1, 5),
    max_num_batched_tokens=st.integers(1, 40),
    max_loras=st.integers(1, 2),
    prefix_caching=st.booleans(),
)


def sequences(load: list[Arrival]) -> list[Sequence]:
    out = []
    for number, arrival in enumerate(load):
        shared = min(arrival.shared, arrival.prompt)
        ids = [*range(shared), *((number + 1) * 1000 + at for at in range(arrival.prompt - shared + arrival.output))]
        hashes = tokens.block_hashes(ids, BLOCK, arrival.lora or "")
        out.append(Sequence(arrival.prompt, arrival.output, block_hashes=hashes, lora=arrival.lora, index=number))
    return out


class Watch:
    """Drives an engine through a load, one step at a time, and looks at it after each."""

    def __init__(self, config: EngineConfig, load: list[Arrival]) -> None:
        self.config = config
        self.engine = Engine(config)
        self.load = load
        self.all = sequences(load)
        self.emitted = dict.fromkeys(self.all, 0)
        self.started: list[Sequence] = []
        self.now_s = 0.0
        self.hits = self.queries = 0

    def run(self) -> None:
        due = []
        at = 0.0
        for arrival, sequence in zip(self.load, self.all, strict=True):
            at += arrival.after_s
            due.append((at, sequence))
        steps = 0
        while due or self.engine.has_work:
            while due and (due[0][0] <= self.now_s or not self.engine.has_work):
                at, sequence = due.pop(0)
                self.now_s = max(self.now_s, at)
                self.engine.add(sequence, at)
            self.step()
            steps += 1
            for arrival, sequence in zip(self.load, self.all, strict=True):
                if arrival.gives_up_after == steps:
                    self.engine.abort(sequence)
            assert steps < 2000, "no progress"

    def step(self) -> None:
        engine, config = self.engine, self.config
        if not engine.has_work:
            return
        step = engine.schedule(self.now_s)
        assert step is not None, "work, but no step"
        self.started += [s for s in engine.running if s not in self.started]
        assert 0 < sum(count for _, count in step.work) <= config.max_num_batched_tokens
        assert len(engine.running) <= config.max_num_seqs
        assert len({s.lora for s in engine.running} - {None}) <= config.max_loras
        self.blocks_add_up()
        result = engine.finish(step)
        assert step.ends_s >= self.now_s
        self.now_s = step.ends_s
        self.queries += step.cache_queries
        self.hits += step.cache_hits
        for emission in result.emissions:
            self.emitted[emission.sequence] += 1
            assert emission.number == self.emitted[emission.sequence]
            assert emission.since_s >= 0
        self.blocks_add_up()

    def blocks_add_up(self) -> None:
        held = [block for sequence in self.all for block in sequence.blocks]
        assert self.engine.kv.used == len(set(held)) <= self.config.num_blocks
        for sequence in self.all:
            if sequence.state == "running":
                assert len(sequence.blocks) * BLOCK >= sequence.computed
            else:
                assert sequence.blocks == []


@settings(max_examples=150, deadline=None)
@given(configs, arrivals(loras=True))
def test_limits_hold_and_nothing_is_lost(config: EngineConfig, load: list[Arrival]) -> None:
    watch = Watch(config, load)
    watch.run()
    assert watch.engine.kv.used == 0
    for sequence in watch.all:
        assert sequence.state in ("finished", "aborted")
        if sequence.state == "finished":
            assert watch.emitted[sequence] == sequence.output_tokens
            assert sequence.arrived_s <= sequence.scheduled_s < sequence.first_token_s <= sequence.last_token_s


@settings(max_examples=60, deadline=None)
@given(configs, arrivals(loras=False))
def test_without_adapters_sequences_start_in_the_order_of_arrival(config: EngineConfig, load: list[Arrival]) -> None:
    watch = Watch(config, load)
    watch.run()
    order = [sequence.index for sequence in watch.started]
    assert order == sorted(order)


@settings(max_examples=60, deadline=None)
@given(arrivals(loras=False))
def test_with_room_enough_hits_are_the_shared_blocks(load: list[Arrival]) -> None:
    """An engine that never evicts or preempts finds exactly the longest block prefix that came before."""
    watch = Watch(EngineConfig(block_size=BLOCK, num_blocks=1000, max_model_len=44), load)
    watch.run()
    seen: set[int] = set()
    expected = 0
    for sequence in watch.started:
        for value in sequence.block_hashes[: (sequence.prompt_tokens - 1) // BLOCK]:
            if value not in seen:
                break
            expected += BLOCK
        seen.update(sequence.block_hashes[: sequence.prompt_tokens // BLOCK])
    assert watch.hits == expected
    assert watch.queries == sum(s.prompt_tokens for s in watch.started)
