"""What happens to the servers under which load, and what must hold of it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from extproc.simulator.engine import EngineConfig
from tests.evaluation.workload import Workload, burst, nothing_shared, one_prompt, shared_prefixes

SERVERS: Final = 6
ENGINE: Final = EngineConfig(block_size=16, num_blocks=1024, max_model_len=8192, prefill_tokens_per_s=8000.0)
"""Of each server. Its cache holds 16,384 tokens, a quarter of what `shared_prefixes` comes to: one alone can't keep it, all
together can."""


class Pages(NamedTuple):
    """How the picker reads pages."""

    interval_s: float = 0.05
    stale_after_s: float = 2.0
    hang_at_s: float | None = None
    """From then on no page is answered."""


class Bars(NamedTuple):
    """What a default must reach, as ratios."""

    hits_least: float | None = None
    """Of prompt tokens found in caches, to round robin."""
    ttft_most: float | None = None
    """Of mean and p95 of the time to the first token, to round robin."""
    against_load_alone: bool = False
    """The same to the picker that knows load alone."""
    against_asked: bool = False
    """The times not to round robin, but to round robin that asks the picker all the same: what asking costs is not judged."""


class Scenario(NamedTuple):
    """One of the comparisons."""

    name: str
    what: str
    workload: Callable[[int], Workload]
    """Takes a seed."""
    bars: Bars
    """What our default must reach."""
    misses: bool = False
    """Upstream's default does not reach it."""
    slower: float = 1.0
    """How many times as long the first server takes."""
    joins_at_s: float | None = None
    """When the last server comes, which is not there before."""
    restart_at_s: float | None = None
    """When the first half of the servers is killed, and started anew."""
    pages: Pages = Pages()
    seeds: int = 1
    """How many loads real parts are given: more where the policies differ by less than two loads do."""

    @property
    def upstreams(self) -> Bars:
        """What upstream's default must reach: the same, or nothing."""
        return Bars() if self.misses else self.bars


RESTART_S: Final = 1.5
"""From a kill to a server that listens again; a process of Python's takes about as long."""
SAME: Final = 1.1
"""Not worse: see docs/evaluation.md for where this comes from."""
ALIKE: Final = Bars(None, SAME, against_asked=True)
"""Where knowing is no help: then it is to do no harm."""

SCENARIOS: Final = (
    Scenario("shared", "30 groups share a prompt, 2 users each, 5 turns", shared_prefixes, Bars(2.0, 1.0, True)),
    Scenario("nothing", "prompts that share nothing", nothing_shared, ALIKE, seeds=2),
    Scenario(
        "beginning",
        "all prompts begin with the same 256 tokens",
        partial(nothing_shared, begins=256),
        ALIKE,
        seeds=2,
    ),
    Scenario("everybody", "all have one long prompt in common", one_prompt, ALIKE, misses=True),
    Scenario(
        "equal",
        "prompts that share nothing, all of one length",
        partial(nothing_shared, within_s=18.0, shortest=1500, longest=1500),
        ALIKE,
        misses=True,
    ),
    Scenario("slow", "one of six takes three times as long", shared_prefixes, Bars(1.0, SAME), slower=3.0),
    Scenario("joins", "the sixth comes midway, empty", shared_prefixes, Bars(1.0, SAME), joins_at_s=7.0),
    Scenario("old", "pages are read each 2 s", shared_prefixes, Bars(1.0, SAME), pages=Pages(2.0, 5.0)),
    Scenario("none", "no page is answered any more", shared_prefixes, Bars(1.0, SAME), pages=Pages(hang_at_s=3.0)),
    Scenario("burst", "500 requests within one interval of the pages", burst, Bars(1.0, SAME)),
    Scenario(
        "restart", "half of them are killed midway and come back empty", shared_prefixes, Bars(1.0, SAME), restart_at_s=7.0
    ),
)
