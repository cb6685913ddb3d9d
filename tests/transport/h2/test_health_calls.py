"""The health service on a connection: answers, statuses, and watchers that come and go."""

from __future__ import annotations

import pytest
from grpc_health.v1 import health_pb2 as pb

from tests.fakes.http2 import data, headers, message, rst, window, with_path
from tests.fakes.wire import CallWire

HEAD = "HEADERS 1 :status=200 content-type=application/grpc"
ONLY = "HEADERS 1 :status=200 content-type=application/grpc grpc-status={} end"
CHECK, LIST, WATCH = (f"/grpc.health.v1.Health/{name}" for name in ("Check", "List", "Watch"))


def status(told: list[str]) -> str:
    """The status and its message, from the last HEADERS."""
    line = next(line for line in reversed(told) if line.startswith("HEADERS"))
    return line[line.index("grpc-status=") :].removesuffix(" end")


def ask(path: str, *parts: bytes, end: bool = True, wire: CallWire | None = None) -> list[str]:
    found = wire or CallWire()
    return found.send(headers(1, with_path(path)), data(1, b"".join(parts), end=end))


class TestHealth:
    def test_check(self) -> None:
        answer = message(pb.HealthCheckResponse(status=pb.HealthCheckResponse.NOT_SERVING).SerializeToString())
        assert ask(CHECK, message()) == [HEAD, f"DATA 1 {answer!r}", "HEADERS 1 grpc-status=0 end"]

    def test_check_answers_before_the_call_ends(self) -> None:
        assert ask(CHECK, message(), end=False)[-2:] == ["HEADERS 1 grpc-status=0 end", "RST_STREAM 1 NO_ERROR"]

    @pytest.mark.parametrize("path", [CHECK, LIST])
    def test_there_is_one_answer_whatever_stands_behind_the_request(self, path: str) -> None:
        """Also while the answer waits for a window."""
        wire = CallWire(INITIAL_WINDOW_SIZE=0)
        assert ask(path, message(), message(), end=False, wire=wire) == [HEAD]
        told = wire.send(window(1, 1000))
        assert [line.split()[0] for line in told] == ["DATA", "HEADERS", "RST_STREAM"]
        (answer,) = [line for line in told if line.startswith("DATA")]
        alone = CallWire(INITIAL_WINDOW_SIZE=0)
        ask(path, message(), end=False, wire=alone)
        assert answer in alone.send(window(1, 1000))

    def test_check_of_a_name_that_we_do_not_have(self) -> None:
        told = ask(CHECK, message(pb.HealthCheckRequest(service="x").SerializeToString()))
        assert told == [ONLY.format("5 grpc-message=unknown service")]

    @pytest.mark.parametrize("path", [CHECK, WATCH])
    @pytest.mark.parametrize(
        ("parts", "code", "words"),
        [
            (b"", 13, "the call ended before its request"),
            (message(b"\xff"), 13, "not a HealthCheckRequest"),
            (message(b"abc")[:-1], 13, "the call ended before its request"),
            (b"\0\0\0\x10\1", 8, "message of 4097 bytes is larger than the limit of 4096"),
            (b"\1\0\0\0\0", 13, "compressed message, but the call has no grpc-encoding"),
        ],
    )
    def test_requests_that_are_none(self, path: str, parts: bytes, code: int, words: str) -> None:
        assert status(ask(path, parts)) == f"grpc-status={code} grpc-message={words}"

    def test_list(self) -> None:
        told = ask(LIST, message())
        assert [line.split()[0] for line in told] == ["HEADERS", "DATA", "HEADERS"]

    def test_watch(self) -> None:
        wire = CallWire()
        told = ask(WATCH, message(), wire=wire)
        assert [line.split()[0] for line in told] == ["HEADERS", "DATA"]
        before = wire.woken
        wire.services.health.set_ready(True)
        assert wire.woken == before + 1
        answer = message(pb.HealthCheckResponse(status=pb.HealthCheckResponse.SERVING).SerializeToString())
        assert wire.sent() == [f"DATA 1 {answer!r}"]
        wire.send(rst(1))
        wire.services.health.set_ready(False)
        assert (wire.sent(), wire.services.health.watchers) == ([], 0)

    def test_watch_takes_one_request(self) -> None:
        wire = CallWire()
        told = ask(WATCH, message(), message(), wire=wire)
        assert status(told) == "grpc-status=13 grpc-message=a second request on a call that takes one"
        assert wire.services.health.watchers == 0

    def test_none_of_it_is_an_ext_proc_stream(self) -> None:
        wire = CallWire()
        ask(CHECK, message(), wire=wire)
        wire.send(headers(3, with_path(WATCH)), data(3, message()), rst(3))
        assert (wire.open, wire.ended) == (0, {})
