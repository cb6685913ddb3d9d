"""The end of a server of ours, with a real Envoy: who may finish, who is told, how long it takes and what the exit code is."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from extproc.demo.processes import Child
from extproc.demo.traffic import usage_tokens
from tests.e2e import raw
from tests.e2e.parts import Answer, Endpoints, Stack, call, chat, until

pytestmark = [pytest.mark.e2e, pytest.mark.long]

CHAT = "/v1/chat/completions"
Start = Callable[..., contextlib.AbstractContextManager[Stack]]


@pytest.fixture
def start(envoy_binary: Path, endpoints: Endpoints, tmp_path: Path) -> Start:
    @contextlib.contextmanager
    def started(*flags: str, answers: str = "NONE") -> Iterator[Stack]:
        stack = Stack("one-hop", envoy_binary, endpoints, tmp_path, answers=answers, flags=flags)
        try:
            stack.start()
            yield stack
        finally:
            stack.stop()

    return started


class Stopping:
    """SIGTERM on its way: the exit code and how long it took, once it is there."""

    def __init__(self, child: Child) -> None:
        self.code: int | None = None
        self.took_s = 0.0
        self._child = child
        self.pid = child.pid
        self._begun_s = time.monotonic()
        self._thread = threading.Thread(target=self._stop)
        self._thread.start()

    def _stop(self) -> None:
        self.code = self._child.stop(30.0)
        self.took_s = time.monotonic() - self._begun_s

    def done(self) -> int | None:
        self._thread.join(30.0)
        return self.code


def ask(connection: socket.socket, tokens: int, *headers: str) -> None:
    body = json.dumps(chat(max_tokens=tokens, stream=True, ignore_eos=True, stream_options={"include_usage": True})).encode()
    connection.sendall(raw.head(CHAT, f"content-length: {len(body)}", *headers) + body)


def told_tokens(answer: bytes) -> int | None:
    return usage_tokens(b"\n".join(line for line in answer.splitlines() if line.startswith(b"data: ")), stream=True)


@pytest.mark.parametrize("answers", ["NONE", "FULL_DUPLEX_STREAMED"])
def test_an_answer_ends_within_the_drain(start: Start, answers: str) -> None:
    with start("--drain-timeout", "20s", answers=answers) as stack, raw.connected(stack.url) as connection:
        ask(connection, 150)
        first = raw.read_until(connection, b"data: ")
        stopping = Stopping(stack.servers["gateway"])
        until(lambda: call(stack.pages["gateway"], "/readyz").status == 503)
        # What was on its way when Envoy heard of it is still served (RFC 9113, section 6.8).
        until(lambda: call(stack.url, CHAT, chat()).status == 503)
        assert told_tokens(first + raw.read_until(connection, b"[DONE]")) == 150
        assert stopping.done() == 0
        assert stopping.took_s < 10


def test_after_the_drain_answers_go_on_without_us(start: Start) -> None:
    """One that has begun, and one that the model server is still thinking about."""
    with (
        start("--drain-timeout", "300ms") as stack,
        raw.connected(stack.url) as streaming,
        raw.connected(stack.url) as thinking,
    ):
        ask(streaming, 200)
        ask(thinking, 10, "x-sim-fault: slow=1500ms")
        first = raw.read_until(streaming, b"data: ")
        until(lambda: stack.in_flight() == 2)
        stopping = Stopping(stack.servers["gateway"])
        assert stopping.done() == 0
        assert stopping.took_s < 1.4, "the answers are not waited for"
        assert told_tokens(raw.read_until(thinking, b"[DONE]")) == 10
        assert told_tokens(first + raw.read_until(streaming, b"[DONE]")) == 200


def test_after_the_drain_answers_that_pass_through_us_are_cut(start: Start) -> None:
    with (
        start("--drain-timeout", "300ms", answers="FULL_DUPLEX_STREAMED") as stack,
        raw.connected(stack.url) as connection,
    ):
        ask(connection, 400)
        raw.read_until(connection, b"data: ")
        assert Stopping(stack.servers["gateway"]).done() == 0
        with pytest.raises(ConnectionError):
            raw.read_until(connection, b"[DONE]")


def test_after_the_drain_what_is_undecided_is_told(start: Start) -> None:
    """An upload that is stuck does not hold up the end."""
    with start("--drain-timeout", "300ms") as stack, raw.connected(stack.url) as connection:
        connection.sendall(raw.head(CHAT, "content-length: 100") + b'{"model": ')
        until(lambda: stack.streams() == 1)
        stopping = Stopping(stack.servers["gateway"])
        assert raw.read_until(connection, b"\r\n\r\n").startswith(b"HTTP/1.1 503")
        assert stopping.done() == 0
        assert stopping.took_s < 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_at_once(start: Start, number: signal.Signals) -> None:
    with start("--drain-timeout", "60s") as stack, raw.connected(stack.url) as streaming, raw.connected(stack.url) as stuck:
        ask(streaming, 200)
        first = raw.read_until(streaming, b"data: ")
        stuck.sendall(raw.head(CHAT, "content-length: 100") + b'{"model": ')
        until(lambda: stack.streams() == 2)
        gateway = stack.servers["gateway"]
        stopping = Stopping(gateway)
        until(lambda: call(stack.pages["gateway"], "/readyz").status == 503)
        assert stopping.pid is not None
        os.kill(stopping.pid, number)
        assert stopping.done() == 1
        assert stopping.took_s < 4
        assert raw.read_until(stuck, b"\r\n\r\n").startswith(b"HTTP/1.1 503")
        assert told_tokens(first + raw.read_until(streaming, b"[DONE]")) == 200, "which costs it nothing"


def test_before_the_drain_all_is_as_before_for_a_while(start: Start) -> None:
    with start("--shutdown-delay", "1s", "--drain-timeout", "5s") as stack:
        stopping = Stopping(stack.servers["gateway"])
        until(lambda: call(stack.pages["gateway"], "/readyz").status == 503)
        stack.envoy.kill()
        stack.start_envoy()  # whose connection to us is a new one
        assert call(stack.url, CHAT, chat()).status == 200
        assert stopping.done() == 0
        assert 1 <= stopping.took_s < 4


def test_a_server_that_is_killed_under_load(start: Start) -> None:
    """What docs/reliability.md says of it: answers under way are cut, then there is 503, and then it works again."""
    with start() as stack:
        seen: list[str] = []
        stop = threading.Event()

        def work(stream: bool) -> None:
            while not stop.is_set():
                seen.append(_outcome(stack.url, stream))

        workers = [threading.Thread(target=work, args=(number % 2 == 0,)) for number in range(4)]
        for worker in workers:
            worker.start()
        gateway = stack.servers["gateway"]
        until(lambda: seen.count("200") > 20)
        gateway.kill()
        until(lambda: "503" in seen)
        gateway.start()
        stack.wait_server("gateway")
        began = len(seen)
        until(lambda: seen[began:].count("200") > 20)
        stop.set()
        for worker in workers:
            worker.join()
        assert set(seen) <= {"200", "503", "cut"}
        assert seen.count("cut") <= 4
        assert set(seen[began + 20 :]) == {"200"}
        until(stack.idle)


def _outcome(url: str, stream: bool) -> str:
    try:
        answer: Answer = call(url, CHAT, chat(stream=stream, ignore_eos=True, max_tokens=20))
    except Exception as error:
        return "cut" if type(error).__name__ == "IncompleteRead" else repr(error)
    return str(answer.status)
