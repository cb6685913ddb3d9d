"""A client that leaves, in every phase of a request: nothing stays behind, and the request is counted once."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.e2e import raw
from tests.e2e.parts import Endpoints, Stack, call, chat, until

pytestmark = [pytest.mark.e2e, pytest.mark.long]

CHAT = "/v1/chat/completions"
COUNTED = (
    "inference_objective_request_total",
    "inference_objective_request_duration_seconds_count",
    "extproc_streams_total",
    "inference_objective_running_requests",
)


class Way(NamedTuple):
    """A way to be asked: what Envoy sends us of answers, and our flags."""

    answers: str = "NONE"
    flags: tuple[str, ...] = ()


WAYS: Mapping[str, Way] = {
    "answers stay away": Way(),
    "answers are sent to us": Way("FULL_DUPLEX_STREAMED"),
    "answers are read": Way("FULL_DUPLEX_STREAMED", ("--response-metrics",)),
    "early": Way(flags=("--early",)),
}


@pytest.fixture(scope="module", params=WAYS)
def asked_stack(
    request: pytest.FixtureRequest,
    envoy_binary: Path,
    session_endpoints: Endpoints,
    transport: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    way = WAYS[request.param]
    directory = tmp_path_factory.mktemp("aborts")
    stack = Stack("one-hop", envoy_binary, session_endpoints, directory, transport, answers=way.answers, flags=way.flags)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


@pytest.fixture
def stack(asked_stack: Stack, endpoints: Endpoints) -> Stack:
    return asked_stack


def early(stack: Stack) -> bool:
    return "--early" in stack.servers["gateway"].argv


def sent(body: bytes, *headers: str) -> bytes:
    return raw.head(CHAT, f"content-length: {len(body)}", *headers) + body


def count(stack: Stack) -> list[float]:
    return stack.counted(*COUNTED)


Going = Callable[[Any, Stack], bool]
"""Does what comes before the client leaves; whether the request has been decided on then."""


def head_alone(connection: Any, stack: Stack) -> bool:
    connection.sendall(raw.head(CHAT, "content-length: 1000"))
    until(lambda: stack.streams() == 1)
    return False


def uploading_without_a_model(connection: Any, stack: Stack) -> bool:
    connection.sendall(raw.head(CHAT, "content-length: 500000") + b'{"messages": "' + b"x" * 200_000)
    until(lambda: stack.streams() == 1)
    return False


def uploading(connection: Any, stack: Stack) -> bool:
    connection.sendall(raw.head(CHAT, "content-length: 500000") + json.dumps(chat()).encode()[:-1] + b" " * 200_000)
    until(lambda: stack.streams() == 1 and stack.in_flight() == int(early(stack)))
    return early(stack)


def all_but_the_end(connection: Any, stack: Stack) -> bool:
    body = json.dumps(chat()).encode()
    connection.sendall(raw.head(CHAT, "transfer-encoding: chunked") + raw.chunked(body).removesuffix(b"0\r\n\r\n"))
    until(lambda: stack.streams() == 1 and stack.in_flight() == int(early(stack)))
    return early(stack)


def waiting_for_the_answer(connection: Any, stack: Stack) -> bool:
    connection.sendall(sent(json.dumps(chat()).encode(), "x-sim-fault: hang"))
    until(lambda: stack.in_flight() == 1)
    return True


def in_the_middle_of_the_answer(connection: Any, stack: Stack) -> bool:
    connection.sendall(sent(json.dumps(chat(max_tokens=400, stream=True, ignore_eos=True)).encode()))
    raw.read_until(connection, b"data: ")
    assert stack.in_flight() == 1
    return True


def not_reading_the_answer(connection: Any, stack: Stack) -> bool:
    connection.sendall(sent(json.dumps(chat(max_tokens=400, stream=True, ignore_eos=True)).encode()))
    until(lambda: stack.in_flight() == 1)
    return True


def after_the_answer(connection: Any, stack: Stack) -> bool:
    connection.sendall(sent(json.dumps(chat(max_tokens=2)).encode()))
    raw.read_until(connection, b'"usage"')
    until(stack.idle)  # the connection is kept, and idle
    return True


@pytest.mark.parametrize(
    "going",
    [
        head_alone,
        uploading_without_a_model,
        uploading,
        all_but_the_end,
        waiting_for_the_answer,
        in_the_middle_of_the_answer,
        not_reading_the_answer,
        after_the_answer,
    ],
)
def test_client_leaves(stack: Stack, endpoints: Endpoints, going: Going) -> None:
    before = count(stack)
    with raw.connected(stack.url) as connection:
        decided = going(connection, stack)
    until(stack.idle)
    until(lambda: sum(map(endpoints.running, endpoints.children)) == 0)
    added = [after - was for after, was in zip(count(stack), before, strict=True)]
    assert added == [float(decided), float(decided), 1.0, 0.0]
    assert call(stack.url, CHAT, chat()).status == 200


def test_upstream_dies_in_the_middle_of_the_answer(stack: Stack) -> None:
    before = count(stack)
    body = json.dumps(chat(max_tokens=100, ignore_eos=True, stream=True)).encode()
    with raw.connected(stack.url) as connection:
        connection.sendall(sent(body, "x-sim-fault: drop-after=5"))
        with pytest.raises(ConnectionError, match="data: "):
            raw.read_until(connection, b"[DONE]")
    until(stack.idle)
    assert [after - was for after, was in zip(count(stack), before, strict=True)] == [1, 1, 1, 0]
