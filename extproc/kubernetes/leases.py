"""The election with an API server: `LeaseElection.run()`."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from extproc.kubernetes.api import Requests
from extproc.kubernetes.election import Election, Timing
from extproc.kubernetes.errors import ApiError, ApiUnreachable
from extproc.observability.instruments import Instruments
from extproc.observability.logs import logger

_log = logger(__name__)

_RELEASE_S: Final = 2.0
"""How long letting go may take: a process that stops must not hang on it."""
_EVENT_S: Final = 5.0


class LeaseName(NamedTuple):
    """Which Lease."""

    namespace: str
    name: str

    @property
    def collection(self) -> str:
        return f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases"

    @property
    def path(self) -> str:
        return f"{self.collection}/{self.name}"


class ElectionMetrics:
    """`leader_election_master_status` is client-go's; the others are ours."""

    def __init__(self, instruments: Instruments, lease: str) -> None:
        self.leads = instruments.gauge(
            "leader_election_master_status", "1 while this replica leads, 0 while it follows.", ["name"]
        ).child(lease)
        self._changes = instruments.counter(
            "extproc_leader_election_changes_total", "How often this replica began or ceased to lead.", ["to"]
        )
        self.to_leader = self._changes.child("leader")
        self.to_follower = self._changes.child("follower")
        self.failures = instruments.counter(
            "extproc_leader_election_errors_total", "Requests about the lease that failed, by reason.", ["reason"]
        )
        self.failing = instruments.gauge(
            "extproc_leader_election_out_of_contact",
            "1 while this replica leads without being able to renew its lease.",
        ).child()


class LeaseElection:
    """Competes for a Lease until cancelled or told to let go. One task runs it, and it alone changes the election."""

    def __init__(
        self,
        requests: Requests,
        lease: LeaseName,
        identity: str,
        instruments: Instruments,
        *,
        timing: Timing = Timing(),
        strict: bool = False,
        changed: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.election = Election(identity, clock=clock, wall_clock=wall_clock, timing=timing, strict=strict)
        self.changed = changed
        """Called when this replica begins or ceases to lead."""
        self._requests = requests
        self._name = lease
        self._metrics = ElectionMetrics(instruments, lease.name)
        self._wall_clock = wall_clock
        self._sleep = sleep
        self._draw = draw
        self._led = False
        self._writing = False
        """Whether a write was begun that nobody knows the end of."""
        self._told_failure = ""
        self._told_holder: str | None = None
        self._events: set[asyncio.Task[None]] = set()

    @property
    def leading(self) -> bool:
        return self.election.leading

    def unready(self) -> str | None:
        """Why this replica must not be picked with, None for the leader."""
        election = self.election
        if election.leading:
            return None
        if election.failing_since_s is not None:
            return f"not the leader: the lease {self._name.name} can't be read or written: {election.failure}"
        return f"not the leader (leader is {election.holder or 'not elected yet'})"

    async def run(self) -> None:
        """Compete until cancelled; then let the lease go, if it is ours."""
        _log.info(
            "competing for the lease",
            lease=f"{self._name.namespace}/{self._name.name}",
            identity=self.election.identity,
        )
        try:
            while True:
                await self.round()
                await self._sleep(self.election.pause_s(self._draw()))
        finally:
            await self._release()

    async def round(self) -> None:
        """Look, if need be, and write, if we may. Raises nothing but cancellation."""
        election = self.election
        try:
            if election.must_look:
                election.seen(await self._read())
            spec = election.wanted()
            if spec is None:
                election.waits()
            else:
                election.written(await self._write(spec))
        except ApiError as error:
            self._writing = False
            if error.status in (404, 409):
                election.conflict()  # of two that wrote one was first, or the lease was deleted
                if election.leading:
                    await self._look_again()
            else:
                self._failed(error.reason, _advice(error, self._name))
        except ApiUnreachable as error:
            self._failed("unreachable", str(error))
        self._tell()

    async def _look_again(self) -> None:
        """A leader whose write was refused must know at once whether it still leads."""
        try:
            self.election.seen(await self._read())
        except (ApiError, ApiUnreachable) as error:
            self._failed("unreachable", str(error))

    async def _read(self) -> Mapping[str, Any] | None:
        # From the API server's cache, which costs it next to nothing; a stale answer ends in 409 at the latest.
        query = {} if self.election.leading else {"resourceVersion": "0"}
        try:
            found: Mapping[str, Any] = await self._request("GET", self._name.path, query=query)
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        return found

    async def _write(self, spec: dict[str, Any]) -> Mapping[str, Any]:
        body = self.election.body(spec)
        written: Mapping[str, Any]
        self._writing = True
        if self.election.exists:
            written = await self._request("PUT", self._name.path, body=body)
        else:
            body = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self._name.name, "namespace": self._name.namespace},
                **body,
            }
            written = await self._request("POST", self._name.collection, body=body)
        self._writing = False
        return written

    async def _request(self, method: str, path: str, *, query: Mapping[str, str] = {}, body: object = None) -> Any:
        return await self._requests.request(method, path, query=query, body=body, timeout_s=self.election.patience_s())

    async def _release(self) -> None:
        """Let go at once what is ours, or may be: we are perhaps stopped in the middle of a write that the server took."""
        election = self.election
        held = election.leading or self._writing
        election.stop()
        self._tell()
        if not held:
            return
        try:
            async with asyncio.timeout(_RELEASE_S):
                if self._writing or not await self._write_release():
                    election.seen(await self._read())
                    await self._write_release()
        except (ApiError, ApiUnreachable, TimeoutError) as error:
            why = str(error) or f"no answer in {_RELEASE_S:g} s"
            _log.warning("could not let the lease go, it will expire", lease=self._name.name, error=why)

    async def _write_release(self) -> bool:
        """False when it was of an older version than the lease has by now."""
        spec = self.election.release()
        if spec is None:
            return True
        try:
            self.election.seen(await self._request("PUT", self._name.path, body=self.election.body(spec)))
        except ApiError as error:
            if error.status == 409:
                return False
            raise
        _log.info("let the lease go", lease=self._name.name)
        return True

    def _failed(self, reason: str, why: str) -> None:
        self.election.failed(why)
        self._metrics.failures.child(reason).value += 1
        if why != self._told_failure:
            self._told_failure = why
            _log.warning("the lease can't be read or written", lease=self._name.name, error=why, leading=self.leading)

    def _tell(self) -> None:
        """Log, count and pass on what has changed."""
        election = self.election
        self._metrics.failing.value = float(election.out_of_contact)
        if election.failing_since_s is None and self._told_failure:
            self._told_failure = ""
            _log.info("the lease can be read and written again", lease=self._name.name)
        if election.leading != self._led:
            self._led = election.leading
            self._metrics.leads.value = float(self._led)
            (self._metrics.to_leader if self._led else self._metrics.to_follower).value += 1
            _log.info("leads now" if self._led else "leads no more", lease=self._name.name, holder=election.holder)
            self._record(f"{election.identity} {'became leader' if self._led else 'stopped leading'}")
            self.changed()
        elif not self._led and election.holder != self._told_holder:
            _log.info("follows", lease=self._name.name, leader=election.holder or None)
        self._told_holder = election.holder

    def _record(self, message: str) -> None:
        """An Event on the Lease, as client-go makes. Without the right to it there is none, and nothing else is lost."""
        task = asyncio.get_running_loop().create_task(self._post(self._event(message)), name="Event on the Lease")
        self._events.add(task)
        task.add_done_callback(self._events.discard)

    async def _post(self, event: dict[str, Any]) -> None:
        path = f"/api/v1/namespaces/{self._name.namespace}/events"
        with contextlib.suppress(ApiError, ApiUnreachable):
            await self._requests.request("POST", path, body=event, timeout_s=_EVENT_S)

    def _event(self, message: str) -> dict[str, Any]:
        now = datetime.fromtimestamp(self._wall_clock(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        metadata = (self.election.lease or {}).get("metadata") or {}
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"generateName": f"{self._name.name}.", "namespace": self._name.namespace},
            "involvedObject": {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "namespace": self._name.namespace,
                "name": self._name.name,
                "uid": metadata.get("uid", ""),
                "resourceVersion": metadata.get("resourceVersion", ""),
            },
            "type": "Normal",
            "reason": "LeaderElection",
            "message": message,
            "source": {"component": "extproc"},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }


def _advice(error: ApiError, lease: LeaseName) -> str:
    if error.status == 403:
        return (
            f"no right to get, create and update leases.coordination.k8s.io in namespace {lease.namespace!r} "
            f"(the charts grant it with rbac.create=true when leader election is on): {error.message}"
        )
    return str(error)
