"""Who is named to fetch a prompt's cache from."""

from __future__ import annotations

from collections import Counter

import pytest

from extproc.candidates import Candidates, Pick
from extproc.scheduling import Cycle, Scheduled
from extproc.scheduling.facts import PrefixMatch
from extproc.scheduling.plugins.base import Run
from extproc.scheduling.plugins.peer_source import PeerSource, Source
from tests.fakes.candidates import NAN, asking, candidates
from tests.fakes.plugins import figures_of, scheduler_of

HEADER = "x-kv-cache-source-host-port"


def config(matched: list[float], /, **parameters: int) -> str:
    given = ", ".join(f"{key}: {value}" for key, value in parameters.items())
    return f"""
plugins:
- {{type: told-match, parameters: {{matched: {matched}, total: 10, block: 16}}}}
- {{type: p2p-source-producer, parameters: {{{given}}}}}
- {{type: only-these, parameters: {{keys: ["10.0.0.0:8000"]}}}}
"""


def key(number: int) -> str:
    return f"10.0.0.{number}:8000"


def pool(*waiting: float) -> Candidates:
    return candidates(waiting=list(waiting))


def named(text: str, given: Candidates, request_id: str = "r") -> str | None:
    """For a request that the first endpoint computes."""
    scheduler = scheduler_of(text.replace("10.0.0.0:8000", given.endpoints[0].key))
    scheduled = scheduler.schedule(asking({"x-request-id": request_id}), given)
    assert scheduled.run.endpoint == given.endpoints[0].key
    return dict(scheduled.set_headers).get(HEADER)


@pytest.mark.parametrize(
    ("matched", "parameters", "source"),
    [
        ([0, 5, 0], {}, 1),
        ([0, 5, 9], {}, 2),
        ([9, 5, 0], {}, None),  # it has most itself
        ([5, 5, 0], {}, None),
        ([4, 5, 0], {"minCachedTokenDelta": 16}, 1),
        ([4, 5, 0], {"minCachedTokenDelta": 17}, None),
        ([0, 0, 0], {}, None),
    ],
)
def test_who_has_so_many_tokens_more(matched: list[float], parameters: dict[str, int], source: int | None) -> None:
    given = pool(0, 0, 0)
    expected = None if source is None else given.endpoints[source].key
    # Who computes may be drawn as the source where both are within a block; then nobody is named.
    found = {named(config(matched, **parameters), given, f"r{number}") for number in range(20)}
    assert found - {None} == ({expected} if expected else set())


def test_those_within_a_block_are_drawn_by_their_queues() -> None:
    given = pool(0, 0, 3, NAN)
    found = Counter(named(config([0, 9, 9, 8]), given, f"request {number}") for number in range(900))
    one, busy, unknown = [found[given.endpoints[at].key] for at in (1, 2, 3)]
    assert one + busy + unknown == 900
    assert abs(one / 900 - 4 / 9) < 0.06
    assert abs(busy / 900 - 1 / 9) < 0.06
    assert abs(unknown / 900 - 4 / 9) < 0.06


def test_all_attempts_at_a_request_choose_alike() -> None:
    given = pool(0, 0, 0, 0, 0)
    text = config([0, 9, 9, 9, 9])
    assert len({named(text, given, "the same") for _ in range(10)}) == 1
    assert len({named(text, given, f"another {number}") for number in range(40)}) == 4


def test_the_one_that_prefills_computes() -> None:
    plugin = PeerSource("p2p", "match", least_tokens=1, prefill="prefill")
    given = pool(0, 0, 0)
    cycle = asking({"x-request-id": "r"})
    cycle.facts["match"] = PrefixMatch([0.0, 9.0, 9.0], 10, 16.0)
    cycle.facts["p2p"] = Source(given.endpoints[2].key, 144.0)
    serves, prefills = (Run(given, Pick((at,), 0.0)) for at in (0, 1))
    alone = plugin.dress(cycle, Scheduled("decode", {"decode": serves}))
    assert alone.set_headers == ((HEADER, given.endpoints[2].key),)
    both = plugin.dress(cycle, Scheduled("decode", {"decode": serves, "prefill": prefills}))
    assert both.set_headers == (), "who prefills has as much"


def test_it_is_counted_when_the_decision_goes_out() -> None:
    given = pool(0, 0)
    scheduler = scheduler_of(config([0, 9]).replace("10.0.0.0:8000", given.endpoints[0].key))
    cycle: Cycle = asking({"x-request-id": "r"})
    scheduled = scheduler.schedule(cycle, given)
    assert figures_of(scheduler) == {}
    scheduler.picked(cycle, scheduled)
    assert figures_of(scheduler) == {"extproc_kv_sources_named_total": 1}
