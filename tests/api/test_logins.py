from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from extproc.api.logins import Failures
from tests.fakes.clock import FakeClock


def test_after_some_failures_an_address_waits() -> None:
    clock = FakeClock()
    failures = Failures(clock, at_once=3, per_s=0.5)
    for number in range(3):
        assert failures.wait_s("10.0.0.1", b"%d" % number) == 0
        failures.failed("10.0.0.1", b"%d" % number)
    assert failures.wait_s("10.0.0.1", b"x") == 2
    assert failures.wait_s("10.0.0.2", b"x") == 0
    clock.advance(2)
    assert failures.wait_s("10.0.0.1", b"x") == 0
    failures.failed("10.0.0.1", b"x")
    assert failures.wait_s("10.0.0.1", b"x") == 2


def test_who_was_known_before_does_not_wait() -> None:
    failures = Failures(FakeClock(), at_once=1)
    failures.succeeded(b"good")
    failures.failed("10.0.0.1", b"bad")
    assert failures.wait_s("10.0.0.1", b"good") == 0
    assert failures.wait_s("10.0.0.1", b"other") > 0
    failures.failed("10.0.0.1", b"good")  # it is not good any more
    assert failures.wait_s("10.0.0.1", b"good") > 0


def test_ipv6_networks_are_one() -> None:
    failures = Failures(FakeClock(), at_once=1)
    failures.failed("2001:db8::1", b"x")
    assert failures.wait_s("2001:db8::ffff:1%eth0", b"y") > 0
    assert failures.wait_s("2001:db8:0:1::1", b"y") == 0
    failures.failed("::ffff:10.0.0.1", b"x")
    assert failures.wait_s("::ffff:10.0.0.2", b"y") == 0


def test_who_is_behind_a_proxy_waits_alone() -> None:
    clock = FakeClock()
    failures = Failures(clock, at_once=2, per_s=1.0)
    for _ in range(3):
        failures.failed("127.0.0.1", b"x", "1.1.1.1, 10.0.0.1")
    assert failures.wait_s("127.0.0.1", b"y", "2.2.2.2,10.0.0.1") > 0, "the last one counts: others are the client's words"
    assert failures.wait_s("127.0.0.1", b"y", "10.0.0.2") == 0
    assert failures.wait_s("127.0.0.1", b"y") == 0


def test_inventing_addresses_gains_little() -> None:
    clock = FakeClock()
    failures = Failures(clock, at_once=2, per_s=1.0)
    looked = 0
    for number in range(1000):
        if failures.wait_s("10.0.0.1", b"x", f"10.1.{number >> 8}.{number & 255}") == 0:
            failures.failed("10.0.0.1", b"x", f"10.1.{number >> 8}.{number & 255}")
            looked += 1
    assert looked == 2 * 20
    clock.advance(1)
    assert failures.wait_s("10.0.0.1", b"x", "10.9.9.9") == 0
    assert failures.wait_s("10.0.0.2", b"x", "10.9.9.9") == 0


@given(st.lists(st.tuples(st.text(max_size=3), st.binary(max_size=2), st.floats(0, 10)), max_size=50))
def test_nobody_guesses_faster_than_the_bucket_fills(tries: list[tuple[str, bytes, float]]) -> None:
    clock = FakeClock()
    failures = Failures(clock, at_once=2, per_s=1.0)
    looked: dict[str, int] = {}
    began_s = clock.now_s
    for address, digest, pause_s in tries:
        if failures.wait_s(address, digest) == 0:
            failures.failed(address, digest)
            looked[address] = looked.get(address, 0) + 1
        assert all(number <= 2 + (clock.now_s - began_s) for number in looked.values())
        clock.advance(pause_s)


def test_what_is_remembered_is_bounded() -> None:
    failures = Failures(FakeClock())
    for number in range(10_000):
        failures.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", b"x")
        failures.succeeded(number.to_bytes(4, "big"))
    assert len(failures._failures) == 4096
    assert len(failures._good) == 4096
