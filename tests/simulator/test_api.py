"""Bodies into what is to be generated; what the comparison with a real server doesn't reach."""

from __future__ import annotations

import json
from typing import Any

import pytest

from extproc.simulator import api, tokens

SERVED = api.ServedModel(("base", "alias"), ("adapter",), 100)


def chat(**body: Any) -> api.Ask:
    given = {"messages": [{"role": "user", "content": "hello"}]} | body
    return api.chat_ask(api.parse(api.ChatBody, "application/json", json.dumps(given).encode()), SERVED)


def complete(**body: Any) -> api.Ask:
    parsed = api.parse(api.CompletionBody, "application/json; charset=utf-8", json.dumps(body).encode())
    return api.completion_ask(parsed, SERVED)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("text", [tokens.encode([b"text"])]),
        (["a", "b"], [tokens.encode([b"a"]), tokens.encode([b"b"])]),
        ([5, 6, 7], [[5, 6, 7]]),
        ([[5], [6, 7]], [[5], [6, 7]]),
    ],
)
def test_prompts(prompt: Any, expected: list[list[int]]) -> None:
    assert list(complete(prompt=prompt).prompts) == expected


@pytest.mark.parametrize("prompt", [None, "", [], [""], [[]], ["a", ""]])
def test_no_prompt(prompt: Any) -> None:
    with pytest.raises(api.ApiError, match="must be provided and non-empty"):
        complete(prompt=prompt)


@pytest.mark.parametrize(("model", "lora"), [(None, None), ("", None), ("alias", None), ("adapter", "adapter")])
def test_models(model: str | None, lora: str | None) -> None:
    assert chat(model=model).lora == lora


def test_limits_of_an_answer() -> None:
    assert complete(prompt="x").options[0].max_tokens == 16  # OpenAI's default for completions
    assert chat().options[0].max_tokens == 100 - tokens.length(tokens.chat_segments([{"role": "user", "content": "hello"}]))
    assert chat(max_tokens=9, max_completion_tokens=5).options[0].max_tokens == 5
    asked = complete(prompt=["x" * 4 * 90, "x"], max_tokens=50)
    assert [options.max_tokens for options in asked.options] == [10, 50]


def test_options_reach_the_model() -> None:
    ask = chat(stop=["a", "b"], seed=3, min_tokens=2, ignore_eos=True, include_stop_str_in_output=True, n=2, cache_salt="s")
    options = ask.options[0]
    assert (options.stop, options.seed, options.min_tokens) == (("a", "b"), 3, 2)
    assert (options.ignore_eos, options.include_stop, ask.n, ask.cache_salt) == (True, True, 2, "s")
    assert chat(stop="a").options[0].stop == ("a",)
    usage = chat(stream=True, stream_options={"continuous_usage_stats": True})
    assert (usage.include_usage, usage.continuous_usage) == (False, False)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"max_completion_tokens": 101}, "max_completion_tokens=101 cannot be greater than max_model_len=100"),
        ({"min_tokens": 7, "max_tokens": 5}, "min_tokens must be from 0 to max_tokens=5, got 7"),
        ({"n": 16385}, "n must be at most 16384, got 16385"),
        ({"stop": ["a", ""]}, "stop cannot contain an empty string"),
    ],
)
def test_refusals(body: dict[str, Any], message: str) -> None:
    with pytest.raises(api.ApiError, match=message) as raised:
        chat(**body)
    assert (raised.value.status, raised.value.kind) == (400, "BadRequestError")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"prompt": "\xff"}', "error parsing the body"),
        (b"[" * 100_000, "error parsing the body"),
        (b'{"prompt": [1, "x"]}', "validation errors:"),
        (b"7", "Input should be a valid dictionary"),
        (json.dumps({"prompt": ["x"] * 20 + [1.5]}).encode(), "...and"),
        (json.dumps({"prompt": 1.5, "model": 3}).encode(), "body.model"),
        (b'{"max_tokens": "' + b"9x" * 300 + b'"}', "...[truncated]"),
    ],
)
def test_bodies_that_can_not_be_read(body: bytes, message: str) -> None:
    with pytest.raises(api.ApiError) as raised:
        api.parse(api.CompletionBody, "application/json", body)
    assert message in raised.value.message
    assert raised.value.status == 400


def test_what_the_standard_library_takes_is_taken() -> None:
    assert api.parse(api.CompletionBody, "application/json", b'{"prompt": "x", "temperature": NaN}').prompt == "x"


@pytest.mark.parametrize("kind", ["", "text/plain", "application/jsonl"])
def test_only_json(kind: str) -> None:
    with pytest.raises(api.ApiError, match="Only 'application/json' is allowed"):
        api.parse(api.ChatBody, kind, b"{}")
