"""What plugins that go by attributes of endpoints are told."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from extproc.scheduling.plugins.parameters import Parameters


class Threshold(Parameters):
    """A comparison with a number."""

    operator: Literal["LessThan", "LessThanOrEqual", "GreaterThan", "GreaterThanOrEqual", "Equal", "NotEqual"]
    """How."""
    value: float = Field(allow_inf_nan=False)
    """With what."""


class Bounds(Parameters):
    """From one number to another."""

    min: float = Field(allow_inf_nan=False)
    """At least."""
    max: float = Field(allow_inf_nan=False)
    """At most."""

    @model_validator(mode="after")
    def _in_order(self) -> Bounds:
        if self.min > self.max:
            raise ValueError(f"min is above max ({self.min:g}, {self.max:g})")
        return self


class TopK(Parameters):
    """So many."""

    k: int = Field(ge=1)
    """How many."""
    higher_is_better: bool = Field(True, alias="higherIsBetter")
    """The highest, else the lowest."""


class Percentile(Parameters):
    """From a percentile on."""

    percentile: float = Field(ge=0, le=100)
    """Which, 0 to 100."""
    higher_is_better: bool = Field(True, alias="higherIsBetter")
    """From there up, else down."""


class FilterAlgorithm(Parameters):
    """Whom to keep."""

    type: Literal["threshold", "range", "topK", "percentile"]
    """How; its parameters stand under the same name."""
    threshold: Threshold | None = None
    """`operator` (LessThan, LessThanOrEqual, GreaterThan, GreaterThanOrEqual, Equal, NotEqual) and `value`."""
    range: Bounds | None = None
    """`min` and `max`, both included."""
    top_k: TopK | None = Field(None, alias="topK")
    """`k`, `higherIsBetter`."""
    percentile: Percentile | None = None
    """`percentile`, `higherIsBetter`."""

    @model_validator(mode="after")
    def _of_its_type(self) -> FilterAlgorithm:
        given = {"threshold": self.threshold, "range": self.range, "topK": self.top_k, "percentile": self.percentile}
        if given[self.type] is None:
            raise ValueError(f"algorithm {self.type} needs {self.type}")
        others = [name for name, value in given.items() if value is not None and name != self.type]
        if others:
            raise ValueError(f"algorithm {self.type} takes no {', '.join(others)}")
        return self


class AttributeFilterParameters(Parameters):
    """Parameters of `endpoint-attribute-filter`."""

    attribute: str = Field(min_length=1)
    """The attribute's name."""
    producer: str | None = None
    """The extractor that gives it, by its name. Attributes have one space of names here, so it need not be named."""
    on_missing: Literal["Pass", "Fail"] = Field("Pass", alias="onMissing")
    """What becomes of endpoints of which it is unknown."""
    fallback_on_empty: bool = Field(False, alias="fallbackOnEmpty")
    """Keep all where none would be left."""
    algorithm: FilterAlgorithm
    """`type` (threshold, range, topK, percentile) with its parameters under that name."""


class Normalization(Parameters):
    """What is 0 and what is 1."""

    fixed_range: Bounds | None = Field(None, alias="fixedRange")
    """`min` and `max`."""
    adaptive_range: dict[str, object] | None = Field(None, alias="adaptiveRange")
    """The least and the largest of the candidates': the default."""

    @model_validator(mode="after")
    def _usable(self) -> Normalization:
        fixed = self.fixed_range
        if fixed is not None and not fixed.min < fixed.max:
            raise ValueError("fixedRange needs min below max")
        if fixed is not None and self.adaptive_range:
            raise ValueError("fixedRange and adaptiveRange exclude each other")
        return self


class ScorerAlgorithm(Parameters):
    """What is worth how much."""

    type: Literal["linear_lower_is_better", "linear_higher_is_better"]
    """Which end has all points."""
    normalization: Normalization = Normalization.model_validate({})
    """`fixedRange` with `min` and `max`, or `adaptiveRange` (the default)."""


class AttributeScorerParameters(Parameters):
    """Parameters of `endpoint-attribute-scorer`."""

    attribute_key: str = Field(alias="attributeKey", min_length=1)
    """The attribute's name."""
    producer: str | None = None
    """As for endpoint-attribute-filter."""
    algorithm: ScorerAlgorithm
    """`type` (linear_lower_is_better, linear_higher_is_better), and `normalization`."""
