"""Sessions keep to an endpoint: by a token that names it, or by what is kept of their ids."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.candidates import Candidates
from extproc.domain import Endpoint, InferenceRequest
from extproc.scheduling import Cycle, Scheduled, Scheduler
from extproc.scheduling.plugins.sessions import named_by, token_of
from tests.fakes.candidates import REQUEST, candidates
from tests.fakes.clock import FakeClock
from tests.fakes.events import head
from tests.fakes.plugins import figures_of, problems_of, scheduler_of

A, B, C = (f"10.0.0.{number}:8000" for number in (1, 2, 3))


def asked(payload: dict[str, object] | None = None, **headers: Any) -> Cycle:
    return Cycle(InferenceRequest(head(**headers), "/v1/completions", "m", payload=payload))


def token(endpoint: str, namespace: str = "default") -> str:
    return b64encode(f"{namespace}/{endpoint}".encode()).decode()


class TestToken:
    FILTER = "plugins: [{type: session-affinity-filter}]"

    def left(self, text: str, given: Candidates, **headers: Any) -> list[str]:
        scheduler = scheduler_of(text)
        cycle = asked(**headers)
        scheduler.schedule(cycle, given)
        return [row.endpoint.key for row in scheduler.explain(cycle, given)[0].candidates]

    @pytest.mark.parametrize("arrays", [False, True])
    def test_the_filter_leaves_the_endpoint_that_the_token_names(self, arrays: bool) -> None:
        given = candidates(100 if arrays else 3, arrays=arrays)
        assert self.left(self.FILTER, given, x_session_token=token(B)) == [B]

    @pytest.mark.parametrize(
        "value",
        ["", "%%%", token("10.9.9.9:1"), token(B, "elsewhere"), b64encode(b"no slash").decode(), b64encode(b"\xff/a").decode()],
    )
    def test_and_all_for_any_other_token(self, value: str) -> None:
        assert len(self.left(self.FILTER, candidates(3), x_session_token=value)) == 3

    def test_and_all_when_it_is_no_candidate(self) -> None:
        assert self.left(self.FILTER, candidates(3).only([0, 2]), x_session_token=token(B)) == [A, C]

    @pytest.mark.parametrize("arrays", [False, True])
    def test_the_scorer_gives_it_all_points(self, arrays: bool) -> None:
        number = 100 if arrays else 3
        scheduler = scheduler_of("plugins: [{type: session-affinity-scorer}]")
        made = scheduler.schedule(asked(x_session_token=token(B)), candidates(number, arrays=arrays))
        assert list(made.run.pick.totals) == [0, 1, *[0] * (number - 2)]

    def test_the_response_names_who_was_picked(self) -> None:
        made = scheduler_of("plugins: [{type: session-affinity-filter}, {type: session-affinity-scorer}]").schedule(
            asked(x_session_token=token(C)), candidates(3)
        )
        assert made.set_response_headers == (("x-session-token", token(C)),), "once, although two say so"

    def test_of_a_pod_by_namespace_and_name(self) -> None:
        pod = Endpoint("10.0.0.1", 8000, "vllm-0", "prod")
        assert named_by(token_of(pod).encode()) == ("prod", "vllm-0")

    def test_a_header_of_ones_own_and_another_profile(self) -> None:
        text = """
plugins:
- {type: header-profile-handler, parameters: {defaultProfile: a}}
- type: session-affinity-filter
  parameters: {encodedEndpointHeaderConfig: {header: X-Mine}, profileName: b}
schedulingProfiles:
- {name: a, plugins: [{pluginRef: session-affinity-filter}]}
- {name: b, plugins: [{pluginRef: session-affinity-filter}]}
"""
        scheduler = scheduler_of(text)
        assert scheduler.schedule(asked(x_mine=token(B)), candidates(3)).set_response_headers == ()
        made = scheduler.schedule(asked(x_mine=token(B), epp_profile="b"), candidates(3))
        assert made.set_response_headers == (("x-mine", token(B)),)

    @given(st.binary(max_size=2000))
    def test_any_bytes_name_something_or_nothing(self, value: bytes) -> None:
        named = named_by(value)
        assert named is None or all(isinstance(part, str) for part in named)

    @given(st.text(st.characters(codec="utf-8", exclude_characters="/"), max_size=63), st.text(min_size=1, max_size=253))
    def test_a_token_is_read_as_it_was_written(self, namespace: str, name: str) -> None:
        value = b64encode(f"{namespace}/{name}".encode("utf-8", "replace"))
        if len(value) <= 1024 and "\ud800" not in name:
            assert named_by(value) == (namespace, f"{name}".encode("utf-8", "replace").decode())


def by_session(extra: str = "", kind: str = "session-affinity-filter", clock: FakeClock | None = None) -> Scheduler:
    parameters = f"{{strategy: session_id, sessionIdConfig: {{{extra}}}}}"
    return scheduler_of(f"plugins: [{{type: {kind}, parameters: {parameters}}}, {{type: random-picker}}]", clock=clock)


def goes(scheduler: Scheduler, session: str, given: Candidates) -> str:
    """Where a request of the session goes."""
    cycle = asked(x_session_id=session)
    made = scheduler.schedule(cycle, given)
    scheduler.picked(cycle, made)
    scheduler.ended(cycle, 200, "")
    return made.run.endpoint


class TestSessionId:
    @pytest.mark.parametrize("kind", ["session-affinity-filter", "multicluster-session-affinity-filter"])
    def test_a_session_stays_where_it_was_first(self, kind: str) -> None:
        scheduler = by_session(kind=kind)
        first = {str(number): goes(scheduler, str(number), candidates(5)) for number in range(20)}
        assert len(set(first.values())) > 1
        assert {session: goes(scheduler, session, candidates(5)) for session in first} == first

    def test_nothing_is_written_back(self) -> None:
        assert by_session().schedule(asked(x_session_id="s"), candidates(2)).set_response_headers == ()

    def test_deciding_binds_nobody(self) -> None:
        scheduler = by_session()
        for _ in range(3):
            scheduler.schedule(asked(x_session_id="s"), candidates(5))
        assert figures_of(scheduler) == {}

    def test_requests_without_an_id_are_free(self) -> None:
        scheduler = by_session()
        assert len({goes(scheduler, " ", candidates(5)) for _ in range(50)}) > 1
        assert figures_of(scheduler) == {}

    def test_while_its_endpoint_is_no_candidate_it_goes_elsewhere_and_comes_back(self) -> None:
        scheduler = by_session()
        first = goes(scheduler, "s", candidates(3))
        others = [position for position, endpoint in enumerate(candidates(3).endpoints) if endpoint.key != first]
        assert goes(scheduler, "s", candidates(3).only(others)) != first
        assert goes(scheduler, "s", candidates(3)) == first
        assert figures_of(scheduler) == {
            "extproc_sessions": 1,
            "extproc_session_requests_total{bound}": 1,
            "extproc_session_requests_total{kept}": 1,
            "extproc_session_requests_total{elsewhere}": 1,
        }

    def test_an_endpoint_that_leaves_or_starts_anew_frees_its_sessions(self) -> None:
        scheduler = by_session()
        first = goes(scheduler, "s", candidates(3))
        scheduler.forget(first)
        others = [position for position, endpoint in enumerate(candidates(3).endpoints) if endpoint.key != first]
        second = goes(scheduler, "s", candidates(3).only(others))
        assert goes(scheduler, "s", candidates(3)) == second

    def test_sessions_that_are_not_heard_of_are_let_go(self) -> None:
        clock = FakeClock()
        scheduler = by_session("evictionTtlSeconds: 60, evictionSweepSeconds: 5", clock=clock)
        goes(scheduler, "old", candidates(3))
        clock.advance(50)
        goes(scheduler, "young", candidates(3))
        assert scheduler.dump()["session-affinity-filter"]["sessions"] == 2
        clock.advance(20)
        goes(scheduler, "young", candidates(3))
        assert scheduler.dump()["session-affinity-filter"]["sessions"] == 1

    def test_a_session_that_is_heard_of_stays(self) -> None:
        clock = FakeClock()
        scheduler = by_session(clock=clock)
        first = goes(scheduler, "s", candidates(9))
        for _ in range(5):
            clock.advance(299)
            assert goes(scheduler, "s", candidates(9)) == first
        clock.advance(301)
        assert len({goes(scheduler, "s", candidates(9)) for _ in range(2)}) == 1, "bound anew"
        assert figures_of(scheduler)["extproc_session_requests_total{bound}"] == 2

    def test_there_are_never_too_many(self) -> None:
        scheduler = by_session("maxSessions: 10")
        first = goes(scheduler, "first", candidates(3))
        for number in range(9):
            goes(scheduler, str(number), candidates(3))
        assert goes(scheduler, "first", candidates(3)) == first
        for number in range(100):
            goes(scheduler, f"more {number}", candidates(3))
        figures = figures_of(scheduler)
        assert (figures["extproc_sessions"], figures["extproc_sessions_dropped_total"]) == (10, 100)

    def test_the_scorer_may_be_outvoted(self) -> None:
        text = """
plugins:
- {type: session-affinity-scorer, parameters: {strategy: session_id}}
- {type: queue-scorer}
schedulingProfiles:
- name: default
  plugins: [{pluginRef: session-affinity-scorer}, {pluginRef: queue-scorer, weight: 2}]
"""
        scheduler = scheduler_of(text)
        assert goes(scheduler, "s", candidates(waiting=[0, 9])) == A
        assert goes(scheduler, "s", candidates(waiting=[9, 0])) == B
        assert goes(scheduler, "s", candidates(waiting=[4, 4])) == A

    def test_sources_in_their_order(self) -> None:
        sources = "[{header: x-a}, {attribute: agent-identity}, {attribute: SessionID, producer: ids}]"
        text = f"""
plugins:
- {{type: session-affinity-filter, parameters: {{strategy: session_id, sessionIdConfig: {{sources: {sources}}}}}}}
- {{name: ids, type: session-id-producer, parameters: {{cookieName: sid}}}}
- {{type: random-picker}}
"""
        scheduler = scheduler_of(text)

        def picked(**headers: Any) -> Scheduled:
            cycle = asked(**headers)
            made = scheduler.schedule(cycle, candidates(50))
            scheduler.picked(cycle, made)
            return made

        cookie = picked(cookie="x=1; sid=one").run.endpoint
        agent = picked(session_id="two").run.endpoint
        assert picked(cookie="sid=one").run.endpoint == cookie
        assert picked(session_id="two", cookie="sid=one").run.endpoint == agent
        assert picked(x_a="two").run.endpoint == agent, "it is the id that counts, not who says it"

    @pytest.mark.parametrize(
        ("source", "problem"),
        [
            ("{}", "expected one of header and attribute"),
            ("{header: a, attribute: agent-identity}", "expected one of header and attribute"),
            ("{attribute: else}", "attribute: expected one of agent-identity, SessionID, session-id"),
            ("{header: a, producer: b}", "producer: only an attribute has one"),
            ("{attribute: SessionID, producer: nobody}", "sessionIdConfig.sources[0].producer: no plugin is called 'nobody'"),
        ],
    )
    def test_problems(self, source: str, problem: str) -> None:
        parameters = f"{{strategy: session_id, sessionIdConfig: {{sources: [{source}]}}}}"
        (told,) = problems_of(f"plugins: [{{type: session-affinity-filter, parameters: {parameters}}}]")
        assert problem in told


def test_of_a_request_that_was_refused_nothing_is_known() -> None:
    scheduler = by_session()
    scheduler.schedule(Cycle(REQUEST), candidates(1))
    assert scheduler.dump()["session-affinity-filter"]["sessions"] == 0
