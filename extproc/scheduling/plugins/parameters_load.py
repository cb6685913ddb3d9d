"""What plugins that go by load are told."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from extproc.scheduling.plugins.parameters import Parameters


class QueueThresholdParameters(Parameters):
    """Parameters of `low-queue-filter`."""

    threshold: int = Field(128, ge=0)
    """Waiting requests that an endpoint may have."""


class LoadAwareParameters(Parameters):
    """Parameters of `load-aware-scorer`."""

    threshold: int = Field(128, ge=1)
    """Waiting requests from which on an endpoint has no points."""


class LoraFilterParameters(Parameters):
    """Parameters of `lora-affinity-filter`."""

    threshold: float = Field(0.999, ge=0, le=1)
    """How probably those that have the adapter are kept, where others have room for it."""


class Condition(Parameters):
    """What an endpoint may have of one signal."""

    metric: Literal["active-requests", "running-requests", "waiting-queue", "kv-cache-utilization"]
    """The signal."""
    max_value: float = Field(alias="maxValue", allow_inf_nan=False)
    """So much at most."""


class UtilizationFilterParameters(Parameters):
    """Parameters of `utilization-filter`."""

    conditions: tuple[Condition, ...] = Field(min_length=1)
    """Each with `metric` (active-requests, running-requests, waiting-queue, kv-cache-utilization) and `maxValue`; all hold."""
    fallback_on_empty: bool = Field(False, alias="fallbackOnEmpty")
    """Keep all where none fits."""
    in_flight_load_producer_name: str | None = Field(None, alias="inFlightLoadProducerName")
    """Accepted for upstream's sake: we count requests in flight ourselves, at the pick."""


class TreeStep(Parameters):
    """A filter by its name, or a tree of them."""

    plugin_ref: str | None = Field(None, alias="pluginRef")
    """A filter."""
    decision_tree: TreeParameters | None = Field(None, alias="decisionTree")
    """Or a tree."""

    @model_validator(mode="after")
    def _one(self) -> TreeStep:
        if (self.plugin_ref is None) == (self.decision_tree is None):
            raise ValueError("expected either pluginRef or decisionTree")
        return self


class TreeParameters(Parameters):
    """Parameters of `decision-tree-filter`."""

    current: TreeStep
    """Asked first: `pluginRef`, a filter, or `decisionTree`."""
    next_on_success: TreeStep | None = Field(None, alias="nextOnSuccess")
    """Asked next, of those that it left."""
    next_on_failure: TreeStep | None = Field(None, alias="nextOnFailure")
    """Asked next, of all, when it left none."""
    next_on_success_or_failure: TreeStep | None = Field(None, alias="nextOnSuccessOrFailure")
    """In place of both."""

    @model_validator(mode="after")
    def _one_way(self) -> TreeParameters:
        if self.next_on_success_or_failure is not None and (self.next_on_success or self.next_on_failure):
            raise ValueError("nextOnSuccessOrFailure excludes nextOnSuccess and nextOnFailure")
        return self


TreeStep.model_rebuild()
