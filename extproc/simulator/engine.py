"""The engine model: continuous batching as vLLM's scheduler does it, in virtual time.

Nothing here waits or knows a clock. A server waits between `schedule` and `finish` of a step, a discrete-event
simulation puts the end of the step on its calendar; both see the same engine.

The rules, each as in vLLM 0.32 (first come, first served; chunked prefill; preemption by recomputation):

1. A step serves running sequences first, in order, each with the tokens it still has to compute, within a token budget.
2. Blocks run out: the youngest running sequence loses its blocks and goes to the front of the queue.
3. Then waiting sequences join, oldest first, while places, budget and blocks for the whole prompt last, and if nothing
   was preempted in this step. Only one whose adapter does not fit beside the running ones is passed over ("deferred").
4. At least one prompt token is computed, however much is cached: the last one yields the first answer token.
5. A sequence whose known tokens are all computed yields one token at the end of the step.
6. A step lasts `step_s + step_per_sequence_s * sequences + prefill tokens / prefill_tokens_per_s`.

One that vLLM has not: with `first_token_s` a sequence yields its first token that long after it joined at the earliest, and
computes its last prompt token again until then, beside the others.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Literal

from extproc.simulator.kvcache import KvCache

_LONGEST_HOLD_S = 0.005
_ROUNDING_S = 1e-9

State = Literal["new", "waiting", "running", "finished", "aborted"]


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """What the modelled engine is able to do. Times are seconds."""

    block_size: int = 16
    num_blocks: int = 8192
    max_model_len: int = 32768
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    max_loras: int = 4
    prefix_caching: bool = True
    prefill_tokens_per_s: float = 8000.0
    step_s: float = 0.008
    step_per_sequence_s: float = 0.0002
    first_token_s: float = 0.0


@dataclass(slots=True, eq=False)
class Sequence:
    """One prompt and the answer it will get.

    The caller fills the first part: how many tokens come in and out is decided before the engine sees it.
    `block_hashes` name the full blocks of prompt and answer as far as the caller knows them.
    """

    prompt_tokens: int
    output_tokens: int
    block_hashes: list[int] = field(default_factory=list)
    finish_reason: Literal["stop", "length"] = "length"
    lora: str | None = None
    index: int = 0
    """For the caller: which choice of its request this is."""
    max_tokens: int = 0
    """For the statistics: what the request allowed."""

    state: State = "new"
    computed: int = 0
    emitted: int = 0
    cached_tokens: int = 0
    preemptions: int = 0
    held: bool = False
    """Its prompt is computed, and its first token is still to wait."""
    blocks: list[int] = field(default_factory=list)
    arrived_s: float = 0.0
    scheduled_s: float = -1.0
    first_token_s: float = -1.0
    last_token_s: float = -1.0

    @property
    def known(self) -> int:
        """Tokens whose KV the next answer token needs."""
        return self.prompt_tokens + self.emitted

    def __repr__(self) -> str:
        return f"<Sequence {self.state} {self.computed}/{self.known} computed, {self.emitted}/{self.output_tokens} out>"


@dataclass(frozen=True, slots=True)
class Step:
    """A forward pass under way: call `Engine.finish` with it when `ends_s` has come."""

    started_s: float
    duration_s: float
    work: tuple[tuple[Sequence, int], ...]
    prefill_tokens: int
    preempted: int
    cache_queries: int
    cache_hits: int

    @property
    def ends_s(self) -> float:
        return self.started_s + self.duration_s


@dataclass(frozen=True, slots=True)
class Emission:
    """One answer token. `since_s` is the time since the sequence's previous token; for the first, since its arrival."""

    sequence: Sequence
    number: int
    since_s: float
    finished: bool


@dataclass(frozen=True, slots=True)
class StepResult:
    """What a step brought: at most one token for each sequence, in batch order."""

    step: Step
    emissions: tuple[Emission, ...]

    @property
    def finished(self) -> list[Sequence]:
        return [e.sequence for e in self.emissions if e.finished]


class Engine:
    """Queue, batch and cache of one simulated server. Times are the caller's and must not go back."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.kv = KvCache(config.num_blocks, prefix_caching=config.prefix_caching)
        self.running: list[Sequence] = []
        self.waiting: deque[Sequence] = deque()
        self.deferred = 0
        """How many of the waiting were passed over in the last step for their adapter."""
        self._step: Step | None = None

    @property
    def has_work(self) -> bool:
        return bool(self.running or self.waiting)

    def add(self, sequence: Sequence, now_s: float) -> None:
        """Queue a new sequence. ValueError when it could never run to its end."""
        total = sequence.prompt_tokens + sequence.output_tokens
        room = min(self.config.max_model_len, self.config.num_blocks * self.config.block_size)
        if sequence.prompt_tokens < 1 or sequence.output_tokens < 1 or total > room:
            raise ValueError(f"{sequence.prompt_tokens} + {sequence.output_tokens} tokens: not within 1 + 1 and {room}")
        sequence.state = "waiting"
        sequence.arrived_s = now_s
        self.waiting.append(sequence)

    def abort(self, sequence: Sequence) -> None:
        """Forget a sequence, wherever it is; its blocks are free at once. One that is done is left alone."""
        if sequence.state == "waiting":
            self.waiting.remove(sequence)
        elif sequence.state == "running":
            self.running.remove(sequence)
            self._release(sequence)
        else:
            return
        sequence.state = "aborted"

    def schedule(self, now_s: float) -> Step | None:
        """Begin the next step, or None when there is nothing to do. Finish it before scheduling another."""
        if self._step is not None:
            raise RuntimeError("the step before is not finished")
        config = self.config
        work, preempted, budget = self._schedule_running()
        queries = hits = 0
        if not preempted:
            queries, hits = self._admit(work, budget, now_s)
        if not work:
            return None
        prefill = sum(tokens for sequence, tokens in work if not self._decoding(sequence))
        duration = config.step_s + config.step_per_sequence_s * len(work) + prefill / config.prefill_tokens_per_s
        if config.first_token_s:
            duration = max(duration, self._at_least_s(work, now_s))
        self._step = Step(now_s, duration, tuple(work), prefill, preempted, queries, hits)
        return self._step

    def finish(self, step: Step) -> StepResult:
        """End the step that `schedule` returned, as of `step.ends_s`: tokens come out, who is finished frees blocks."""
        if step is not self._step:
            raise RuntimeError("not the step under way")
        self._step = None
        now_s = step.ends_s
        emissions = []
        for sequence, tokens in step.work:
            if sequence.state != "running":
                continue  # aborted while the step ran
            sequence.computed += tokens
            if sequence.computed == sequence.known and self._holds(sequence, now_s):
                sequence.computed -= 1
            elif sequence.computed == sequence.known:
                emissions.append(self._emit(sequence, now_s))
        if any(e.finished for e in emissions):
            self.running = [s for s in self.running if s.state == "running"]
        return StepResult(step, tuple(emissions))

    def step(self, now_s: float) -> StepResult | None:
        """Schedule and finish in one go, for callers that look only at step ends."""
        step = self.schedule(now_s)
        return None if step is None else self.finish(step)

    @staticmethod
    def _decoding(sequence: Sequence) -> bool:
        return (sequence.emitted > 0 or sequence.held) and sequence.computed == sequence.known - 1

    def _holds(self, sequence: Sequence, now_s: float) -> bool:
        sequence.held = sequence.emitted == 0 and now_s < sequence.scheduled_s + self.config.first_token_s - _ROUNDING_S
        return sequence.held

    def _at_least_s(self, work: list[tuple[Sequence, int]], now_s: float) -> float:
        """How long a step lasts in which all wait for their first token: not to their end, as others may join."""
        if not all(sequence.held for sequence, _ in work):
            return 0.0
        left_s = min(sequence.scheduled_s + self.config.first_token_s - now_s for sequence, _ in work)
        return min(left_s, _LONGEST_HOLD_S)

    def _schedule_running(self) -> tuple[list[tuple[Sequence, int]], int, int]:
        """Work of running sequences, how many were preempted, and the token budget left."""
        budget = self.config.max_num_batched_tokens
        work: list[tuple[Sequence, int]] = []
        preempted = 0
        position = 0
        while position < len(self.running) and budget:
            sequence = self.running[position]
            tokens = min(sequence.known - sequence.computed, budget)
            while not self._grow(sequence, sequence.computed + tokens):
                preempted += 1
                if self._preempt_youngest() is sequence:
                    return work, preempted, budget
            work.append((sequence, tokens))
            budget -= tokens
            position += 1
        return work, preempted, budget

    def _admit(self, work: list[tuple[Sequence, int]], budget: int, now_s: float) -> tuple[int, int]:
        """Move waiting sequences into the batch; returns prefix cache tokens asked for and found."""
        config = self.config
        loras = {s.lora for s in self.running if s.lora is not None}
        passed_over: list[Sequence] = []
        queries = hits = 0
        while self.waiting and budget and len(self.running) < config.max_num_seqs:
            sequence = self.waiting[0]
            if sequence.lora is not None and sequence.lora not in loras and len(loras) >= config.max_loras:
                passed_over.append(self.waiting.popleft())
                continue
            matched = self.kv.match(sequence.block_hashes, (sequence.known - 1) // config.block_size)
            if not self.kv.fits(self._blocks(sequence.known) - len(matched), matched):
                break
            self.kv.acquire(matched)
            sequence.blocks = matched
            sequence.computed = len(matched) * config.block_size
            tokens = min(sequence.known - sequence.computed, budget)
            self._grow(sequence, sequence.computed + tokens)
            if not sequence.preemptions:
                sequence.cached_tokens = sequence.computed
                sequence.scheduled_s = now_s
                queries += sequence.known
                hits += sequence.computed
            sequence.state = "running"
            self.running.append(self.waiting.popleft())
            if sequence.lora is not None:
                loras.add(sequence.lora)
            work.append((sequence, tokens))
            budget -= tokens
        self.deferred = len(passed_over)
        self.waiting.extendleft(reversed(passed_over))
        return queries, hits

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self.config.block_size)

    def _grow(self, sequence: Sequence, tokens: int) -> bool:
        """Give `sequence` blocks for `tokens` tokens and make the full ones findable; False when there are too few."""
        have = len(sequence.blocks)
        new = self.kv.allocate(self._blocks(tokens) - have)
        if new is None:
            return False
        sequence.blocks += new
        first = sequence.computed // self.config.block_size
        full = min(tokens // self.config.block_size, len(sequence.block_hashes))
        for position in range(first, full):
            self.kv.store(sequence.blocks[position], sequence.block_hashes[position])
        return True

    def _preempt_youngest(self) -> Sequence:
        sequence = self.running.pop()
        self._release(sequence)
        sequence.computed = 0
        sequence.held = False
        sequence.preemptions += 1
        sequence.state = "waiting"
        self.waiting.appendleft(sequence)
        return sequence

    def _emit(self, sequence: Sequence, now_s: float) -> Emission:
        sequence.emitted += 1
        if sequence.emitted == 1:
            since_s = now_s - sequence.arrived_s
            sequence.first_token_s = now_s
        else:
            since_s = now_s - sequence.last_token_s
        sequence.last_token_s = now_s
        finished = sequence.emitted == sequence.output_tokens
        if finished:
            sequence.state = "finished"
            self._release(sequence)
        return Emission(sequence, sequence.emitted, since_s, finished)

    def _release(self, sequence: Sequence) -> None:
        self.kv.release(sequence.blocks)
        sequence.blocks = []

    def __repr__(self) -> str:
        return f"<Engine {len(self.running)} running, {len(self.waiting)} waiting, {self.kv!r}>"
