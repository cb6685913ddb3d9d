"""Further attempts at a request, where pools are in regions: who serves them, and where."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from extproc import names
from extproc.director import Director
from extproc.domain import Decision, InferenceRequest
from extproc.errors import EntityNotServed, ExtProcError, Saturated
from extproc.live import Live
from extproc.observability.regions import RegionMetrics
from extproc.observability.serving import ServingMetrics
from extproc.protocol import Decide, Finished
from extproc.stages import NO_HOOKS, Again, ChooseRegion, Draft, FindEndpoint, ServeEndpoint, Stage, Step
from extproc.traffic import (
    Catalog,
    CatalogEntry,
    EndpointSpec,
    EntitySpec,
    ExternalSpec,
    Served,
    ServingEndpoint,
    TrafficTable,
)
from extproc.traffic.residency import ResidencySpec
from extproc.traffic.tried import Tried
from tests.fakes.chance import Draws
from tests.fakes.events import head
from tests.stages.test_region import ROUTES, World

BOTH = {"own": "A", "other": "B"}
"""Entities that both pools serve."""


class Asked:
    """A gateway with regions, and requests at its endpoint `chat`; 'w' is at home."""

    def __init__(
        self,
        world: World,
        entities: dict[str, str] = BOTH,
        residency: Sequence[ResidencySpec] = (),
        *,
        fallback: bool = True,
        provider: bool = False,
        behind: Sequence[Stage] = (),
    ) -> None:
        self.tried = Tried()
        entries = [CatalogEntry(name, "", Served(name.lower(), "w", beside=("n",))) for name in ("A", "B")]
        catalog = Catalog(entries, ROUTES, regions=("west", "north", "east"))
        specs = [EntitySpec(name, model) for name, model in entities.items()]
        if provider:
            specs.append(EntitySpec("outside", external=ExternalSpec("gpt", "openai", "llm/v1/chat"), region="west"))
        shares = (100, *[0] * (len(specs) - 1))
        spec = EndpointSpec("chat", tuple(specs), shares, fallback=fallback, residency=tuple(residency))
        again = Again(world.rules, self.tried)
        metrics = ServingMetrics(world.deployment.instruments)
        serve = ServeEndpoint(metrics, Draws(), region_of=world.rules.origin_bytes, again=again)
        region = ChooseRegion(world.rules, RegionMetrics(world.deployment.instruments), Live(ROUTES), again=again)
        find = FindEndpoint(Live(TrafficTable([ServingEndpoint(spec, catalog)])))
        self.director: Director = world.deployment.director(find, serve, region, *behind)

    def decision(self, attempt: int, draw: str = "1") -> Decision:
        more = {names.DRAW_HEADER.replace("-", "_"): draw} if draw else {}
        asked = head("/v1/chat/completions", None, **more)._replace(attempt=attempt)
        decision = self.director.decide(Decide(asked, b'{"messages":[],"model":"chat"}'))
        assert isinstance(decision, Decision)
        return decision

    def tries(self, most: int = 9, draw: str = "1") -> list[str]:
        """The attempts at a request that fails in each of them: entity, pool, and why it is there."""
        out = []
        for attempt in range(1, most + 1):
            try:
                decision = self.decision(attempt, draw)
            except ExtProcError as error:
                out.append(error.code)
                if not error.falls_back:
                    break
                continue
            out.append(told(decision))
            self.director.finished(Finished(decision, 503, True), "")
            if not decision.falls_back:
                break
        return out


def told(decision: Decision) -> str:
    draft = decision.ticket
    assert isinstance(draft, Draft)
    assert draft.entity is not None
    return f"{draft.entity.name} {draft.pool or 'outside'} {draft.placed.reason if draft.placed else ''}"


def test_the_next_entity_is_not_sent_where_the_first_one_failed() -> None:
    asked = Asked(World())
    assert asked.tries() == ["own w local", "other n spill_failed"]
    assert len(asked.tried) == 0


def test_who_spilled_to_a_pool_that_died_comes_home() -> None:
    """Although it is full there."""
    world = World()
    world.full("w")
    assert Asked(world).tries() == ["own n spill_saturated", "other w local"]


def test_a_single_entity_is_served_by_its_other_pool() -> None:
    asked = Asked(World(), {"own": "A"})
    assert asked.tries() == ["own w local", "own n spill_failed"]
    assert len(asked.tried) == 0


def test_after_the_last_entity_those_come_that_another_pool_can_serve() -> None:
    """Here one that only the pool at home serves stands behind one that both do."""
    rule = ResidencySpec("kept", ("west",), entities=("other",))
    assert Asked(World(), BOTH, [rule]).tries() == ["own w local", "other w local", "own n spill_failed"]


def test_an_entity_that_may_not_serve_uses_up_its_turn_and_no_more() -> None:
    world = World()
    world.stores["n"].replace_endpoints([])
    rules = [ResidencySpec("kept", ("north",), entities=("own",))]
    assert Asked(world, BOTH, rules).tries() == ["region_forbidden", "other w local"]


def test_a_pool_that_can_not_serve_is_nowhere_to_go() -> None:
    world = World()
    world.stores["n"].replace_endpoints([])
    assert Asked(world).tries() == ["own w local", "other w local"]


def test_a_provider_has_its_turn_and_no_pool() -> None:
    assert Asked(World(), {"own": "A"}, provider=True).tries() == ["own w local", "outside outside local", "own n spill_failed"]


def test_the_last_one_s_model_is_gone() -> None:
    asked = Asked(World(), {"own": "A", "gone": "nothing"})
    assert asked.tries() == ["own w local", EntityNotServed.code, "own n spill_failed"]


def test_without_fallback_there_is_one_attempt() -> None:
    asked = Asked(World(), fallback=False)
    assert asked.tries() == ["own w local"]
    assert len(asked.tried) == 0


def test_without_a_draw_nobody_remembers() -> None:
    """Each attempt is as the first, and none is made behind the turn."""
    asked = Asked(World())
    assert asked.tries(draw="") == ["own w local", "other w local"]
    assert len(asked.tried) == 0


def test_attempts_end_where_the_one_who_remembers_is_always_another() -> None:
    """As with several gateways behind one Envoy: each of them sees one attempt."""
    world = World()
    for attempt in range(1, 5):
        decision = Asked(world).decision(attempt)
        assert decision.falls_back == (attempt < 4)


@pytest.mark.parametrize(("status", "complete", "kept"), [(200, True, 0), (404, True, 0), (503, True, 1), (200, False, 1)])
def test_who_was_answered_is_forgotten(status: int, complete: bool, kept: int) -> None:
    """What was cut may come again: then the proxy has not passed it on."""
    asked = Asked(World())
    asked.director.finished(Finished(asked.decision(1), status, complete), "")
    assert len(asked.tried) == kept


def test_requests_do_not_know_of_each_other() -> None:
    asked = Asked(World())
    assert [told(asked.decision(1, draw)) for draw in "12"] == ["own w local"] * 2
    assert [told(asked.decision(2, draw)) for draw in "12"] == ["other n spill_failed"] * 2


class Sheds:
    """A stage behind the choice of a pool: that of the home region takes nothing."""

    hooks = NO_HOOKS

    def decide(self, request: InferenceRequest, draft: Draft) -> Step:
        if draft.pool == "w":
            raise Saturated("full")
        return None


def test_one_that_is_refused_behind_the_choice_of_its_pool_was_there() -> None:
    """It is not refused there again and again."""
    asked = Asked(World(), {"own": "A"}, behind=[Sheds()])
    assert asked.tries() == [Saturated.code, "own n spill_failed"]
    assert len(asked.tried) == 0
