"""Units, and problems told all at once."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from extproc.settings.base import (
    Duration,
    Port,
    Settings,
    SettingsError,
    Size,
    parse_duration_s,
    parse_size_bytes,
    setting,
    validate,
)
from tests.fakes.fuzz import examples


class TestDuration:
    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            ("50ms", 0.05),
            ("2s", 2),
            ("1m30s", 90),
            ("1h", 3600),
            ("1h2m3s4ms", 3723.004),
            ("1.5s", 1.5),
            (".5s", 0.5),
            ("100us", 1e-4),
            ("100µs", 1e-4),
            ("5ns", 5e-9),
            ("0", 0),
            ("0s", 0),
            (0, 0),
            (0.0, 0),
            (" 2s ", 2),
        ],
    )
    def test_as_go_writes_them(self, text: object, seconds: float) -> None:
        assert parse_duration_s(text) == pytest.approx(seconds)

    @pytest.mark.parametrize(
        "text", ["", "5", 5, 1.5, "s", "-1s", "1 s", "1sec", "1d", "x1s", "1s1", "1,5s", True, None, [], "1S"]
    )
    def test_anything_else_is_refused(self, text: object) -> None:
        with pytest.raises(ValueError, match="expected a duration such as 50ms, 2s or 1m30s"):
            parse_duration_s(text)

    @pytest.mark.parametrize("text", ["9" * 2_000_000, "1s" * 100, " " + "1." * 1_000_000])
    def test_what_is_long_is_refused_and_not_gone_through(self, text: str) -> None:
        """Durations stand in queries of the API. Digits without a unit took the event loop seconds, by their square."""
        with pytest.raises(ValueError, match="expected a duration"):
            parse_duration_s(text)

    @examples(50)
    @given(st.text(max_size=6))
    def test_any_text_is_a_duration_or_a_value_error(self, text: str) -> None:
        with suppress(ValueError):
            assert parse_duration_s(text) >= 0


class TestSize:
    @pytest.mark.parametrize(
        ("text", "size"),
        [
            ("64Mi", 64 * 2**20),
            ("1Gi", 2**30),
            ("2Ki", 2048),
            ("1k", 1000),
            ("4M", 4_000_000),
            ("3G", 3 * 10**9),
            ("4194304", 4_194_304),
            (4_194_304, 4_194_304),
            ("0", 0),
            (" 1Ki ", 1024),
        ],
    )
    def test_as_kubernetes_writes_them(self, text: object, size: int) -> None:
        assert parse_size_bytes(text) == size

    @pytest.mark.parametrize("text", ["", "Mi", "1.5Mi", "-1", "1mi", "1MB", "1 Mi", "1Ti", 1.5, True, None, []])
    def test_anything_else_is_refused(self, text: object) -> None:
        with pytest.raises(ValueError, match="expected a size such as 64Mi, 4M or 4194304"):
            parse_size_bytes(text)


class Inner(Settings):
    """Nested."""

    number: int = Field(1, ge=0)


class Outer(Settings):
    """One of each."""

    port: Port = setting(9002, "A port.")
    wait: Duration = setting(1.0, "A duration.")
    most: Size = setting(1, "A size.")
    name: str = setting(None, "A name.", required=True)
    inner: Inner = Field(default_factory=lambda: Inner.model_validate({}))
    many: list[Inner] = []
    a_flag: bool = setting(False, "A switch.")


def problems(values: dict[str, Any], **options: Any) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        validate(Outer, values, **options)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return caught.value.problems


def test_all_problems_at_once_with_path_expectation_and_value() -> None:
    told = problems(
        {
            "port": 70000,
            "wait": "soon",
            "most": "big",
            "inner": {"number": -1, "unknown": 1},
            "many": [{}, {"number": "x"}],
            "nope": {"a": "secret"},
        }
    )
    assert told == [
        "port: input should be less than or equal to 65535 (got 70000)",
        "wait: expected a duration such as 50ms, 2s or 1m30s (got 'soon')",
        "most: expected a size such as 64Mi, 4M or 4194304 (got 'big')",
        "name: field required",
        "inner.number: input should be greater than or equal to 0 (got -1)",
        "inner.unknown: unknown key",
        "many[1].number: input should be a valid integer, unable to parse string as an integer (got 'x')",
        "nope: unknown key",
    ]


def test_what_is_not_a_scalar_is_not_shown() -> None:
    (line,) = problems({"name": {"a": 1}})
    assert line == "name: input should be a valid string"


def test_labels_and_prefix_say_how_the_user_named_it() -> None:
    assert problems({"port": -1, "name": "x"}, labels={"port": "--grpc-port"}) == [
        "--grpc-port: input should be greater than or equal to 0 (got -1)"
    ]
    assert problems({"port": -1, "name": "x"}, prefix="pools[0].")[0].startswith("pools[0].port: ")


def test_defaults_and_typed_values() -> None:
    settings = validate(Outer, {"name": "x", "wait": "1m", "most": "1Ki"})
    assert (settings.port, settings.wait, settings.most) == (9002, 60.0, 1024)


def test_settings_never_change() -> None:
    settings = validate(Outer, {"name": "x"})
    with pytest.raises(ValidationError, match="frozen"):
        settings.port = 1


class Item(Settings):
    name: str


class Items(Settings):
    items: list[Item]


def test_of_very_many_problems_the_first_are_told() -> None:
    """Without putting the others into words: the number is of all."""
    with pytest.raises(SettingsError) as caught:
        validate(Items, {"items": [{"name": "good"}] * 3 + [{}] * 150_000})
    assert caught.value.problems[0] == "items[3].name: field required"
    assert caught.value.problems[-1] == f"and {150_000 - 47} more problems"
    assert len(caught.value.problems) == 48


def test_nor_are_any_lost_that_stand_behind_the_first() -> None:
    with pytest.raises(SettingsError) as caught:
        validate(Items, {"items": [{"name": "good"}] * 100 + [{}] * 60})
    assert caught.value.problems == [f"items[{index}].name: field required" for index in range(100, 160)]
