"""Requests to a picker all the time, as Envoy would send them, and which of its picks were wrong."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import grpc

from extproc.names import EXT_PROC_METHOD
from extproc.pb import external_processor_pb2 as pb
from tests.app.running import chat, headers_of
from tests.e2e.parts import until

GRACE_S: Final = 1.0
"""A pick that is sent later than this after its endpoint left is wrong."""
_PAUSE_S: Final = 0.005
_QUIET_S: Final = 0.3
"""After so long without a pick of another endpoint there will be none."""
_DESTINATION: Final = "x-gateway-destination-endpoint"


class Answer(NamedTuple):
    """What one request got. Times are of `time.monotonic`."""

    sent_s: float
    answered_s: float
    endpoints: tuple[str, ...]
    """The pick and its fallbacks; empty when there was none."""
    headers: dict[str, str]
    """What the answer sets on the request, lower case."""
    problem: str
    """HTTP status of an answer in the model's place, or the gRPC error; empty when there was none."""
    body: bytes = b""
    """Of the request, as it goes on to the model."""


class Members:
    """Who is in the pool and who was, as the test has told the API server."""

    def __init__(self) -> None:
        self._spans: dict[str, list[list[float]]] = {}

    def __repr__(self) -> str:
        return f"<Members {sorted(self.now())}>"

    def joins(self, endpoint: str) -> None:
        """It will be in the pool from now on, at any time."""
        spans = self._spans.setdefault(endpoint, [])
        if not spans or spans[-1][1] != float("inf"):
            spans.append([time.monotonic(), float("inf")])

    def leaves(self, endpoint: str) -> None:
        """It is no longer in the pool; nothing happens when it was not."""
        spans = self._spans.get(endpoint)
        if spans and spans[-1][1] == float("inf"):
            spans[-1][1] = time.monotonic()

    def now(self) -> set[str]:
        return {endpoint for endpoint, spans in self._spans.items() if spans[-1][1] == float("inf")}

    def wrong(self, answer: Answer) -> list[str]:
        """Endpoints of the answer that were not members, with how late; empty when all is well."""
        return [why for endpoint in answer.endpoints if (why := self._why_wrong(endpoint, answer))]

    def _why_wrong(self, endpoint: str, answer: Answer) -> str:
        spans = self._spans.get(endpoint)
        if spans is None:
            return f"{endpoint} was never a member"
        if any(since <= answer.answered_s and answer.sent_s <= until_s + GRACE_S for since, until_s in spans):
            return ""
        return f"{endpoint} {answer.sent_s - spans[-1][1]:+.2f} s after it left, at {spans[-1][0] - answer.answered_s:+.2f} s"


_NUMBERS: Final = itertools.count()


class Client:
    """One connection to a picker or a router."""

    def __init__(self, port: int) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.initial_reconnect_backoff_ms", 100)]
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", [*options, ("grpc.max_reconnect_backoff_ms", 200)])
        self._call: Any = self._channel.stream_stream(
            EXT_PROC_METHOD,
            request_serializer=pb.ProcessingRequest.SerializeToString,
            response_deserializer=pb.ProcessingResponse.FromString,
        )

    def ask(self, body: bytes | None = None, timeout_s: float = 5.0, **headers: str) -> Answer:
        """One whole request. `headers`: more of them, with - for _. Without a body it has a prompt that nobody sent before, as
        equal ones would stay where the first went."""
        if body is None:
            body = b'{"model": "m", "prompt": "%d hello"}' % next(_NUMBERS)
        sent_s = time.monotonic()
        found: dict[str, str] = {}
        problem, passed = "", b""
        try:
            for answer in self._call(iter(chat(body, "/v1/completions", **headers)), timeout=timeout_s):
                if answer.WhichOneof("response") == "immediate_response":
                    problem = str(int(answer.immediate_response.status.code))
                else:
                    found |= headers_of(answer)
                    passed += answer.request_body.response.body_mutation.streamed_response.body
        except grpc.RpcError as error:
            problem = f"{error.code().name}: {error.details()}"
        endpoints = tuple(part.strip() for part in found.get(_DESTINATION, "").split(",") if part.strip())
        return Answer(sent_s, time.monotonic(), endpoints, found, problem, passed)

    def close(self) -> None:
        self._channel.close()


class Traffic:
    """What was asked so far, and answered."""

    def __init__(self, members: Members) -> None:
        self._members = members
        self.answers: list[Answer] = []
        self._stop = threading.Event()

    def __repr__(self) -> str:
        return f"<Traffic {len(self.answers)} answers, {len(self.problems())} problems, {len(self.wrong())} wrong>"

    def wrong(self) -> list[str]:
        """The wrong picks."""
        return [why for answer in self.answers for why in self._members.wrong(answer)]

    def problems(self, since_s: float = 0.0) -> list[Answer]:
        """The answers to requests sent since then that are no pick."""
        return [answer for answer in self.answers if answer.sent_s >= since_s and not answer.endpoints]

    def picked(self, since_s: float) -> set[str]:
        """Endpoints that were first choice for a request sent since then."""
        return {answer.endpoints[0] for answer in self.answers[-2000:] if answer.sent_s >= since_s and answer.endpoints}

    def settles(self, endpoints: Iterable[str], within_s: float = 5.0) -> float:
        """Wait until just these are picked, each of them. Returns the seconds that it took: to the first pick of the last of
        them, or to the last pick of another."""
        start_s, wanted = time.monotonic(), set(endpoints)

        def settled() -> list[float]:
            new = [answer for answer in self.answers if answer.sent_s >= start_s and answer.endpoints]
            strange_s = [answer.answered_s for answer in new if answer.endpoints[0] not in wanted]
            first_s = {answer.endpoints[0]: answer.answered_s for answer in reversed(new)}
            quiet = time.monotonic() - max([start_s, *strange_s]) > _QUIET_S
            return [start_s, *strange_s, *first_s.values()] if quiet and wanted <= first_s.keys() else []

        return max(until(settled, within_s=within_s, what=f"picks of {sorted(wanted)} and no others; {self!r}")) - start_s

    def stays_good(self, seconds: float) -> None:
        """Go on for so long, with picks only."""
        since_s = time.monotonic()
        self._stop.wait(seconds)
        assert self.problems(since_s) == [], self.problems(since_s)[:5]

    def work(self, client: Client) -> None:
        while not self._stop.is_set():
            self.answers.append(client.ask())
            self._stop.wait(_PAUSE_S)

    def stop(self) -> None:
        self._stop.set()


@contextmanager
def traffic(port: int, members: Members, workers: int = 2) -> Iterator[Traffic]:
    """Ask all the time. At the end no pick was wrong; whether every request got one is the test's to say."""
    seen = Traffic(members)
    clients = [Client(port) for _ in range(workers)]
    threads = [threading.Thread(target=seen.work, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        seen.stop()
        for thread in threads:
            thread.join()
        for client in clients:
            client.close()
    assert seen.answers
    assert seen.wrong() == [], seen.wrong()[:10]
