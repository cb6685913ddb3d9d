"""Which session and which agent a request is of."""

from __future__ import annotations

from typing import Any

import pytest

from extproc.domain import InferenceRequest
from extproc.scheduling import Cycle
from extproc.scheduling.identity import identity_of
from tests.fakes.candidates import candidates
from tests.fakes.events import head
from tests.fakes.plugins import blueprint_of, make, problems_of


def said(kind: str, parameters: dict[str, object], payload: dict[str, object] | None = None, **headers: Any) -> object:
    asked = InferenceRequest(head(**headers), "/v1/completions", "m", payload=payload)
    return make(kind, parameters).produce(Cycle(asked), candidates(1))


class TestSessionId:
    @pytest.mark.parametrize(
        ("parameters", "headers", "session"),
        [
            ({}, {"x_session_id": " one "}, "one"),
            ({}, {}, ""),
            ({"headerName": "X-Mine"}, {"x_mine": "two", "x_session_id": "one"}, "two"),
            ({"cookieName": "sid"}, {"cookie": 'a=1; sid="three"; sid=four'}, "three"),
            ({"cookieName": "sid"}, {"cookie": "sidx=1;sid; xsid=2"}, ""),
            ({"cookieName": "sid"}, {"cookie": "sid="}, ""),
            ({"cookieName": "sid"}, {}, ""),
        ],
    )
    def test_of_a_header_or_a_cookie(self, parameters: dict[str, object], headers: dict[str, Any], session: str) -> None:
        assert said("session-id-producer", parameters, **headers) == session

    @pytest.mark.parametrize(
        ("payload", "session"),
        [({"user": "five"}, "five"), ({"user": 5}, "two"), ({"user": " "}, "two"), ({}, "two"), (None, "two")],
    )
    def test_the_body_comes_first(self, payload: dict[str, object] | None, session: str) -> None:
        parameters: dict[str, object] = {"bodyField": "user", "headerName": "x-mine"}
        assert said("session-id-producer", parameters, payload, x_mine="two") == session

    def test_of_the_body_alone(self) -> None:
        assert said("session-id-producer", {"bodyField": "user"}, {}, x_session_id="one") == ""

    def test_header_and_cookie_exclude_each_other(self) -> None:
        text = "plugins: [{type: session-id-producer, parameters: {headerName: a, cookieName: b}}]"
        assert "headerName and cookieName exclude each other" in problems_of(text)[0]


class TestAgentIdentity:
    @pytest.mark.parametrize(
        ("headers", "agent"),
        [
            ({}, ""),
            ({"session_id": "a"}, "a"),
            ({"x_session_affinity": "b", "session_id": "a"}, "b"),
            ({"x_claude_code_session_id": "c", "x_session_affinity": "b"}, "c"),
            ({"x_my_agent": "d", "x_claude_code_session_id": "c"}, "d"),
            ({"x_my_agent": " ", "x_claude_code_session_id": "c"}, "c"),
            ({"x_my_agent": "e" * 1000}, "e" * 256),
        ],
    )
    def test_the_first_header_that_says_something(self, headers: dict[str, Any], agent: str) -> None:
        assert said("agent-identity", {"additionalSessionHeaders": ["X-My-Agent"]}, **headers) == agent

    def test_a_blueprint_says_where_the_fairness_id_is_looked_for(self) -> None:
        assert blueprint_of("plugins: [{type: queue-scorer}]").agent_headers == ()
        text = "plugins: [{type: agent-identity, parameters: {additionalSessionHeaders: [X-A]}}]"
        blueprint = blueprint_of(text)
        assert blueprint.agent_headers == ("x-a", "x-claude-code-session-id", "x-session-affinity", "session-id", "session_id")
        assert blueprint.producers == (), "nobody else asks for it"
        assert identity_of(head(session_id="s", x_a=" "), blueprint.agent_headers) == "s"
