"""The health service, whichever transport asks it (https://grpc.io/docs/guides/health-checking/)."""

from __future__ import annotations

from typing import Any

import pytest
from grpc_health.v1 import health_pb2 as pb

from extproc import names
from extproc.transport.health import Health

NAMES = ("", names.EXT_PROC_SERVICE, "inference-extension", "readiness")


def ask(service: str) -> bytes:
    return pb.HealthCheckRequest(service=service).SerializeToString()


def status(answer: bytes | None) -> str:
    assert answer is not None
    return str(pb.HealthCheckResponse.ServingStatus.Name(pb.HealthCheckResponse.FromString(answer).status))


class Watcher:
    def __init__(self, health: Health, service: str) -> None:
        self.heard: list[str] = []
        self.cancel = health.watch(ask(service), lambda answer: self.heard.append(status(answer)))


class TestCheck:
    @pytest.mark.parametrize("service", NAMES)
    def test_readiness(self, service: str) -> None:
        health = Health()
        assert status(health.check(ask(service))) == "NOT_SERVING"
        health.set_ready(True)
        assert status(health.check(ask(service))) == "SERVING"
        health.set_ready(False)
        assert status(health.check(ask(service))) == "NOT_SERVING"

    def test_alive_from_the_start_and_while_draining(self) -> None:
        health = Health()
        for ready in (False, True, False):
            health.set_ready(ready)
            assert status(health.check(ask("liveness"))) == "SERVING"

    def test_a_name_that_we_do_not_have(self) -> None:
        assert Health().check(ask("other")) is None

    @pytest.mark.parametrize("request_", [b"\xff", b"\x0a\x05ab", b"\x0a\x01\xff"])
    def test_bytes_that_are_no_request(self, request_: bytes) -> None:
        health = Health()
        with pytest.raises(ValueError, match="HealthCheckRequest"):
            health.check(request_)
        with pytest.raises(ValueError, match="HealthCheckRequest"):
            health.watch(request_, lambda _: None)
        assert health.watchers == 0


class TestWatch:
    def test_hears_now_and_at_each_change(self) -> None:
        health = Health()
        watcher = Watcher(health, "")
        health.set_ready(True)
        health.set_ready(True)  # no change
        health.set_ready(False)
        assert watcher.heard == ["NOT_SERVING", "SERVING", "NOT_SERVING"]

    def test_a_name_that_does_not_change(self) -> None:
        health = Health()
        watcher = Watcher(health, "liveness")
        health.set_ready(True)
        assert watcher.heard == ["SERVING"]

    def test_a_name_that_we_do_not_have(self) -> None:
        health = Health()
        watcher = Watcher(health, "other")
        health.set_ready(True)
        assert watcher.heard == ["SERVICE_UNKNOWN"]

    def test_until_it_is_cancelled(self) -> None:
        health = Health()
        one, other = Watcher(health, ""), Watcher(health, "")
        assert health.watchers == 2
        one.cancel()
        one.cancel()
        health.set_ready(True)
        assert (one.heard, other.heard) == (["NOT_SERVING"], ["NOT_SERVING", "SERVING"])
        assert health.watchers == 1

    def test_one_that_leaves_when_it_hears(self) -> None:
        health = Health()
        other = Watcher(health, "")
        leaving: list[Any] = []
        leaving.append(health.watch(ask(""), lambda _: leaving[0]() if leaving else None))
        health.set_ready(True)
        assert health.watchers == 1
        assert other.heard == ["NOT_SERVING", "SERVING"]


def test_list() -> None:
    health = Health()
    health.set_ready(True)
    answer: Any = pb.HealthListResponse.FromString(health.list())  # type: ignore[attr-defined]  # newer than its stubs
    assert set(answer.statuses) == {*NAMES, "liveness"}
    assert all(found.status == pb.HealthCheckResponse.SERVING for found in answer.statuses.values())
    assert health.statuses == dict.fromkeys(answer.statuses, True)
