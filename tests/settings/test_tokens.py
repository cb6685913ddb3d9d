"""Files of tokens: what they may hold, and that no message holds a token."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.settings.base import SettingsError
from extproc.settings.tokens import Grant, Role, TokenTable, load_tokens, read_tokens

TOKEN = "dapi0123456789abcdef"
ROW = {"token": TOKEN, "subject": "alice", "role": "manage"}


def problems(value: object) -> list[str]:
    with pytest.raises(SettingsError) as failed:
        read_tokens(value)
    return list(failed.value.problems)


def test_a_token_is_known_by_itself_or_by_its_hash() -> None:
    digest = hashlib.sha256(b"the-other-token-of-bob").hexdigest().upper()
    table = load_tokens(
        f"""
tokens:
- {{token: {TOKEN}, subject: alice, role: manage}}
- {{token_sha256: {digest}, subject: bob, role: view, endpoints: [chat, team-a-*], groups: [team]}}
""".encode()
    )
    assert table.grant(TOKEN) == Grant("alice", Role.MANAGE)
    assert table.grant("the-other-token-of-bob") == Grant("bob", Role.VIEW, ("chat", "team-a-*"), ("team",))
    for nobody in ("", digest, TOKEN + " ", TOKEN[:-1], "\udcff", TOKEN.upper()):
        assert table.grant(nobody) is None
    assert len(table) == 2
    assert [grant.subject for grant in table] == ["alice", "bob"]
    assert TOKEN not in repr(table)


def test_an_empty_table_knows_nobody() -> None:
    assert TokenTable().grant(TOKEN) is None
    assert read_tokens({"tokens": []}).grant("") is None


@pytest.mark.parametrize(
    ("grant", "role", "endpoint", "allowed"),
    [
        (Grant("x", Role.MANAGE), Role.VIEW, "any", True),
        (Grant("x", Role.QUERY), Role.VIEW, "any", True),
        (Grant("x", Role.QUERY), Role.MANAGE, "any", False),
        (Grant("x", Role.MANAGE, ("chat",)), Role.MANAGE, "chat", True),
        (Grant("x", Role.MANAGE, ("chat",)), Role.VIEW, "chat2", False),
        (Grant("x", Role.MANAGE, ("a-*",)), Role.MANAGE, "a-", True),
        (Grant("x", Role.MANAGE, ("a-*",)), Role.MANAGE, "a-b", True),
        (Grant("x", Role.MANAGE, ("a-*",)), Role.MANAGE, "b-a-", False),
        (Grant("x", Role.VIEW, ("*",)), Role.VIEW, "any", True),
        (Grant("x", Role.VIEW, ("*",)), Role.QUERY, "any", False),
    ],
)
def test_rights(grant: Grant, role: Role, endpoint: str, allowed: bool) -> None:
    assert grant.may(role, endpoint) is allowed


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"token": "short"}, "tokens[0].token: expected text of 16 to 4096 visible ASCII characters"),
        ({"token": "with a space in the middle"}, "tokens[0].token: expected text of 16 to 4096 visible ASCII characters"),
        ({"token": 12345678901234567890}, "tokens[0].token: expected text of 16 to 4096 visible ASCII characters"),
        ({"token": None}, "tokens[0]: neither is given; expected one of token and token_sha256"),
        ({"token_sha256": "0" * 64}, "tokens[0]: both are given; expected one of token and token_sha256"),
        ({"token_sha256": "0" * 63}, "tokens[0].token_sha256: expected the SHA-256 of the token, 64 hexadecimal digits"),
        ({"subject": " "}, "tokens[0].subject: got ' '; expected a name of 1 to 256 printable characters"),
        ({"subject": "a\nb"}, "tokens[0].subject: got 'a\\nb'; expected a name of 1 to 256 printable characters"),
        ({"role": "admin"}, "tokens[0].role: got 'admin'; input should be 'view', 'query' or 'manage'"),
        (
            {"endpoints": ["a*b"]},
            "tokens[0].endpoints[0]: got 'a*b'; expected the name of an endpoint, or the beginning of names with a * behind",
        ),
        ({TOKEN: "x"}, "tokens[0]: unknown key; expected token, token_sha256, subject, role, endpoints, groups"),
    ],
)
def test_what_is_wrong_with_a_row(change: dict[str, Any], expected: str) -> None:
    assert problems({"tokens": [{**ROW, **change}]}) == [expected]


def test_all_problems_at_once_and_with_lines() -> None:
    with pytest.raises(SettingsError) as failed:
        load_tokens(b"tokens:\n- {token: x, role: view}\n- {subject: a, role: b}\n")
    assert list(failed.value.problems) == [
        "line 2: tokens[0].token: expected text of 16 to 4096 visible ASCII characters",
        "line 2: tokens[0].subject: got nothing; expected a value",
        "line 3: tokens[1].role: got 'b'; input should be 'view', 'query' or 'manage'",
    ]


def test_a_token_twice() -> None:
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    rows = [ROW, {"token_sha256": digest, "subject": "bob", "role": "view"}]
    assert problems({"tokens": rows}) == ["tokens[1]: the same token as tokens[0]; expected each token once"]


@pytest.mark.parametrize("value", [None, [], "x", 3, [ROW]])
def test_what_is_no_file_of_tokens(value: object) -> None:
    assert problems(value) == ["expected a map with the key tokens, a list of tokens with subject and role"]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.just(TOKEN),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.sampled_from([*ROW, TOKEN]), inner, max_size=4),
)
ROWS = st.dictionaries(st.sampled_from([*ROW, "token_sha256", "endpoints", "groups", TOKEN]), ANYTHING, max_size=5)


@given(ANYTHING | st.fixed_dictionaries({"tokens": st.lists(ROWS | ANYTHING, max_size=4)}))
def test_no_message_has_a_token(value: object) -> None:
    try:
        read_tokens(value)
    except SettingsError as error:
        for problem in error.problems:
            path, _, _ = problem.partition(":")
            if not any(field in path for field in ("subject", "role", "endpoints", "groups")):
                assert TOKEN not in problem
