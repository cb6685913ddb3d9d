"""Plugins that go by any number that pages tell of endpoints. What each does with it is in the rows at the end."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from extproc.candidates import Candidates, Column
from extproc.scheduling import columns
from extproc.scheduling.attributes import Attribute
from extproc.scheduling.cycle import Cycle
from extproc.scheduling.plugins.base import FILTER, SCORER, Kit, PluginType
from extproc.scheduling.plugins.load_filters import with_trial
from extproc.scheduling.plugins.parameters import NoParameters
from extproc.scheduling.plugins.parameters_attributes import (
    AttributeFilterParameters,
    AttributeScorerParameters,
    FilterAlgorithm,
    Threshold,
)
from extproc.settings.engines import KV_USAGE_OF_CLUSTER, QUEUE_OF_CLUSTER

_INF: Final = math.inf


class Rule:
    """Whom an attribute lets stay."""

    def keep(self, column: Column, unknown: bool) -> list[int]:
        """Positions in order; `unknown`: those too of whom nothing is known."""
        raise NotImplementedError


class Within(Rule):
    """`threshold` and `range`: from a number to another, or outside of that."""

    def __init__(self, low: float, high: float, *, outside: bool = False) -> None:
        self._low = low
        self._high = high
        self._outside = outside

    def keep(self, column: Column, unknown: bool) -> list[int]:
        return columns.between(column, self._low, self._high, unknown=unknown, outside=self._outside)


class Top(Rule):
    """`topK`: so many of the known; of equals the first."""

    def __init__(self, count: int, higher: bool) -> None:
        self._count = count
        self._higher = higher

    def keep(self, column: Column, unknown: bool) -> list[int]:
        known = columns.between(column, -_INF, _INF, unknown=False)
        ranked = sorted(known, key=lambda position: -column[position] if self._higher else column[position])
        kept = set(ranked[: self._count])
        if unknown:
            kept.update(set(range(len(column))).difference(known))
        return sorted(kept)


class From(Rule):
    """`percentile`, of the nearest rank: the value at place ceil(P / 100 × n) of the known, and what is better."""

    def __init__(self, percentile: float, higher: bool) -> None:
        self._percentile = percentile
        self._higher = higher

    def keep(self, column: Column, unknown: bool) -> list[int]:
        known = sorted([float(column[position]) for position in columns.between(column, -_INF, _INF, unknown=False)])
        if not known:
            return list(range(len(column))) if unknown else []
        cut = known[max(math.ceil(self._percentile / 100.0 * len(known)), 1) - 1]
        low, high = (cut, _INF) if self._higher else (-_INF, cut)
        return columns.between(column, low, high, unknown=unknown)


class AttributeFilter:
    """`endpoint-attribute-filter`. Whose turn it is to be tried stays, as else nothing would ever be known of it."""

    fixed = False
    by_load = True

    def __init__(self, attribute: Attribute, rule: Rule, *, unknown: bool, all_if_none: bool) -> None:
        self._read = attribute
        self._rule = rule
        self._unknown = unknown
        self._all_if_none = all_if_none

    def keep(self, cycle: Cycle, candidates: Candidates) -> Sequence[int] | None:
        kept = self._rule.keep(self._read.column(candidates), self._unknown)
        if len(kept) == len(candidates) or (self._all_if_none and not kept):
            return None
        return with_trial(kept, candidates)


class AttributeScorer:
    """`endpoint-attribute-scorer`, `multicluster-queue-scorer`, `multicluster-kv-cache-utilization-scorer`."""

    def __init__(self, attribute: Attribute, *, higher: bool = False, fixed: tuple[float, float] | None = None) -> None:
        """`fixed`: what is 0 and what is 1; None for the least and the largest of the candidates'."""
        self._read = attribute
        self._higher = higher
        self._fixed = fixed
        self.per_snapshot = not attribute.is_live

    def score(self, cycle: Cycle, candidates: Candidates) -> Column:
        column = self._read.column(candidates)
        ends = self._fixed or columns.range_of(column)
        if ends is None:
            return columns.zeros_like(candidates.in_flight)
        low, high = ends
        if low == high:  # all known ones are equal
            return columns.rescaled(column, low - 1.0, low, higher=True)
        return columns.rescaled(column, low, high, higher=self._higher)


def _threshold(threshold: Threshold) -> Rule:
    value = threshold.value
    operator = threshold.operator
    if operator == "LessThan":
        return Within(-_INF, math.nextafter(value, -_INF))
    if operator == "LessThanOrEqual":
        return Within(-_INF, value)
    if operator == "GreaterThan":
        return Within(math.nextafter(value, _INF), _INF)
    if operator == "GreaterThanOrEqual":
        return Within(value, _INF)
    return Within(value, value, outside=operator == "NotEqual")


def _rule(algorithm: FilterAlgorithm) -> Rule:
    if algorithm.threshold is not None:
        return _threshold(algorithm.threshold)
    if algorithm.range is not None:
        return Within(algorithm.range.min, algorithm.range.max)
    if algorithm.top_k is not None:
        return Top(algorithm.top_k.k, algorithm.top_k.higher_is_better)
    percentile = algorithm.percentile
    assert percentile is not None, "the parameters are checked"
    return From(percentile.percentile, percentile.higher_is_better)


def _filter(parameters: AttributeFilterParameters, kit: Kit) -> AttributeFilter:
    return AttributeFilter(
        Attribute(parameters.attribute),
        _rule(parameters.algorithm),
        unknown=parameters.on_missing == "Pass",
        all_if_none=parameters.fallback_on_empty,
    )


def _scorer(parameters: AttributeScorerParameters, kit: Kit) -> AttributeScorer:
    algorithm = parameters.algorithm
    fixed = algorithm.normalization.fixed_range
    return AttributeScorer(
        Attribute(parameters.attribute_key),
        higher=algorithm.type == "linear_higher_is_better",
        fixed=None if fixed is None else (fixed.min, fixed.max),
    )


TYPES: Final = (
    PluginType(
        "endpoint-attribute-filter",
        FILTER,
        "keeps endpoints by an attribute: compared with a number, in a range, the k best, or from a percentile on",
        AttributeFilterParameters,
        _filter,
        attributes=lambda parameters: (parameters.attribute,),
    ),
    PluginType(
        "endpoint-attribute-scorer",
        SCORER,
        "(x − min) / (max − min) of an attribute, or 1 − that, over a fixed range or the candidates'; all equal: 1",
        AttributeScorerParameters,
        _scorer,
        attributes=lambda parameters: (parameters.attribute_key,),
    ),
    PluginType(
        "multicluster-queue-scorer",
        SCORER,
        f"as queue-scorer, over the attribute `{QUEUE_OF_CLUSTER}`",
        NoParameters,
        lambda parameters, kit: AttributeScorer(Attribute(QUEUE_OF_CLUSTER)),
        attributes=lambda parameters: (QUEUE_OF_CLUSTER,),
    ),
    PluginType(
        "multicluster-kv-cache-utilization-scorer",
        SCORER,
        f"as kv-cache-utilization-scorer, over the attribute `{KV_USAGE_OF_CLUSTER}`",
        NoParameters,
        lambda parameters, kit: AttributeScorer(Attribute(KV_USAGE_OF_CLUSTER), fixed=(0.0, 1.0)),
        attributes=lambda parameters: (KV_USAGE_OF_CLUSTER,),
    ),
)
