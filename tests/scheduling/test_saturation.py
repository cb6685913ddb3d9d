"""How full a pool is."""

from __future__ import annotations

import pytest

from extproc.domain import Load, Reading
from extproc.scheduling import Blueprint, build_scheduler
from extproc.scheduling.saturation import SaturationDetector
from extproc.settings.base import SettingsError
from extproc.settings.picker import load_picker_config
from tests.fakes.chance import seeded
from tests.fakes.clock import FakeClock

INTERVAL_S = 0.05


def built(config: str) -> Blueprint:
    return build_scheduler(load_picker_config(config)[0])


def detector(parameters: str = "{}", kind: str = "utilization-detector", interval_s: float = INTERVAL_S) -> SaturationDetector:
    return built(f"plugins: [{{type: {kind}, parameters: {parameters}}}]").pool(seeded(), FakeClock(), interval_s).detector


def reading(waiting: float | None = 0, kv_usage: float | None = 0, age_s: float | None = 0.0, in_flight: int = 0) -> Reading:
    return Reading(Load(waiting=waiting, kv_usage=kv_usage), age_s, in_flight)


def problems(config: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        built(config)
    return caught.value.problems


class TestUtilization:
    @pytest.mark.parametrize(
        ("readings", "saturation"),
        [
            ([reading()], 0.0),
            ([reading(waiting=4)], 0.8),
            ([reading(waiting=5)], 1.0),
            ([reading(kv_usage=0.4)], 0.5),
            ([reading(kv_usage=0.8, waiting=1)], 1.0),
            ([reading(waiting=10), reading()], 1.0),
            ([reading(waiting=5), reading(), reading(), reading(kv_usage=0.8)], 0.5),
            ([], 1.0),
        ],
    )
    def test_mean_of_the_fuller_signal(self, readings: list[Reading], saturation: float) -> None:
        assert detector().saturation(readings) == pytest.approx(saturation)

    @pytest.mark.parametrize(
        "unknown", [reading(age_s=None), reading(age_s=0.21), reading(waiting=None, kv_usage=None)], ids=repr
    )
    def test_an_endpoint_that_is_not_known_counts_as_full(self, unknown: Reading) -> None:
        assert detector().saturation([unknown]) == 1.0
        assert detector().saturation([unknown, reading()]) == 0.5

    def test_one_signal_is_enough(self) -> None:
        assert detector().saturation([reading(waiting=None, kv_usage=0.4)]) == 0.5
        assert detector().saturation([reading(waiting=1, kv_usage=None)]) == 0.2

    def test_thresholds(self) -> None:
        chosen = detector("{queueDepthThreshold: 10, kvCacheUtilThreshold: 0.5, metricsStalenessThreshold: 1s, headroom: 0.2}")
        assert chosen.saturation([reading(waiting=5, age_s=0.9)]) == 0.5
        assert chosen.saturation([reading(kv_usage=0.5)]) == 1.0
        assert chosen.saturation([reading(age_s=1.1)]) == 1.0

    @pytest.mark.parametrize(("interval_s", "fresh_s"), [(0.01, 0.2), (0.05, 0.2), (1.0, 4.0)])
    def test_a_page_is_stale_when_several_are_late(self, interval_s: float, fresh_s: float) -> None:
        """A fixed age would call a pool full between any two pages that are read less often."""
        chosen = detector(interval_s=interval_s)
        assert chosen.saturation([reading(age_s=fresh_s)]) == 0.0
        assert chosen.saturation([reading(age_s=fresh_s * 1.01)]) == 1.0

    @pytest.mark.parametrize(
        ("parameters", "problem"),
        [
            ("{queueDepthThreshold: 0}", "queueDepthThreshold: input should be greater than or equal to 1 (got 0)"),
            ("{kvCacheUtilThreshold: 1.5}", "kvCacheUtilThreshold: input should be less than or equal to 1 (got 1.5)"),
            (
                "{metricsStalenessThreshold: 5}",
                "metricsStalenessThreshold: expected a duration such as 50ms, 2s or 1m30s (got 5)",
            ),
            ("{headroom: -1}", "headroom: input should be greater than or equal to 0 (got -1)"),
            ("{queueDepth: 5}", "queueDepth: unknown key"),
        ],
    )
    def test_wrong_parameters(self, parameters: str, problem: str) -> None:
        config = f"plugins: [{{type: utilization-detector, parameters: {parameters}}}]"
        assert problems(config) == [f"plugins[0].parameters.{problem}"]


class TestConcurrency:
    @pytest.mark.parametrize(
        ("in_flight", "saturation"), [([0], 0.0), ([100], 1.0), ([50, 0], 0.25), ([100, 200], 1.5), ([], 1.0)]
    )
    def test_in_flight_by_what_fits(self, in_flight: list[int], saturation: float) -> None:
        readings = [reading(age_s=None, in_flight=number) for number in in_flight]
        assert detector(kind="concurrency-detector").saturation(readings) == saturation

    def test_parameters(self) -> None:
        chosen = detector("{maxConcurrency: 4, concurrencyMode: requests}", "concurrency-detector")
        assert chosen.saturation([reading(in_flight=3)]) == 0.75

    @pytest.mark.parametrize(
        ("parameters", "problem"),
        [
            ("{maxConcurrency: 0}", "maxConcurrency: input should be greater than or equal to 1 (got 0)"),
            ("{concurrencyMode: x}", "concurrencyMode: input should be 'requests', 'tokens' or 'hybrid' (got 'x')"),
            ("{maxTokenConcurrency: 0}", "maxTokenConcurrency: input should be greater than or equal to 1 (got 0)"),
        ],
    )
    def test_wrong_parameters(self, parameters: str, problem: str) -> None:
        config = f"plugins: [{{type: concurrency-detector, parameters: {parameters}}}]"
        assert problems(config) == [f"plugins[0].parameters.{problem}"]


class TestWhichDetector:
    TWO = "plugins: [{type: concurrency-detector, parameters: {maxConcurrency: 1}}, {type: utilization-detector, name: u}]\n"
    BUSY = (reading(in_flight=3),)

    @pytest.mark.parametrize(
        ("config", "saturation"),
        [
            ("{}", 0.0),
            ("plugins: [{type: concurrency-detector, parameters: {maxConcurrency: 1}}]", 3.0),
            (TWO + "flowControl: {saturationDetector: {pluginRef: concurrency-detector}}", 3.0),
            (TWO + "flowControl: {saturationDetector: {pluginRef: u}}", 0.0),
            (TWO + "saturationDetector: {pluginRef: concurrency-detector}", 3.0),
        ],
    )
    def test_is_named_or_the_only_one_or_the_default(self, config: str, saturation: float) -> None:
        assert built(config).pool(seeded(), FakeClock(), INTERVAL_S).detector.saturation(self.BUSY) == saturation

    def test_the_thresholds_of_older_files(self) -> None:
        chosen = (
            built("saturationDetector: {queueDepthThreshold: 10, metricsStalenessThreshold: 1s}")
            .pool(seeded(), FakeClock(), INTERVAL_S)
            .detector
        )
        assert chosen.saturation([reading(waiting=5, age_s=0.9)]) == 0.5

    @pytest.mark.parametrize(
        ("config", "problem"),
        [
            (
                TWO,
                "plugins: more than one saturation detector: concurrency-detector, u; "
                "name one in flowControl.saturationDetector.pluginRef",
            ),
            (
                "flowControl: {saturationDetector: {pluginRef: x}}",
                "flowControl.saturationDetector.pluginRef: no plugin is called 'x' (there are: none)",
            ),
            (
                "plugins: [{type: queue-scorer}]\nsaturationDetector: {pluginRef: queue-scorer}",
                "saturationDetector.pluginRef: 'queue-scorer' is a scorer, expected a saturation detector plugin",
            ),
            (
                "saturationDetector: {queueDepthThreshold: 0}",
                "saturationDetector.queueDepthThreshold: input should be greater than or equal to 1 (got 0)",
            ),
            (
                "saturationDetector: {pluginRef: utilization-detector, queueDepthThreshold: 1}\n"
                "plugins: [{type: utilization-detector}]",
                "saturationDetector: pluginRef and thresholds exclude each other",
            ),
            (
                "plugins: [{type: utilization-detector}]\nsaturationDetector: {queueDepthThreshold: 5}\n"
                "flowControl: {saturationDetector: {pluginRef: utilization-detector}}",
                "saturationDetector: excludes flowControl.saturationDetector",
            ),
            ("flowControl: {maxByte: 1Gi}", "flowControl.maxByte: unknown key"),
        ],
    )
    def test_what_is_wrong_is_said(self, config: str, problem: str) -> None:
        assert problems(config) == [problem]

    def test_the_older_place_is_deprecated(self) -> None:
        _, warnings = load_picker_config("saturationDetector: {queueDepthThreshold: 10}")
        assert warnings == ["saturationDetector: deprecated, use flowControl.saturationDetector.pluginRef and a plugin"]

    @pytest.mark.parametrize("kind", ["utilization-detector", "concurrency-detector"])
    def test_a_profile_takes_it_as_a_filter(self, kind: str) -> None:
        profiles = f"schedulingProfiles: [{{name: p, plugins: [{{pluginRef: {kind}}}]}}]"
        config, _ = load_picker_config(f"plugins: [{{type: {kind}}}]\n{profiles}")
        blueprint = build_scheduler(config)
        assert blueprint.profile.filters == (kind,)
        assert blueprint.detector == kind
        unused, _ = load_picker_config(f"plugins: [{{type: {kind}}}]")
        assert build_scheduler(unused).profile.filters == (), "only where a profile names it"
