"""Conditions of rules: what holds for a request, and which rule hides another."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.domain import InferenceRequest, RequestHead
from extproc.traffic.match import Asking, Matcher, MatchSpec, RuleSpec, Wanted, shadowed


def asking(
    path: str = "/v1/chat/completions", payload: dict[str, Any] | None = None, model: str | None = None, **headers: str
) -> Asking:
    given = {name.replace("_", "-"): value.encode() for name, value in headers.items()}
    return Asking(InferenceRequest(RequestHead(given), path, model, payload=payload), model)


def header(name: str, kind: str, *values: str | bool) -> MatchSpec:
    return MatchSpec(headers=((name, Wanted(kind, values)),))


def field(path: str, kind: str, *values: Any) -> MatchSpec:
    return MatchSpec(body=((path, Wanted(kind, values)),))


def matches(spec: MatchSpec, request: Asking) -> bool:
    return Matcher([spec]).matches(request)


class TestConditions:
    @pytest.mark.parametrize(
        ("kind", "values", "there"),
        [
            ("exact", ("gold",), True),
            ("exact", ("gol",), False),
            ("prefix", ("go",), True),
            ("suffix", ("ld",), True),
            ("suffix", ("go",), False),
            ("one_of", ("silver", "gold"), True),
            ("one_of", ("silver",), False),
            ("present", (True,), True),
            ("present", (False,), False),
        ],
    )
    def test_a_text_wherever_it_stands(self, kind: str, values: tuple[Any, ...], there: bool) -> None:
        assert matches(header("x-tier", kind, *values), asking(x_tier="gold")) is there
        assert matches(MatchSpec(path=Wanted(kind, values)), asking(path="gold")) is there
        assert matches(MatchSpec(model=Wanted(kind, values)), asking(model="gold")) is there
        assert matches(field("tier", kind, *values), asking(payload={"tier": "gold"})) is there
        missing = kind == "present" and values == (False,)
        assert matches(header("x-tier", kind, *values), asking()) is missing
        assert matches(MatchSpec(model=Wanted(kind, values)), asking()) is missing
        assert matches(field("tier", kind, *values), asking(payload={})) is missing

    def test_a_field_inside_others(self) -> None:
        inner = field("metadata.tier.name", "exact", "gold")
        assert matches(inner, asking(payload={"metadata": {"tier": {"name": "gold"}}}))
        others: list[dict[str, Any] | None] = [{"metadata": {"tier": "gold"}}, {"metadata": []}, {"metadata.tier.name": "gold"}]
        for payload in (*others, None):
            assert not matches(inner, asking(payload=payload))

    @pytest.mark.parametrize(
        ("wanted", "value", "is_it"),
        [
            (0, 0, True),
            (1, 1.0, True),
            (1, True, False),
            (True, True, True),
            (True, 1, False),
            (1, "1", False),
            (1, None, False),
        ],
    )
    def test_a_number_is_no_switch_and_no_text(self, wanted: Any, value: Any, is_it: bool) -> None:
        assert matches(field("n", "equals", wanted), asking(payload={"n": value})) is is_it

    def test_all_conditions_of_one_alternative(self) -> None:
        both = header("x-tier", "exact", "gold")._replace(path=Wanted("prefix", ("/v1/",)))
        matcher = Matcher([both, header("x-test", "present", True)])
        assert matcher.matches(asking(x_tier="gold"))
        assert not matcher.matches(asking("/v2/", x_tier="gold"))
        assert matcher.matches(asking("/v2/", x_test=""))

    def test_no_conditions_match_all(self) -> None:
        assert Matcher([]).matches(asking())
        assert Matcher([MatchSpec()]).matches(asking())


TEXTS = st.text("ab", max_size=3)
WANTED = st.one_of(
    st.builds(lambda kind, text: Wanted(kind, (text,)), st.sampled_from(["exact", "prefix", "suffix"]), TEXTS.filter(bool)),
    st.builds(lambda texts: Wanted("one_of", tuple(texts)), st.lists(TEXTS, min_size=1, max_size=3)),
    st.builds(lambda there: Wanted("present", (there,)), st.booleans()),
)
FIELDS = WANTED | st.builds(lambda value: Wanted("equals", (value,)), st.sampled_from([0, 1, True, False, 1.0]))


def compared(names: tuple[str, ...], wanted: st.SearchStrategy[Wanted]) -> st.SearchStrategy[tuple[tuple[str, Wanted], ...]]:
    return st.dictionaries(st.sampled_from(names), wanted, max_size=2).map(lambda each: tuple(each.items()))


SPECS = st.builds(
    MatchSpec,
    headers=compared(("x", "y"), WANTED),
    path=st.none() | WANTED,
    model=st.none() | WANTED,
    body=compared(("f",), FIELDS),
)
ASKED = st.builds(
    lambda path, model, headers, payload: Asking(
        InferenceRequest(RequestHead({name: value.encode() for name, value in headers.items()}), path, payload=payload), model
    ),
    TEXTS,
    st.none() | TEXTS,
    st.dictionaries(st.sampled_from(["x", "y"]), TEXTS),
    st.none() | st.dictionaries(st.just("f"), TEXTS | st.sampled_from([0, 1, True, 1.0, None])),
)


class TestShadows:
    def test_who_comes_first_hides_the_narrower(self) -> None:
        rules = [
            RuleSpec("v1", (MatchSpec(path=Wanted("prefix", ("/v1/",))),)),
            RuleSpec("chat", (MatchSpec(path=Wanted("exact", ("/v1/chat",)), model=Wanted("exact", ("a",))),)),
            RuleSpec("v2", (MatchSpec(path=Wanted("prefix", ("/v2/",))),)),
            RuleSpec("all"),
            RuleSpec("late", (header("x", "exact", "1"),)),
        ]
        assert shadowed(rules) == [("chat", "v1"), ("late", "all")]

    def test_a_number_hides_no_switch(self) -> None:
        assert shadowed([RuleSpec("one", (field("n", "equals", 1),)), RuleSpec("on", (field("n", "equals", True),))]) == []

    @given(st.lists(SPECS, max_size=2), st.lists(SPECS, max_size=2), ASKED)
    def test_what_is_covered_is_matched(self, wide: list[MatchSpec], narrow: list[MatchSpec], request: Asking) -> None:
        one, other = Matcher(wide), Matcher(narrow)
        if one.covers(other) and other.matches(request):
            assert one.matches(request)

    @given(st.lists(SPECS, max_size=3))
    def test_a_rule_covers_itself(self, specs: list[MatchSpec]) -> None:
        assert Matcher(specs).covers(Matcher(specs))
