"""Expressions: what compiles, what is refused and where, what a request makes of them."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc import expressions
from extproc.expressions import FAILED, NO_ANSWER, NUMBER, BadExpression, compiled

VALUES: dict[str, Any] = {
    "headers": {"x-tier": b"gold", "x-name": b"\xe9"},
    "path": "/v1/chat/completions",
    "method": "POST",
    "model": "llama-70b",
    "body": {"metadata": {"tier": "a", "n": 3}, "stream": True, "messages": [{"role": "user"}] * 3},
    "subject": "ci",
    "groups": ["staff"],
    "region": "eu",
    "now": datetime(2026, 1, 1, 12, tzinfo=UTC),
}


class TestMatching:
    @pytest.mark.parametrize(
        "text",
        [
            'headers["x-tier"] == "gold" && model.startsWith("llama")',
            "'x-tier' in headers && !('x-other' in headers)",
            'body.metadata.tier in ["a", "b"] && body.metadata.n > 2',
            "has(body.metadata) && !has(body.other)",
            "body.stream == true // as a client says",
            'size(body.messages) == 3 && body.messages[0].role == "user"',
            'model.matches("^llama-[0-9]+b$")',
            '"staff" in groups || subject == "root"',
            'now > timestamp("2025-12-31T00:00:00Z") && now.getHours("Europe/Berlin") == 13',
            'headers["x-missing"] == "1" || region == "eu"',
            'headers["x-name"] == "é" && path.endsWith("completions") && method == \'POST\'',
        ],
    )
    def test_true(self, text: str) -> None:
        assert compiled(text).matches(VALUES)

    @pytest.mark.parametrize("text", ['headers["x-missing"] == "1"', '!(headers["x-missing"] == "1")', 'body.a.b == "c"'])
    def test_what_is_not_there_is_neither_true_nor_a_failure(self, text: str) -> None:
        assert compiled(text).evaluate(VALUES) == NO_ANSWER
        assert compiled(text).evaluate({}) == NO_ANSWER

    @pytest.mark.parametrize(
        ("text", "body"),
        [
            ("body.n > 1", {"n": "text"}),
            ("1 / int(body.n) == 1", {"n": 0}),
            ("body.n == 1", {"n": 2**70}),
            ('body.n == "a"', {"n": "\ud800"}),
            ("size(body.n) > 1", {"n": [0] * 1001}),
            ("size(body.n) > 1", {"n": ["x" * 70_000]}),
            ("size(body.n) > 1", {"n": {"a": {"b": [[0] * 500, [0] * 600]}}}),
        ],
    )
    def test_what_can_not_be_said_is_false_and_a_failure(self, text: str, body: dict[str, Any]) -> None:
        assert compiled(text).evaluate({"body": body}) == FAILED
        assert not compiled(text).matches({"body": body})

    def test_what_is_nested_without_end(self) -> None:
        deep: list[Any] = []
        for _ in range(100):
            deep = [deep]
        assert compiled("size(body.n) == 1").evaluate({"body": {"n": deep}}) == FAILED

    def test_only_what_it_names_is_handed_over(self) -> None:
        expression = compiled('headers["x-tier"] == "gold" && body.metadata.tier == "a" && "model" != model')
        assert set(expression.names) == {"headers", "body", "model"}
        assert expression.matches({**VALUES, "body": {"metadata": {"tier": "a"}, "messages": ["x" * 100_000]}})

    def test_a_number(self) -> None:
        variables = (("usage.total_tokens", NUMBER), ("usage.prompt_tokens", NUMBER))
        expression = compiled("usage.total_tokens - usage.prompt_tokens * 2.0", variables, gives=NUMBER)
        assert expression.evaluate({"usage.total_tokens": 10.0, "usage.prompt_tokens": 2.0}).value == 6.0
        assert expression.evaluate({"usage.total_tokens": 10.0}) == NO_ANSWER


class TestRefusals:
    @pytest.mark.parametrize(
        ("text", "where", "words"),
        [
            ('headers["x" == 1', (1, 17), "Syntax error"),
            ('model == "a" &&\n  modle == "b"', (2, 3), "undeclared reference to 'modle'"),
            ('model.name == "a"', (1, 6), "expression of type 'string' cannot be the operand of a select operation"),
            ("model + 1 == 2", (1, 7), "no matching overload"),
            ("groups.exists(g, g == model)", (1, 8), "exists is a loop"),
            ("[1, 2].map(x, x * 2) == []", (1, 8), "map is a loop"),
            ("headers[model] == model", (1, 1), "headers is read by a key that stands here"),
            ("size(body) > 1", (1, 6), "body is read by a key that stands here"),
            ('headers["X-Tier"] == "a"', (1, 1), "header names are in lower case here; expected 'x-tier'"),
            ("model.matches(path)", (1, 7), "the pattern of matches stands in the expression"),
            ('model.matches("(" + path)', (1, 7), "the pattern of matches stands in the expression"),
            ("model", (1, 1), "it gives string; expected true or false"),
            ("body.flag", (1, 1), "it gives a value of any type; expected true or false; compare it, as in ... == true"),
            ("(" * 60 + "true" + ")" * 60, (1, 1), "it is nested too deeply"),
            ('model == "\x00"', (1, 11), "a character that is none"),
            ("", (1, 1), "expected text of 1 to 2000 characters"),
            ("true||" * 400 + "true", (1, 1), "expected text of 1 to 2000 characters"),
        ],
    )
    def test_with_their_place(self, text: str, where: tuple[int, int], words: str) -> None:
        with pytest.raises(BadExpression) as raised:
            compiled(text)
        assert (raised.value.line, raised.value.column) == where
        assert words in str(raised.value)

    def test_without_the_library_the_message_says_how_to_get_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "cel_expr_python", None)
        expressions._environment.cache_clear()
        with pytest.raises(BadExpression, match=r"pip install 'extproc\[cel\]'"):
            compiled("true")


ATOMS = st.sampled_from(
    [
        "model",
        "headers",
        '["x"]',
        "body",
        ".n",
        "==",
        "&&",
        "||",
        "!",
        "(",
        ")",
        '"a"',
        "1",
        "in",
        "groups",
        ".all(",
        ".size()",
        "\n",
    ]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(st.text(max_size=50) | st.lists(ATOMS, max_size=12).map(" ".join))
def test_any_text_compiles_or_is_refused_with_its_place(text: str) -> None:
    try:
        expression = compiled(text)
    except BadExpression as error:
        where = (error.line, error.column)
    else:
        where = (1, 1)
        assert isinstance(expression.matches(VALUES), bool)
    assert 1 <= where[0] <= text.count("\n") + 1
    assert where[1] >= 1


@given(
    st.sampled_from(["body.n == 1", "body.n > 1", "size(body.n) > 0", 'body.n.a == "b"', "body.n in [1, 2]", "body.n[0] == 1"]),
    JSON,
)
def test_any_body_gives_an_answer(text: str, value: Any) -> None:
    assert isinstance(compiled(text).matches({"body": {"n": value}}), bool)
