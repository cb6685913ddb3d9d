"""What `grpc.health.v1.Health` says of us, whichever transport is asked (https://grpc.io/docs/guides/health-checking/)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from grpc_health.v1 import health_pb2 as pb

from extproc import names

SERVICE: Final = "grpc.health.v1.Health"

_READY_SERVICES: Final = ("", names.EXT_PROC_SERVICE, "inference-extension", "readiness")
"""Names that say whether we are ready; `inference-extension` and `readiness` are what upstream's charts probe."""
_ALIVE_SERVICE: Final = "liveness"

MAX_LISTED: Final = 100
"""Most services in an answer to List, as the protocol has it; we have few."""

_UNKNOWN: Final = pb.HealthCheckResponse(status=pb.HealthCheckResponse.SERVICE_UNKNOWN).SerializeToString()


class Health:
    """Statuses by service name, with those who watch them. Not ready until told; one event loop."""

    def __init__(self) -> None:
        self._answers: dict[str, bytes] = {}
        self._watchers: dict[object, tuple[str, Callable[[bytes], None]]] = {}
        self._put(_ALIVE_SERVICE, serving=True)
        for service in _READY_SERVICES:
            self._put(service, serving=False)

    def set_ready(self, ready: bool) -> None:
        """Ready: every name is SERVING. Not ready: only `liveness` is. Watchers hear of a change at once."""
        before = dict(self._answers)
        for service in _READY_SERVICES:
            self._put(service, serving=ready)
        for service, tell in list(self._watchers.values()):
            if service in self._answers and self._answers[service] != before[service]:
                tell(self._answers[service])

    def check(self, request: bytes) -> bytes | None:
        """The answer to a HealthCheckRequest, None (NOT_FOUND) for a name we don't have. Raises ValueError for other bytes."""
        return self._answers.get(_service_of(request))

    def watch(self, request: bytes, tell: Callable[[bytes], None]) -> Callable[[], None]:
        """Answer now and on each change, until the returned function is called. A name we don't have is SERVICE_UNKNOWN."""
        service = _service_of(request)
        token = object()
        self._watchers[token] = (service, tell)
        tell(self._answers.get(service, _UNKNOWN))

        def cancel() -> None:
            self._watchers.pop(token, None)

        return cancel

    def list(self) -> bytes:
        """All names with their statuses: a HealthListResponse."""
        answer: Any = pb.HealthListResponse()  # type: ignore[attr-defined]  # newer than its stubs
        for service, status in self._answers.items():
            answer.statuses[service].MergeFromString(status)
        return bytes(answer.SerializeToString())

    @property
    def watchers(self) -> int:
        """How many watch."""
        return len(self._watchers)

    @property
    def statuses(self) -> Mapping[str, bool]:
        """Whether each name is SERVING."""
        serving = pb.HealthCheckResponse.SERVING
        return {s: pb.HealthCheckResponse.FromString(raw).status == serving for s, raw in self._answers.items()}

    def _put(self, service: str, *, serving: bool) -> None:
        status = pb.HealthCheckResponse.SERVING if serving else pb.HealthCheckResponse.NOT_SERVING
        self._answers[service] = pb.HealthCheckResponse(status=status).SerializeToString()


def _service_of(request: bytes) -> str:
    try:
        return pb.HealthCheckRequest.FromString(request).service
    except Exception as error:  # protobuf's DecodeError, and what its C code raises for bad UTF-8
        raise ValueError("not a HealthCheckRequest") from error
