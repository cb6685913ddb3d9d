"""The nouns."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest

from extproc.domain import COLUMNS, NO_MUTATION, SIGNALS, Decision, Endpoint, InferenceRequest, Load, RequestHead, Source
from extproc.names import SLO_TTFT_HEADERS
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
    assert [value for value in Decision() if value] == [NO_MUTATION]


def test_candidates_have_a_length() -> None:
    assert len(candidates(3)) == 3


class TestSignals:
    """One table: what pages say, what is counted here, and how each is shown."""

    def test_each_has_a_name_a_unit_and_a_meaning(self) -> None:
        assert [signal.name for signal in SIGNALS if signal.source is Source.PAGE] == list(Load._fields)
        assert all(signal.unit and signal.doc.endswith(".") for signal in SIGNALS)
        assert len({signal.name for signal in SIGNALS}) == len(SIGNALS)
        gauges = [gauge for signal in SIGNALS for gauge in (signal.each, signal.mean, signal.spread) if gauge]
        assert len(set(gauges)) == len(gauges)

    def test_columns_are_signals_of_numbers(self) -> None:
        assert set(COLUMNS) <= {signal.name for signal in SIGNALS}
        assert all(isinstance(getattr(candidates(1), name), list) for name in COLUMNS)

    def test_their_values(self) -> None:
        load = Load(waiting=3, running_loras=("a",))
        values = {signal.name: signal.of(load, SimpleNamespace(in_flight=7)) for signal in SIGNALS}
        assert {name: value for name, value in values.items() if value is not None} == {
            "waiting": 3,
            "running_loras": ("a",),
            "in_flight": 7,
        }


class TestWishes:
    NEW, OLD = SLO_TTFT_HEADERS

    @pytest.mark.parametrize(
        ("headers", "wished"),
        [
            ({}, None),
            ({NEW: b"10"}, 10.0),
            ({OLD: b" 1.5 "}, 1.5),
            ({OLD: b"7", NEW: b"8"}, 8.0),
            ({OLD: b"7", NEW: b""}, 7.0),
            ({NEW: b"1e9"}, 1e9),
            ({NEW: b"0"}, None),
            ({NEW: b"ten"}, None),
            ({NEW: b"-1"}, None),
            ({NEW: b"nan"}, None),
            ({NEW: b"inf"}, None),
            ({NEW: b"\xff"}, None),
        ],
    )
    def test_are_above_0_and_the_newer_header_counts(self, headers: dict[str, bytes], wished: float | None) -> None:
        assert RequestHead(headers).wished_ms(SLO_TTFT_HEADERS) == wished
