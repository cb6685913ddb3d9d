"""What probes and people ask: `grpc.health.v1.Health`, and requests that are not gRPC."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from extproc.transport.h2.call import Call, Calling
from extproc.transport.h2.grpc import CallFault, Code
from extproc.transport.h2.headers import encode
from extproc.transport.h2.outbox import Stream
from extproc.transport.health import SERVICE as HEALTH_SERVICE


class HealthCheck(Call):
    """`Check`: one request, one answer."""

    __slots__ = ()

    def message(self, message: bytes) -> None:
        try:
            answer = self.calls.services.health.check(message)
        except ValueError as error:
            raise CallFault(Code.INTERNAL, str(error)) from error
        if answer is None:
            raise CallFault(Code.NOT_FOUND, "unknown service")
        self.calls.connection.outbox.message(self.stream, answer)
        self.finish(Code.OK)

    def half_closed(self, *, truncated: bool) -> None:
        self.finish(Code.INTERNAL, "the call ended before its request")


class HealthList(HealthCheck):
    """`List`: every service."""

    __slots__ = ()

    def message(self, message: bytes) -> None:
        self.calls.connection.outbox.message(self.stream, self.calls.services.health.list())
        self.finish(Code.OK)


class HealthWatch(Call):
    """`Watch`: an answer now, and one at each change, until the peer leaves."""

    __slots__ = ("_cancel",)

    def __init__(self, calls: Calling, stream: Stream) -> None:
        super().__init__(calls, stream)
        self._cancel: Callable[[], None] | None = None

    def message(self, message: bytes) -> None:
        if self._cancel is not None:
            raise CallFault(Code.INTERNAL, "a second request on a call that takes one")
        try:
            self._cancel = self.calls.services.health.watch(message, self._tell)
        except ValueError as error:
            raise CallFault(Code.INTERNAL, str(error)) from error

    def half_closed(self, *, truncated: bool) -> None:
        if truncated or self._cancel is None:
            self.finish(Code.INTERNAL, "the call ended before its request")

    def closed(self, code: Code) -> None:
        if self._cancel is not None:
            self._cancel()

    def _tell(self, answer: bytes) -> None:
        self.calls.connection.outbox.message(self.stream, answer)
        self.calls.wake()


class NotGrpc(Call):
    """A request that is not gRPC: once it is whole, it gets an answer that people can read."""

    __slots__ = ("_status", "_text")

    def __init__(self, calls: Calling, stream: Stream, status: int, text: str) -> None:
        super().__init__(calls, stream)
        self._status = status
        self._text = text

    def data(self, data: bytes | memoryview, ended: bool) -> None:
        if not ended:
            return
        stream, outbox = self.stream, self.calls.connection.outbox
        stream.call = None
        allow = [("allow", "POST")] if self._status == 405 else []
        outbox.headers(stream, encode([(":status", str(self._status)), ("content-type", "text/plain"), *allow]))
        outbox.body(stream, f"{self._text}\n".encode() if self._text else b"")
        outbox.end(stream, b"")


HEALTH_CALLS: Final[Mapping[str, type[Call]]] = {
    f"/{HEALTH_SERVICE}/Check": HealthCheck,
    f"/{HEALTH_SERVICE}/List": HealthList,
    f"/{HEALTH_SERVICE}/Watch": HealthWatch,
}
