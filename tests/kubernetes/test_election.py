"""The rules of the election, without an API server."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extproc.kubernetes.election import JITTER, Election, Timing
from tests.fakes.clock import FakeClock

TIMING = Timing(lease_s=15, renew_deadline_s=10, retry_s=2, look_s=0.5)


class Server:
    """One lease with versions."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0

    def write(self, body: dict[str, Any]) -> dict[str, Any] | None:
        """None is 409."""
        said = body.get("metadata", {}).get("resourceVersion")
        now = self.lease["metadata"]["resourceVersion"] if self.lease else None
        if said != now:
            return None
        self.version += 1
        self.lease = {**body, "metadata": {"name": "l", "resourceVersion": str(self.version)}}
        return self.lease


class Candidate:
    def __init__(self, server: Server, clock: FakeClock, name: str, *, strict: bool = False) -> None:
        self.server = server
        self.election = Election(name, clock=clock, wall_clock=lambda: 1_700_000_000.0, timing=TIMING, strict=strict)

    def round(self, *, contact: bool = True) -> bool:
        """As LeaseElection.round; whether it leads."""
        election = self.election
        if not contact:
            election.failed("no answer")
            return election.leading
        if election.must_look:
            election.seen(self.server.lease)
        spec = election.wanted()
        if spec is None:
            election.waits()
            return election.leading
        written = self.server.write(election.body(spec))
        if written is not None:
            election.written(written)
        else:
            election.conflict()
            election.seen(self.server.lease)
        return election.leading


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def server() -> Server:
    return Server()


def test_the_first_leads_and_the_lease_says_so_as_client_go_writes_it(server: Server, clock: FakeClock) -> None:
    assert Candidate(server, clock, "a").round()
    assert server.lease is not None
    assert server.lease["spec"] == {
        "holderIdentity": "a",
        "leaseDurationSeconds": 15,
        "acquireTime": "2023-11-14T22:13:20.000000Z",
        "renewTime": "2023-11-14T22:13:20.000000Z",
        "leaseTransitions": 0,
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", server.lease["spec"]["renewTime"])


def test_the_second_waits_until_the_lease_has_not_changed_for_its_duration(server: Server, clock: FakeClock) -> None:
    a, b = Candidate(server, clock, "a"), Candidate(server, clock, "b")
    a.round()
    clock.advance(100)  # how old it is by its own times means nothing: b sees it for the first time
    assert not b.round()
    clock.advance(14.69)
    assert not b.round()
    clock.advance(0.02)  # a fiftieth before its end
    assert b.round()
    assert server.lease is not None
    assert (server.lease["spec"]["holderIdentity"], server.lease["spec"]["leaseTransitions"]) == ("b", 1)


def test_renewals_keep_it(server: Server, clock: FakeClock) -> None:
    a, b = Candidate(server, clock, "a"), Candidate(server, clock, "b")
    for _ in range(30):
        assert a.round()
        assert not b.round()
        # the fake's times do not move, so a renewal is only seen by what changes: make it
        assert server.lease is not None
        server.lease["spec"]["renewTime"] += "x"
        a.election.seen(server.lease)
        clock.advance(2)


def test_a_renewal_counts_from_the_look_before_it_was_seen(clock: FakeClock) -> None:
    """So that who dies right after it is replaced within the lease; after a longer pause, from half a second before."""
    for pause_s, counted_s in ((0.4, 0.4), (5.0, 0.6)):
        server = Server()
        a, b = Candidate(server, clock, "a"), Candidate(server, clock, "b")
        a.round()
        b.round()
        assert server.lease is not None
        server.lease = {**server.lease, "spec": {**server.lease["spec"], "renewTime": "later"}}
        clock.advance(pause_s)
        b.round()
        clock.advance(14.69 - counted_s)
        assert not b.round()
        clock.advance(0.02)
        assert b.round()


def test_the_holder_s_own_duration_counts(server: Server, clock: FakeClock) -> None:
    server.write({"metadata": {}, "spec": {"holderIdentity": "other", "leaseDurationSeconds": 60}})
    b = Candidate(server, clock, "b")
    b.round()
    clock.advance(58.7)
    assert not b.round()
    clock.advance(0.2)
    assert b.round()


def test_a_lease_that_is_let_go_is_taken_at_once(server: Server, clock: FakeClock) -> None:
    a, b = Candidate(server, clock, "a"), Candidate(server, clock, "b")
    a.round()
    b.round()
    spec = a.election.release()
    assert spec is not None
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"]) == ("", 1)
    server.write(a.election.body(spec))
    assert b.round()


def test_only_the_holder_lets_go(server: Server, clock: FakeClock) -> None:
    a, b = Candidate(server, clock, "a"), Candidate(server, clock, "b")
    a.round()
    b.round()
    assert b.election.release() is None


def test_of_two_that_write_one_is_first(server: Server, clock: FakeClock) -> None:
    a, b = Candidate(server, clock, "a"), Candidate(server, clock, "b")
    a.election.seen(None)
    b.election.seen(None)
    assert a.round()
    assert not b.round()
    assert b.election.holder == "a"


def test_a_leader_who_was_replaced_steps_down(server: Server, clock: FakeClock) -> None:
    a, b = Candidate(server, clock, "a"), Candidate(server, clock, "b")
    a.round()
    b.round()
    clock.advance(15)
    assert b.round()
    assert a.election.leading, "it was suspended, and does not know yet"
    assert not a.round()
    assert a.election.holder == "b"


def test_out_of_contact_a_leader_goes_on_until_it_sees_another(server: Server, clock: FakeClock) -> None:
    a, b = Candidate(server, clock, "a"), Candidate(server, clock, "b")
    a.round()
    b.round()
    for _ in range(10):
        clock.advance(2)
        assert a.round(contact=False)
    assert a.election.out_of_contact
    assert b.round()
    assert not a.round()


def test_when_contact_is_back_the_leader_of_before_comes_first(server: Server, clock: FakeClock) -> None:
    """The follower saw no renewal because it saw nothing."""
    a, b = Candidate(server, clock, "a"), Candidate(server, clock, "b")
    a.round()
    b.round()
    for _ in range(10):
        clock.advance(2)
        a.round(contact=False)
        b.round(contact=False)
    assert not b.round()
    clock.advance(1.9)
    assert a.round()
    assert not b.round()


def test_when_contact_is_back_and_the_leader_is_not(server: Server, clock: FakeClock) -> None:
    a, b = Candidate(server, clock, "a"), Candidate(server, clock, "b")
    a.round()
    b.round()
    clock.advance(20)
    b.round(contact=False)
    assert not b.round()
    clock.advance(4)
    assert b.round()


def test_out_of_contact_and_nobody_came(server: Server, clock: FakeClock) -> None:
    a = Candidate(server, clock, "a")
    a.round()
    clock.advance(60)
    a.round(contact=False)
    assert a.round()
    assert not a.election.out_of_contact
    assert server.lease is not None
    assert server.lease["spec"]["leaseTransitions"] == 0


def test_a_strict_leader_steps_down_at_its_deadline(server: Server, clock: FakeClock) -> None:
    a = Candidate(server, clock, "a", strict=True)
    a.round()
    clock.advance(9.9)
    assert a.round(contact=False)
    assert a.election.patience_s() == pytest.approx(0.1), "a request must not outlast the deadline"
    clock.advance(0.1)
    assert not a.round(contact=False)


def test_a_lease_that_was_deleted_is_made_again(server: Server, clock: FakeClock) -> None:
    a = Candidate(server, clock, "a")
    a.round()
    server.lease = None
    a.election.conflict()
    assert a.round()
    assert server.lease is not None


def test_pauses(server: Server, clock: FakeClock) -> None:
    a, b = Candidate(server, clock, "a"), Candidate(server, clock, "b")
    a.round()
    b.round()
    assert a.election.pause_s(0.9) == 2
    assert b.election.pause_s(0) == 0.5
    assert b.election.pause_s(1) == 0.5 * (1 + JITTER)
    clock.advance(14.5)
    assert b.election.pause_s(0) == pytest.approx(0.2), "not later than the lease may be taken"
    b.round(contact=False)
    assert b.election.pause_s(0) == 2


@pytest.mark.parametrize("lease", [{}, {"spec": None}, {"spec": {}}, {"spec": {"holderIdentity": None}}])
def test_odd_leases_are_nobody_s(clock: FakeClock, lease: dict[str, Any]) -> None:
    election = Election("a", clock=clock, wall_clock=lambda: 0.0)
    election.seen(lease)
    spec = election.wanted()
    assert spec is not None
    assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("a", 1)


STEPS = st.lists(
    st.tuples(st.integers(0, 2), st.booleans(), st.floats(0.1, 6.0)),
    max_size=80,
)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_strict_leaders_are_never_two(steps: list[tuple[int, bool, float]]) -> None:
    """Whatever fails and however slow: who leads was renewed less than a lease ago, and nobody else took it."""
    clock, server = FakeClock(), Server()
    all_of_them = [Candidate(server, clock, name, strict=True) for name in "abc"]
    stamp = 0
    for who, contact, pause_s in steps:
        candidate = all_of_them[who]
        candidate.round(contact=contact)
        if candidate.election.leading and contact and server.lease is not None:
            stamp += 1  # a renewal changes the lease
            server.lease["spec"]["renewTime"] = str(stamp)
            candidate.election.seen(server.lease)
        # Each asks at least once in its retry period, as its loop does; here: before its deadline is over.
        clock.advance(min(pause_s, 2.0))
        for each in all_of_them:
            if each.election.out_of_contact:
                each.election.failed("no answer")
        assert sum(each.election.leading for each in all_of_them) <= 1
