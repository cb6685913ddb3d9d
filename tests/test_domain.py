"""The nouns."""

from __future__ import annotations

import dataclasses

import pytest

from extproc.domain import NO_MUTATION, Decision, Endpoint, InferenceRequest, Load, RequestHead
from tests.fakes.candidates import candidates


class TestEndpoint:
    @pytest.mark.parametrize(
        ("address", "key"),
        [
            ("10.0.0.1", "10.0.0.1:8000"),
            ("::1", "[::1]:8000"),
            ("2001:DB8::0001", "[2001:db8::1]:8000"),
            ("0:0:0:0:0:0:0:1", "[::1]:8000"),
        ],
    )
    def test_key_is_what_envoy_is_told(self, address: str, key: str) -> None:
        endpoint = Endpoint(address, 8000)
        assert endpoint.key == key
        assert str(endpoint) == key
        assert endpoint.name == key

    def test_endpoints_are_the_same_if_their_key_is(self) -> None:
        one = Endpoint("2001:db8::1", 8000, name="a", namespace="x", labels={"role": "decode"})
        other = Endpoint("2001:DB8:0::1", 8000, name="b")
        assert one == other
        assert hash(one) == hash(other)
        assert one.address == other.address
        assert one != Endpoint("2001:db8::1", 8001)

    @pytest.mark.parametrize("address", ["", "localhost", "model.svc", "10.0.0", "10.0.0.1:8000", "[::1]", "010.0.0.1"])
    def test_addresses_are_ip_addresses(self, address: str) -> None:
        with pytest.raises(ValueError, match="address"):
            Endpoint(address, 8000)

    @pytest.mark.parametrize("port", [0, -1, 65536])
    def test_ports_have_a_range(self, port: int) -> None:
        with pytest.raises(ValueError, match=r"not in 1\.\.65535"):
            Endpoint("10.0.0.1", port)

    @pytest.mark.parametrize("port", [1, 65535])
    def test_ends_of_the_range(self, port: int) -> None:
        assert Endpoint("10.0.0.1", port).port == port

    def test_values_never_change(self) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            Endpoint("10.0.0.1", 1).port = 2  # type: ignore[misc]


class TestRequestHead:
    def test_text(self) -> None:
        head = RequestHead({"a": b"x", "b": b"", "c": b"caf\xe9"})
        assert [head.text(name) for name in ("a", "b", "c", "d")] == ["x", "", "café", ""]


def test_unknown_is_not_zero() -> None:
    """Nothing is known until a page says so."""
    assert set(Load()) == {None}
    assert InferenceRequest(RequestHead({}), "/").model is None
    assert RequestHead({}).subset is None


def test_a_decision_without_changes() -> None:
    assert tuple(Decision()) == ((), (), (), None, "", None, (), NO_MUTATION)


def test_candidates_have_a_length() -> None:
    assert len(candidates(3)) == 3
