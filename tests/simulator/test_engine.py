"""The engine model by example, in virtual time."""

from __future__ import annotations

import pytest

from extproc.simulator.engine import Engine, EngineConfig, Sequence, StepResult

SLOW = {"prefill_tokens_per_s": 1000.0, "step_s": 0.01, "step_per_sequence_s": 0.001}


def engine(**changes: object) -> Engine:
    defaults: dict[str, object] = {"block_size": 4, "num_blocks": 100, "max_model_len": 400, **SLOW}
    return Engine(EngineConfig(**(defaults | changes)))  # type: ignore[arg-type]


def sequence(prompt: int, output: int = 1, *, lora: str | None = None, hashes: list[int] | None = None) -> Sequence:
    return Sequence(prompt, output, block_hashes=hashes or [], lora=lora)


def run(model: Engine, now_s: float = 0.0) -> list[StepResult]:
    """Every step until nothing is left."""
    results = []
    while (result := model.step(now_s)) is not None:
        results.append(result)
        now_s = result.step.ends_s
    return results


def test_one_request_by_the_formula() -> None:
    model, one = engine(), sequence(prompt=20, output=3)
    model.add(one, 5.0)
    steps = run(model, 6.0)
    assert [round(s.step.duration_s, 6) for s in steps] == [0.031, 0.011, 0.011]
    assert [[e.number for e in s.emissions] for s in steps] == [[1], [2], [3]]
    assert [e.finished for s in steps for e in s.emissions] == [False, False, True]
    assert (one.scheduled_s, round(one.first_token_s, 6), round(one.last_token_s, 6)) == (6.0, 6.031, 6.053)
    assert [round(s.emissions[0].since_s, 6) for s in steps] == [1.031, 0.011, 0.011]
    assert steps[-1].finished == [one]
    assert repr(model) == "<Engine 0 running, 0 waiting, <KvCache 0/100 used, 0 cached>>"
    assert repr(one) == "<Sequence finished 22/23 computed, 3/3 out>"


def test_decoding_and_prefill_share_a_step() -> None:
    model, old, new = engine(), sequence(8, 5), sequence(100)
    model.add(old, 0)
    model.step(0)
    model.add(new, 0)
    step = model.schedule(0)
    assert step is not None
    assert step.prefill_tokens == 100
    assert step.duration_s == pytest.approx(0.01 + 2 * 0.001 + 0.1)


def test_long_prompts_take_several_steps() -> None:
    model, long = engine(max_num_batched_tokens=30), sequence(70, 2)
    model.add(long, 0)
    steps = run(model)
    assert [s.step.prefill_tokens for s in steps] == [30, 30, 10, 0]
    assert [len(s.emissions) for s in steps] == [0, 0, 1, 1]


def test_decoding_is_served_before_prompts_within_the_token_budget() -> None:
    model, talking, prompt = engine(max_num_batched_tokens=10), sequence(4, 4), sequence(20)
    model.add(talking, 0)
    model.step(0)
    model.add(prompt, 0)
    step = model.schedule(0)
    assert step is not None
    assert step.work == ((talking, 1), (prompt, 9))


def test_no_more_than_max_num_seqs_run() -> None:
    model = engine(max_num_seqs=2)
    many = [sequence(4, 2) for _ in range(5)]
    for one in many:
        model.add(one, 0)
    assert model.schedule(0) is not None
    assert (model.running, list(model.waiting)) == (many[:2], many[2:])


def test_blocks_for_the_whole_prompt_or_none() -> None:
    model = engine(num_blocks=10, max_model_len=40, max_num_batched_tokens=8)
    first, second, small = sequence(24), sequence(20), sequence(4)
    for one in (first, second, small):
        model.add(one, 0)
    model.schedule(0)
    assert model.running == [first]
    assert list(model.waiting) == [second, small]  # nobody overtakes


def test_a_prefix_is_computed_once() -> None:
    model = engine()
    first, second = sequence(20, 1, hashes=[1, 2, 3, 4, 5]), sequence(20, 1, hashes=[1, 2, 3, 4, 6])
    model.add(first, 0)
    run(model)
    model.add(second, 1)
    (result,) = run(model, 1)
    assert second.cached_tokens == 16
    assert (result.step.prefill_tokens, result.step.cache_queries, result.step.cache_hits) == (4, 20, 16)


def test_even_twins_in_one_step_share() -> None:
    model = engine()
    twins = [sequence(20, 2, hashes=[1, 2, 3, 4, 5]) for _ in range(2)]
    for one in twins:
        model.add(one, 0)
    step = model.schedule(0)
    assert step is not None
    assert [tokens for _, tokens in step.work] == [20, 4]
    assert model.kv.used == 6


def test_the_last_prompt_token_is_always_computed() -> None:
    model = engine()
    for _ in range(2):
        again = sequence(8, 1, hashes=[1, 2])
        model.add(again, 0)
        run(model)
    assert again.cached_tokens == 4


def test_answers_are_cached_too() -> None:
    model = engine()
    model.add(sequence(6, 7, hashes=[1, 2, 3]), 0)
    run(model)
    turn = sequence(17, 1, hashes=[1, 2, 3, 4])
    model.add(turn, 1)
    run(model, 1)
    assert turn.cached_tokens == 12


def test_without_prefix_caching_everything_is_computed() -> None:
    model = engine(prefix_caching=False)
    for _ in range(2):
        again = sequence(8, 1, hashes=[1, 2])
        model.add(again, 0)
        run(model)
    assert again.cached_tokens == 0


def test_the_youngest_is_preempted_and_computes_again() -> None:
    model = engine(num_blocks=5, max_model_len=20)
    old, young = sequence(8, 8), sequence(8, 5)
    model.add(old, 0)
    model.add(young, 0)
    steps = run(model)
    assert (old.preemptions, young.preemptions) == (0, 1)
    assert sum(s.step.preempted for s in steps) == 1
    assert (old.emitted, young.emitted) == (8, 5)
    assert [s for step in steps for s in step.finished] == [old, young]
    again = [s.step.prefill_tokens for s in steps if s.step.prefill_tokens]
    assert again == [16, 9]  # both prompts; later the young one's prompt and its first token
    assert young.scheduled_s == 0.0  # queue time ends with the first start
    assert sum(s.step.cache_queries for s in steps) == 16  # and only that counts as a query


def test_one_that_has_to_preempt_itself_waits() -> None:
    model = engine(num_blocks=4, max_model_len=16)
    old, young = sequence(4, 9), sequence(7, 9)
    model.add(old, 0)
    model.add(young, 0)
    model.step(0)
    while young.state == "running":
        assert model.step(0) is not None
    assert (old.state, young.blocks, list(model.waiting)) == ("running", [], [young])
    run(model)
    assert young.emitted == 9


def test_adapters_that_do_not_fit_are_passed_over() -> None:
    model = engine(max_loras=1)
    a, b, a2, base = (sequence(4, 2, lora=name) for name in ("a", "b", "a", None))
    for one in (a, b, a2, base):
        model.add(one, 0)
    model.step(0)
    assert model.running == [a, a2, base]
    assert (list(model.waiting), model.deferred) == ([b], 1)
    run(model)
    assert (b.state, model.deferred) == ("finished", 0)


def test_aborting_frees_at_once() -> None:
    model = engine(max_num_seqs=1)
    running, waiting = sequence(8, 9), sequence(8, 9)
    model.add(running, 0)
    model.add(waiting, 0)
    step = model.schedule(0)
    assert step is not None
    model.abort(running)
    model.abort(waiting)
    assert (model.kv.used, model.has_work) == (0, False)
    assert model.finish(step).emissions == ()
    assert model.step(0) is None
    model.abort(running)  # again is harmless
    assert running.state == "aborted"


def test_a_finished_one_cannot_be_aborted() -> None:
    model, one = engine(), sequence(4)
    model.add(one, 0)
    run(model)
    model.abort(one)
    assert one.state == "finished"


@pytest.mark.parametrize(("prompt", "output"), [(0, 1), (1, 0), (400, 1)])
def test_what_could_never_finish_is_refused(prompt: int, output: int) -> None:
    with pytest.raises(ValueError, match="not within"):
        engine().add(sequence(prompt, output), 0)


def test_steps_are_finished_in_turn() -> None:
    model = engine()
    model.add(sequence(4, 2), 0)
    step = model.schedule(0)
    assert step is not None
    with pytest.raises(RuntimeError):
        model.schedule(0)
    model.finish(step)
    with pytest.raises(RuntimeError):
        model.finish(step)


class TestTimeToFirstToken:
    CONFIG = EngineConfig(first_token_s=0.1, step_s=0.01, step_per_sequence_s=0.0, prefill_tokens_per_s=1e12)

    def test_the_first_token_waits_and_the_others_follow_at_once(self) -> None:
        engine = Engine(self.CONFIG)
        sequence = Sequence(prompt_tokens=5, output_tokens=3)
        engine.add(sequence, 1.0)
        now_s, times = 1.0, []
        while (result := engine.step(now_s)) is not None:
            now_s = result.step.ends_s
            times += [now_s for _ in result.emissions]
        assert times == pytest.approx([1.1, 1.11, 1.12])
        assert engine.kv.used == 0

    def test_those_that_decode_are_not_held_up(self) -> None:
        engine = Engine(self.CONFIG)
        first, second = Sequence(prompt_tokens=5, output_tokens=30), Sequence(prompt_tokens=5, output_tokens=1)
        engine.add(first, 0.0)
        now_s = 0.0
        while not first.emitted:
            result = engine.step(now_s)
            assert result is not None
            now_s = result.step.ends_s
        engine.add(second, now_s)
        joined_s, seen = now_s, 0
        while not second.emitted:
            result = engine.step(now_s)
            assert result is not None
            now_s = result.step.ends_s
            seen += sum(emission.sequence is first for emission in result.emissions)
        assert second.first_token_s - joined_s == pytest.approx(0.1)
        assert seen == 10

    def test_steps_without_a_duration_of_their_own_do_not_spin(self) -> None:
        engine = Engine(EngineConfig(first_token_s=0.1, step_s=0.0, step_per_sequence_s=0.0, prefill_tokens_per_s=1e12))
        engine.add(Sequence(prompt_tokens=5, output_tokens=1), 0.0)
        now_s, steps = 0.0, 0
        while (result := engine.step(now_s)) is not None:
            now_s, steps = result.step.ends_s, steps + 1
        assert now_s == pytest.approx(0.1, abs=1e-6)
        assert steps <= 22
