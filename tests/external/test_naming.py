from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.external.naming import MAX_SEARCHED_BYTES, NameRestorer
from tests.external.recorded import CHAT_STREAM, chunk, sse
from tests.fakes.fuzz import examples


def restored(*pieces: bytes, events: bool = True, expected: str = "served", may_hold: bool = True) -> list[bytes]:
    restorer = NameRestorer(expected, "chat", event_stream=events, may_hold=may_hold)
    return [restorer.feed(piece, at == len(pieces) - 1) for at, piece in enumerate(pieces)]


def test_whatever_the_provider_calls_it() -> None:
    body = b'{"id":"1","model": "gpt-4o-2024","choices":[{"text":"\\"model\\":\\"gpt-4o-2024\\"","model":"gpt-4o-2024"}]}'
    (out,) = restored(body, events=False)
    assert out == body.replace(b' "gpt-4o-2024"', b' "chat"').replace(b':"gpt-4o-2024"}', b':"chat"}')


def test_an_empty_name_is_not_the_one() -> None:
    first = sse({**chunk({}), "model": "", "choices": []}, named=False)
    assert restored(first, CHAT_STREAM) == [first, CHAT_STREAM.replace(b'"gpt-4o-mini-2024-07-18"', b'"chat"')]


def test_events_without_a_name_go_on_as_they_come() -> None:
    pieces = [b'data: {"a":1}\n\n', b": comment\n\ndata: {", b'"b":2}\r\n\r\n', b"data: [DONE]\n\n"]
    assert restored(*pieces) == [b'data: {"a":1}\n\n', b": comment\n\n", b'data: {"b":2}\r\n\r\n', b"data: [DONE]\n\n"]


@pytest.mark.parametrize("events", [False, True])
def test_what_is_held_back_has_a_bound(events: bool) -> None:
    pieces = [b"x" * 1000] * 40
    out = restored(*pieces, events=events)
    assert b"".join(out) == b"".join(pieces)
    assert sum(piece == b"" for piece in out) * 1000 < MAX_SEARCHED_BYTES


def test_behind_the_bound_it_is_the_one_that_was_asked_for() -> None:
    lines = b"data: {}\n\n" * 2000
    assert restored(lines, b'data: {"model":"other","x":{"model":"served"}}\n\n')[-1].endswith(
        b'"other","x":{"model":"chat"}}\n\n'
    )


@pytest.mark.parametrize("name", [b"\\ud800", b"\xff", b"x" * 600])
def test_names_that_are_none(name: bytes) -> None:
    body = b'{"model":"' + name + b'"}'
    assert restored(body, events=False) == [body]


@given(st.lists(st.integers(0, len(CHAT_STREAM)), max_size=10).map(sorted))
@examples(100)
def test_any_cut_of_a_stream_gives_the_same(places: list[int]) -> None:
    pieces = [CHAT_STREAM[begin:end] for begin, end in zip([0, *places], [*places, len(CHAT_STREAM)], strict=True)]
    assert b"".join(restored(*pieces)) == CHAT_STREAM.replace(b'"gpt-4o-mini-2024-07-18"', b'"chat"')
