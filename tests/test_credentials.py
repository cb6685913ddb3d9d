from __future__ import annotations

import copy
import json
import pickle
import reprlib
from typing import NamedTuple

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.credentials import Reference, Secret, parse_reference, redacted
from extproc.errors import InvalidReference
from tests.fakes.fuzz import examples

KEY = "sk-live-0123456789"


class Holder(NamedTuple):
    name: str
    secret: Secret


def test_a_secret_shows_itself_only_when_asked() -> None:
    secret = Secret(KEY)
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r:>40}",
        f"{secret:>40}",
        "%s %r" % (secret, secret),  # noqa: UP031
        repr(Holder("openai", secret)),
        repr({"secret": [secret]}),
        reprlib.repr(secret),
        str(dir(secret)),
    ]
    assert all(KEY not in text and "sk-live" not in text for text in shown)
    assert secret.reveal() == KEY
    assert copy.deepcopy(Holder("openai", secret)).secret is copy.copy(secret) is secret


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_secret_is_not_stored(protocol: int) -> None:
    with pytest.raises(TypeError, match="not to be stored"):
        pickle.dumps(Holder("openai", Secret(KEY)), protocol)
    for dumps in (json.dumps, orjson.dumps):
        with pytest.raises(TypeError) as error:
            dumps(Secret(KEY))
        assert KEY not in str(error.value)


def test_secrets_compare_by_their_text() -> None:
    assert Secret(KEY) == Secret(KEY)
    assert hash(Secret(KEY)) == hash(Secret(KEY))
    assert Secret(KEY) != Secret(KEY + "0")
    assert Secret("\udc80") != Secret("é")
    assert Secret(KEY) != KEY


@pytest.mark.parametrize(
    ("text", "scope", "key"),
    [
        ("{{secrets/ai/openai}}", "ai", "openai"),
        ("{{ secrets/team-a.x/open_ai.key }}", "team-a.x", "open_ai.key"),
        ("{{secrets/me@example.com/k}}", "me@example.com", "k"),
        ("{{secrets/a/..b}}", "a", "..b"),
    ],
)
def test_references(text: str, scope: str, key: str) -> None:
    reference = parse_reference(text)
    assert reference == Reference(scope, key)
    assert parse_reference(str(reference)) == reference


@pytest.mark.parametrize(
    "value",
    [
        *(KEY, "", None, 7, [], "{{secrets/ai}}", "{{secrets/ai/a/b}}", "{{secret/ai/a}}", "secrets/ai/a", "{secrets/ai/a}"),
        *("{{secrets/../a}}", "{{secrets/a/..}}", "{{secrets/./a}}", "{{secrets/a b/c}}", "{{secrets/a/" + "k" * 129 + "}}"),
        *("{{secrets/a/b}}\n", "x{{secrets/a/b}}", "{{secrets/a/b}}{{secrets/a/b}}", "{{secrets/a/b\0}}"),
    ],
)
def test_what_is_no_reference_is_refused_without_a_quote(value: object) -> None:
    with pytest.raises(InvalidReference) as error:
        parse_reference(value, "openai_config.openai_api_key")
    assert error.value.message == "openai_config.openai_api_key: expected {{secrets/scope/key}}"
    assert error.value.param == "openai_config.openai_api_key"


@given(st.text())
@examples(200)
def test_no_text_leads_out_of_a_folder(text: str) -> None:
    try:
        reference = parse_reference(f"{{{{secrets/{text}}}}}")
    except InvalidReference:
        return
    for part in reference:
        assert "/" not in part
        assert part.strip(".")


def test_what_others_wrote_is_redacted() -> None:
    assert redacted(f"bad key {KEY}, {KEY}", [Secret(KEY)]) == "bad key [redacted], [redacted]"
    assert redacted("a short word", [Secret("short"), Secret("")]) == "a short word"
