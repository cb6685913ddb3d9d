"""`rollout`: how an entity takes over an endpoint's traffic, in Argo Rollouts' words. Types only; rules: `rollouts.plan`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from extproc.settings.base import Settings, SettingsError, few, parse_duration_s
from extproc.settings.serving.fields import Flag, Label, Name, Percentage, Url, explained, kind_of, said, whole

_LONGEST_S = 30 * 24 * 3600.0


def _duration(value: object) -> float:
    """Seconds; Argo takes a bare number for seconds too."""
    bare = isinstance(value, int | float) and not isinstance(value, bool)
    seconds = float(value) if isinstance(value, int | float) and bare else parse_duration_s(value)
    if not 0 <= seconds <= _LONGEST_S:
        raise ValueError("expected a duration of at most 720h")
    return seconds


def _fraction(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise ValueError("expected a number between 0 and 1")
    return float(value)


def _tolerance(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 10:
        raise ValueError("expected a number from 0 to 10, such as 0.05")
    return float(value)


Duration = Annotated[float, BeforeValidator(_duration)]
Fraction = Annotated[float, BeforeValidator(_fraction)]
Tolerance = Annotated[float, BeforeValidator(_tolerance)]
Limit = Annotated[int, whole(0, 100_000, "a whole number from 0 to 100000")]


class _Strict(Settings):
    """A key that nobody knows would be a guard that nobody watches, so it is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=False, defer_build=True)


class Compare(_Strict):
    """The canary against the baseline, by a test that may be looked at as often as one likes."""

    measure: Literal["ttft", "tpot", "e2e", "error_rate"]
    tolerance: Tolerance = 0.0
    """How much worse is still as good: a part of the baseline's time, or points of the error rate."""
    margin: Tolerance | None = None
    """Surely no worse than by so much: passed. 0.1 for times, 0.01 for the error rate, and more than the tolerance."""
    minimumSamples: Annotated[int, whole(20, 1_000_000, "a whole number from 20 to 1000000")] = 100
    """Of each arm, before anything is said."""
    hold: list[Literal["hit_fraction", "queue"]] = ["hit_fraction", "queue"]
    """What is compared only among requests that are alike in it."""

    @model_validator(mode="after")
    def _beyond(self) -> Compare:
        if self.margin is not None and self.margin <= self.tolerance:
            raise ValueError(f"expected a margin above the tolerance, which is {self.tolerance}")
        return self


class Metric(_Strict):
    """One thing that is watched."""

    name: Name
    interval: Duration = 10.0
    initialDelay: Duration = 0.0
    count: Limit = 0
    """Measurements; 0: as long as the analysis goes on."""
    successCondition: Annotated[str, Field(max_length=500)] | None = None
    failureCondition: Annotated[str, Field(max_length=500)] | None = None
    failureLimit: Limit = 0
    inconclusiveLimit: Limit = 0
    consecutiveErrorLimit: Limit = 4
    dryRun: Flag = False
    window: Duration = 60.0
    """What conditions look back on."""
    compare: Compare | None = None

    @field_validator("interval")
    @classmethod
    def _not_all_the_time(cls, interval: float) -> float:
        if interval < 0.1:
            raise ValueError("expected at least 100ms")
        return interval

    @model_validator(mode="after")
    def _one_kind(self) -> Metric:
        conditions = self.successCondition is not None or self.failureCondition is not None
        if conditions == (self.compare is not None):
            raise ValueError("expected successCondition, failureCondition or both, or else compare")
        return self


class Pause(_Strict):
    """Without a duration: until somebody says `promote`."""

    duration: Duration | None = None


class Analysis(_Strict):
    """A step that is over when its metrics are."""

    metrics: list[Name] | None = Field(None, min_length=1, max_length=20)


class Background(_Strict):
    """What is watched all along."""

    startingStep: Limit = 0
    metrics: list[Name] | None = Field(None, max_length=20)


class HeaderValue(_Strict):
    """How a header's value has to be."""

    exact: Label


class HeaderMatch(_Strict):
    """One header."""

    headerName: Label
    headerValue: HeaderValue


class HeaderRoute(_Strict):
    """Requests with these headers go to the canary, whatever the weight. Without `match` the route goes again."""

    name: Name
    match: list[HeaderMatch] = Field([], max_length=10)


class Shadow(_Strict):
    """So many in a hundred requests are copied to the canary; 0 ends it."""

    percentage: Percentage


class Step(_Strict):
    """Exactly one of them."""

    setWeight: Percentage | None = None
    pause: Pause | None = None
    analysis: Analysis | None = None
    shadow: Shadow | None = None
    setHeaderRoute: HeaderRoute | None = None

    @model_validator(mode="after")
    def _one(self) -> Step:
        if len(self.model_fields_set) != 1 or next(iter(self.model_dump(exclude_none=True)), None) is None:
            raise ValueError("expected exactly one of setWeight, pause, analysis, shadow, setHeaderRoute")
        return self


class Webhook(_Strict):
    """Flagger's: somebody is asked, or told."""

    name: Name
    type: Literal["confirm-rollout", "confirm-traffic-increase", "confirm-promotion", "rollback", "event"]
    url: Url
    timeout: Duration = 5.0

    @model_validator(mode="after")
    def _soon(self) -> Webhook:
        if not 0 < self.timeout <= 30:
            raise ValueError("expected a timeout of at most 30s")
        return self


class Rollout(_Strict):
    """The plan."""

    baseline: Name
    canary: Name
    steps: list[Step] = Field(min_length=1, max_length=100)
    metrics: list[Metric] = Field([], max_length=20)
    analysis: Background | None = None
    webhooks: list[Webhook] = Field([], max_length=20)
    alpha: Fraction = 0.05
    """How often a canary that is no worse may be rolled back, over the whole rollout and all comparisons."""
    noveltyPeriod: Duration = 60.0
    """After the canary's first request: its times do not count, as its caches are cold. Its errors do."""
    bakeTime: Duration = 600.0
    """After a large change no other one, unless forced."""
    largeChange: Percentage = 25
    """Percent of the endpoint's traffic that make a change large."""
    promotion: Literal["rename", "reweight"] = "rename"
    progressDeadline: Duration | None = None
    """A rollout that takes longer is rolled back."""


def read_rollout(document: object, path: str = "rollout") -> dict[str, Any]:
    """The plan, checked for its types, with all defaults in it. Raises SettingsError with every problem and its path."""
    if not isinstance(document, dict):
        raise SettingsError([said(path, f"got {kind_of(document)}; expected an object")])
    try:
        form = Rollout.model_validate(document)
    except ValidationError as error:
        raise SettingsError(few(explained(error, f"{path}." if path else ""))) from None
    kept: dict[str, Any] = form.model_dump(mode="json", exclude_none=True)
    return kept
