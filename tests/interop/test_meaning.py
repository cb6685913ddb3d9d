"""A rendered rule has the requests that the gateway's own rule has, but for what is said to be left out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc import names
from extproc.control.deliveries import rules_of
from extproc.domain import InferenceRequest, RequestHead
from extproc.interop import Endpoint, Losses, Placing, http_routes, read_endpoint, virtual_service
from extproc.interop.naming import label_of
from extproc.settings.serving import read_create
from extproc.traffic.conditions import Asking
from extproc.traffic.match import Matcher
from tests.fakes.fuzz import examples
from tests.interop.documents import HEADERS, PATHS, VALUES, Document, endpoints
from tests.interop.routers import Asked, gateway_api, istio

MODEL = names.MODEL_HEADER.lower()
REQUESTS = st.lists(
    st.builds(
        Asked,
        st.sampled_from((*PATHS, "/v1/x", "/v2/")),
        st.dictionaries(st.sampled_from((*HEADERS, names.REGION_HEADER, MODEL)), st.sampled_from((*VALUES, "goldold", "x"))),
    ),
    min_size=5,
    max_size=12,
)
Outcome = dict[str, int] | int
"""Shares, or the status of a refusal."""


def never() -> float:
    raise AssertionError("nothing is drawn, and nobody asks for the time")


class Ours:
    """What the gateway does, without what is left out."""

    def __init__(self, document: Document, endpoint: Endpoint, left_out: list[str]) -> None:
        self._split = shares(endpoint.shares)
        self._rules: list[tuple[Matcher, Outcome]] = []
        for index, spec in enumerate(rules_of(read_create(document).config.delivery)):
            where = f"rules[{index}]"
            kept = [each for place, each in enumerate(spec.matches) if not lost(f"{where}.match[{place}]", left_out)]
            if not lost(where, left_out, whole=True) and (kept or not spec.matches):
                refused = spec.refusal.status if spec.refusal is not None else None
                self._rules.append((Matcher(kept), refused or shares(spec.split or ((spec.entity, 100),))))

    def outcome(self, asked: Asked) -> Outcome:
        headers = {name: value.encode() for name, value in asked.headers.items() if name != MODEL}
        model = asked.headers.get(MODEL)
        asking = Asking(InferenceRequest(RequestHead(headers), asked.path, model), model, never, never)
        return next((outcome for matcher, outcome in self._rules if matcher.matches(asking)), self._split)


def shares(given: Any) -> dict[str, int]:
    return {name: share for name, share in given if share}


def lost(where: str, left_out: list[str], *, whole: bool = False) -> bool:
    """`whole`: not if only a part of it is."""
    ends = (f"{where}: left out",) if whole else (f"{where}: left out", f"{where}.")
    return any(line.startswith(ends) and "left out" in line for line in left_out)


@pytest.mark.timeout(180)
@examples(40)
@given(endpoints(), REQUESTS)
def test_istio(document: Document, requests: list[Asked]) -> None:
    losses = Losses()
    endpoint = read_endpoint(document, losses)
    service, _ = virtual_service(endpoint, Placing(), losses)
    ours = Ours(document, endpoint, losses.left_out)
    back = {label_of(each.name): each.name for each in endpoint.entities}
    for asked in requests:
        route = istio(service, asked)
        assert route is not None
        if "directResponse" in route:
            theirs: Outcome = route["directResponse"]["status"]
        else:
            theirs = shares([(back[each["destination"]["subset"]], each["weight"]) for each in route["route"]])
            expect_mirrors(endpoint, theirs, [each["destination"]["subset"] for each in copies(route)])
        assert theirs == ours.outcome(asked)


def copies(route: Any) -> Iterator[Any]:
    if "mirror" in route:
        yield {"destination": route["mirror"]}
    yield from route.get("mirrors", [])


def expect_mirrors(endpoint: Endpoint, theirs: dict[str, int], mirrored: list[str]) -> None:
    """Each shadow gets copies of all that it does not serve alone."""
    assert mirrored == [label_of(each.entity) for each in endpoint.shadows if theirs.get(each.entity) != 100]


@pytest.mark.parametrize("host", ["", "chat.example.com"])
@pytest.mark.timeout(180)
@examples(40)
@given(document=endpoints(), requests=REQUESTS)
def test_gateway_api(host: str, document: Document, requests: list[Asked]) -> None:
    """Whatever place an implementation gives to paths that are patterns."""
    losses = Losses()
    endpoint = read_endpoint(document, losses)
    (route,) = http_routes(endpoint, Placing(host=host), losses)
    ours = Ours(document, endpoint, losses.left_out)
    back = {label_of(f"{endpoint.name}-{each.name}"): each.name for each in endpoint.entities}
    slashes = [line for line in losses.left_out if "without the slash" in line]
    for asked in requests:
        if any(f"{asked.path!r}," in line for line in slashes):
            continue  # as is said
        given = asked if host else asked._replace(headers={**asked.headers, MODEL: endpoint.name})
        expected = ours.outcome(given)
        for patterns_first in (False, True):
            rule = gateway_api(route, given, patterns_first=patterns_first)
            assert rule is not None
            assert shares([(back[each["name"]], each["weight"]) for each in rule["backendRefs"]]) == expected
