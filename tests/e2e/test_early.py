"""Early mode and the deadline for requests, with a real Envoy."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from extproc.demo.stack import LLAMA, PHI4
from tests.e2e import raw
from tests.e2e.parts import Endpoints, Stack, call, chat, until

pytestmark = [pytest.mark.e2e, pytest.mark.long]

CHAT = "/v1/chat/completions"
TIMEOUT = ("--request-timeout", "2s")
FLAGS = {"gateway": ("--early", *TIMEOUT), "bbr": ("--early", *TIMEOUT), "epp": TIMEOUT}
BEGIN = b'{"model":"%b","messages":["' % PHI4.model.encode()
OTHER = b'"],"mod\\u0065l":"%b"}' % LLAMA.model.encode()
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n7\r\ndata: 1\r\n"
WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"


@pytest.fixture(scope="module", params=["one-hop", "two-stage"])
def early_stack(
    request: pytest.FixtureRequest,
    envoy_binary: Path,
    session_endpoints: Endpoints,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp(f"early-{request.param}")
    stack = Stack(request.param, envoy_binary, session_endpoints, directory, flags_of=FLAGS)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


@pytest.fixture
def stack(early_stack: Stack, endpoints: Endpoints) -> Iterator[Stack]:
    yield early_stack
    until(early_stack.idle, what="nothing is under way after the test")


def recorder(stack: Stack, endpoints: Endpoints, early_answer: bytes = b"") -> AbstractContextManager[raw.Recorder]:
    """In the place of phi4-3, which every request for that pool then goes to."""
    for name in ("phi4-1", "phi4-2"):
        endpoints.load(name, waiting=50, kv_usage=0.9)
    endpoints.kill("phi4-3")
    address = endpoints.address("phi4-3")
    until(lambda: stack.known()[address]["state"] == "down")
    found = raw.recorder(endpoints.port_of["phi4-3"], early_answer)
    until(lambda: all(waiting(stack, endpoints.address(name)) == 50 for name in ("phi4-1", "phi4-2")))
    return found


def waiting(stack: Stack, address: str) -> float | None:
    value: float | None = stack.known()[address]["signals"]["waiting"]["value"]
    return value


def fresh(stack: Stack, endpoints: Endpoints) -> None:
    until(lambda: stack.known()[endpoints.address("phi4-3")]["state"] == "fresh")


def rest_of(connection: socket.socket) -> bytes:
    """What comes until the connection ends, in whatever way."""
    data = b""
    try:
        while piece := connection.recv(65536):
            data += piece
    except ConnectionError:
        pass
    return data


def test_an_upload_that_stops_is_answered(stack: Stack) -> None:
    with raw.connected(stack.url) as stopped, raw.connected(stack.url) as decided:
        # The first is decided in one hop, and the deadline is not for it; in two stages it has no body yet.
        decided.sendall(raw.head(CHAT, "content-length: 1000") + (BEGIN if stack.one_hop else b""))
        until(lambda: stack.streams() == 1)
        stopped.sendall(raw.head(CHAT, "content-length: 1000") + b'{"messages": [')
        answer = raw.read_until(stopped, b'"request_timeout"}}')
        assert answer.startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        if stack.one_hop:
            end = b'"],"max_tokens":1}'
            decided.sendall(b"x" * (1000 - len(BEGIN) - len(end)) + end)
            assert raw.read_until(decided, b"\r\n").startswith(b"HTTP/1.1 400")  # by the model server: those are no messages
        else:
            assert raw.read_until(decided, b'"request_timeout"}}').startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("mebibytes", [1, 5])
def test_large_body_is_untouched(stack: Stack, mebibytes: int) -> None:
    body = json.dumps({**chat("phi4"), "user": os.urandom(mebibytes << 19).hex()}).encode()
    answer = call(stack.url, CHAT, body)
    assert (answer.status, answer.headers["x-sim-body-bytes"]) == (200, str(len(body)))
    assert answer.headers["x-sim-body-sha256"] == hashlib.sha256(body).hexdigest()
    assert answer.endpoint.startswith("phi4-")


def test_trailers(stack: Stack) -> None:
    body = json.dumps(chat("phi4", text="x" * 9000)).encode()
    answer = raw.h2_post(stack.url, CHAT, body, {"content-type": "application/json", "trailer": "x-sum"}, {"x-sum": "1"})
    assert json.loads(answer)["model"] == PHI4.model


def test_the_request_is_on_its_way_before_its_body_is_whole(stack: Stack, endpoints: Endpoints) -> None:
    if not stack.one_hop:
        pytest.skip("the picker of the second stage waits for the body")
    with recorder(stack, endpoints) as records:
        fresh(stack, endpoints)
        with raw.connected(stack.url) as connection:
            connection.sendall(raw.head(CHAT, "content-length: 1000") + BEGIN)
            until(lambda: any(BEGIN in seen for seen in records.posted))
            connection.sendall(b"and more")
            until(lambda: any(b"and more" in seen for seen in records.posted))


@pytest.mark.parametrize("early_answer", [b"", STREAM, WHOLE], ids=["no answer yet", "an answer streams", "an answer is over"])
def test_another_model_is_not_served(stack: Stack, endpoints: Endpoints, early_answer: bytes) -> None:
    with recorder(stack, endpoints, early_answer) as records:
        fresh(stack, endpoints)
        with raw.connected(stack.url) as connection:
            connection.sendall(raw.head(CHAT, "transfer-encoding: chunked", "connection: close"))
            connection.sendall(b"%x\r\n%b\r\n" % (len(BEGIN), BEGIN))
            if stack.one_hop:
                until(lambda: any(BEGIN in seen for seen in records.posted))
            else:
                until(lambda: stack.streams() == 2)  # the router has let it go on to the picker
            begun = raw.read_until(connection, early_answer[-2:]) if early_answer and stack.one_hop else b""
            connection.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(OTHER), OTHER))
            answer = begun + rest_of(connection)
        if early_answer and stack.one_hop:
            assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"\r\n0\r\n" not in answer  # a stream is cut, and cut visibly
        else:
            assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "conflicting_model"
        if stack.one_hop:
            # The endpoint sees a request that is never whole.
            until(lambda: len(records.left) == len(records.posted) == 1)
            assert BEGIN in records.left[0]
            assert not records.left[0].endswith(b"0\r\n\r\n")
        else:
            assert records.posted == []
        assert all(LLAMA.model.encode() not in seen for seen in records.posted)
