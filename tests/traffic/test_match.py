"""Conditions of rules: what holds for a request, and which rule hides another."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.domain import InferenceRequest, RequestHead
from extproc.expressions import BadExpression
from extproc.traffic.conditions import Asking, Wanted, Window
from extproc.traffic.match import Matcher, MatchSpec, RuleSpec, shadowed
from tests.fakes.chance import Draws


def asking(
    path: str = "/v1/chat/completions", payload: dict[str, Any] | None = None, model: str | None = None, **headers: str
) -> Asking:
    given = {name.replace("_", "-"): value.encode() for name, value in headers.items()}
    return Asking(InferenceRequest(RequestHead(given), path, model, payload=payload), model, never, never)


def never() -> float:
    raise AssertionError("nobody asks for the time, or draws, without need")


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


TEXTS = st.sampled_from(["", "a", "b", "ab", "ba", "aab"])
WANTED = st.sampled_from(
    [
        *(Wanted(kind, (text,)) for kind in ("exact", "prefix", "suffix") for text in ("a", "b", "ab")),
        Wanted("one_of", ("a", "ab")),
        Wanted("one_of", ("ab", "b", "")),
        Wanted("present", (True,)),
        Wanted("present", (False,)),
    ]
)
FIELDS = WANTED | st.sampled_from([Wanted("equals", (value,)) for value in (0, 1, True, False, 1.0)])
SPECS = st.builds(
    MatchSpec,
    headers=st.lists(st.tuples(st.sampled_from(["x", "y"]), WANTED), max_size=2).map(tuple),
    path=st.none() | WANTED,
    model=st.none() | WANTED,
    body=st.none().map(lambda _: ()) | FIELDS.map(lambda wanted: (("f", wanted),)),
    regions=st.sampled_from([(), ("a",), ("a", "b")]),
    window=st.none(),
    buckets=st.none(),
    expression=st.just(""),
)


@st.composite
def requests(draw: st.DrawFn) -> Asking:
    values = {name: draw(st.none() | TEXTS) for name in ("x", "y", "x-gateway-region")}
    headers = {name: value.encode() for name, value in values.items() if value is not None}
    field_value = draw(st.none() | TEXTS | st.sampled_from([0, 1, True, 1.0]))
    head = RequestHead(headers)
    model = draw(st.none() | TEXTS)
    return Asking(InferenceRequest(head, draw(TEXTS), payload={"f": field_value}), model, never, never)


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

    @given(st.lists(SPECS, max_size=2), st.lists(SPECS, max_size=2), requests())
    def test_what_is_covered_is_matched(self, wide: list[MatchSpec], narrow: list[MatchSpec], request: Asking) -> None:
        one, other = Matcher(wide), Matcher(narrow)
        if one.covers(other) and other.matches(request):
            assert one.matches(request)

    @given(st.lists(SPECS, max_size=3))
    def test_a_rule_covers_itself(self, specs: list[MatchSpec]) -> None:
        assert Matcher(specs).covers(Matcher(specs))


class TestTime:
    @pytest.mark.parametrize(
        ("window", "moment", "holds"),
        [
            (Window(after_s=100.0), "1970-01-01T00:01:40+00:00", True),
            (Window(after_s=100.0), "1970-01-01T00:01:39+00:00", False),
            (Window(before_s=100.0), "1970-01-01T00:01:40+00:00", False),
            (Window(days=(0,)), "2026-11-30T23:59:00+00:00", True),
            (Window(days=(0,)), "2026-12-01T00:00:00+00:00", False),
            (Window(days=(0,), zone=ZoneInfo("Asia/Tokyo")), "2026-11-29T15:00:00+00:00", True),
            (Window(from_minute=540, to_minute=1020), "2026-11-30T09:00:00+00:00", True),
            (Window(from_minute=540, to_minute=1020), "2026-11-30T17:00:00+00:00", False),
            (Window(from_minute=540, to_minute=1020, zone=ZoneInfo("Europe/Berlin")), "2026-07-01T07:00:00+00:00", True),
            (Window(from_minute=540, to_minute=1020, zone=ZoneInfo("Europe/Berlin")), "2026-12-01T07:00:00+00:00", False),
            (Window(from_minute=1320, to_minute=360), "2026-11-30T23:00:00+00:00", True),
            (Window(from_minute=1320, to_minute=360), "2026-11-30T05:59:00+00:00", True),
            (Window(from_minute=1320, to_minute=360), "2026-11-30T06:00:00+00:00", False),
            (Window(from_minute=1320, to_minute=360, days=(0,)), "2026-12-01T03:00:00+00:00", True),  # of Monday's night
            (Window(from_minute=1320, to_minute=360, days=(0,)), "2026-11-30T03:00:00+00:00", False),
        ],
    )
    def test_windows(self, window: Window, moment: str, holds: bool) -> None:
        now_s = datetime.fromisoformat(moment).timestamp()
        request = Asking(InferenceRequest(RequestHead({}), "/"), None, lambda: now_s, never)
        assert matches(MatchSpec(window=window), request) is holds


class TestShares:
    def test_of_keys_by_the_rules_own_salt(self) -> None:
        one, other = (Matcher([MatchSpec(buckets=2000)], salt) for salt in ("chat/a", "chat/b"))
        users = [b"user-%d" % user for user in range(20_000)]
        asked = [Asking(InferenceRequest(RequestHead({}), "/"), None, never, never, user) for user in users]
        assert (one.needs_key, Matcher([MatchSpec()]).needs_key) == (True, False)
        first, second = ({index for index, each in enumerate(asked) if matcher.matches(each)} for matcher in (one, other))
        assert len(first) == pytest.approx(4000, abs=250)  # 4.4 standard deviations
        assert len(first & second) == pytest.approx(800, abs=125)

    def test_without_a_key_it_is_drawn(self) -> None:
        draws = Draws(0.1999, 0.2)
        request = Asking(InferenceRequest(RequestHead({}), "/"), None, never, draws)
        assert [Matcher([MatchSpec(buckets=2000)]).matches(request) for _ in range(2)] == [True, False]


class TestExpressions:
    def test_with_everything_that_it_may_name(self) -> None:
        text = (
            'headers["x-tier"] == "gold" && path == "/v1" && method == "POST" && model == "m" && body.n == 1'
            ' && subject == "ci" && "staff" in groups && region == "eu" && now.getFullYear() == 1970'
        )
        head = RequestHead({":method": b"POST", "x-tier": b"gold", "x-gateway-region": b"eu"})
        request = Asking(
            InferenceRequest(head, "/v1", payload={"n": 1}), "m", lambda: 0.0, never, subject="ci", groups=("staff",)
        )
        assert matches(MatchSpec(expression=text), request)
        assert request.failed == 0

    def test_a_failure_is_noted_and_does_not_hold(self) -> None:
        request = asking(payload={"n": "text"})
        assert not matches(MatchSpec(expression="body.n > 1"), request)
        assert request.failed == 1

    def test_no_rule_has_one_that_does_not_compile(self) -> None:
        with pytest.raises(BadExpression):
            Matcher([MatchSpec(expression="nothing == 1")])

    def test_the_same_one_hides_itself(self) -> None:
        rule = RuleSpec("a", (MatchSpec(expression='model == "m"'),))
        assert shadowed([rule, rule._replace(name="b")]) == [("b", "a")]
