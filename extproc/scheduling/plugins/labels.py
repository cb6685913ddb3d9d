"""Plugins that go by the endpoints' labels. What they keep is in the rows at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from extproc.candidates import Candidates, Column
from extproc.scheduling import columns
from extproc.scheduling.cycle import Cycle
from extproc.scheduling.plugins.base import FILTER, SCORER, PluginType
from extproc.scheduling.plugins.parameters import NoParameters
from extproc.scheduling.plugins.parameters_labels import (
    ByLabelParameters,
    HeaderLabelParameters,
    SelectorParameters,
    selector_of,
)
from extproc.scheduling.selector import Requirement, Selector, selects

ROLE_LABEL: Final = "llm-d.ai/role"
_DECODE: Final = frozenset({"decode", "prefill-decode", "both", "encode-prefill-decode"})
_PREFILL: Final = frozenset({"prefill", "encode-prefill", "prefill-decode", "both", "encode-prefill-decode"})
_ENCODE: Final = frozenset({"encode", "encode-prefill", "encode-prefill-decode"})


class LabelFilter:
    """`label-selector-filter` and all that are one with a selector of their own."""

    fixed = True
    by_load = False

    def __init__(self, selector: Selector) -> None:
        self._selector = selector

    def keep(self, cycle: Cycle, candidates: Candidates) -> Sequence[int] | None:
        selector = self._selector
        if not selector:
            return None
        return [position for position, each in enumerate(candidates.endpoints) if selects(selector, each.labels)]


class HeaderLabelScorer:
    """`header-label-affinity-scorer`."""

    per_snapshot = False

    def __init__(self, header: str, label: str) -> None:
        """The header in lower case."""
        self._header = header
        self._label = label

    def score(self, cycle: Cycle, candidates: Candidates) -> Column:
        wanted = cycle.asked.head.text(self._header)
        if not wanted:
            return columns.zeros_like(candidates.in_flight)
        label = self._label
        return columns.like(
            candidates.in_flight, [1.0 if each.labels.get(label) == wanted else 0.0 for each in candidates.endpoints]
        )


def _role(values: frozenset[str], absent: bool) -> LabelFilter:
    return LabelFilter((Requirement(ROLE_LABEL, values, absent=absent),))


def _header_label(parameters: HeaderLabelParameters, kit: Any) -> HeaderLabelScorer:
    return HeaderLabelScorer(parameters.header_name, parameters.label_key)


TYPES: Final = (
    PluginType(
        "decode-filter",
        FILTER,
        f"keeps `{ROLE_LABEL}` decode, prefill-decode, both, encode-prefill-decode, and who has no such label",
        NoParameters,
        lambda parameters, kit: _role(_DECODE, absent=True),
    ),
    PluginType(
        "prefill-filter",
        FILTER,
        f"keeps `{ROLE_LABEL}` prefill, encode-prefill, prefill-decode, both, encode-prefill-decode",
        NoParameters,
        lambda parameters, kit: _role(_PREFILL, absent=False),
    ),
    PluginType(
        "encode-filter",
        FILTER,
        f"keeps `{ROLE_LABEL}` encode, encode-prefill, encode-prefill-decode",
        NoParameters,
        lambda parameters, kit: _role(_ENCODE, absent=False),
    ),
    PluginType(
        "label-selector-filter",
        FILTER,
        "keeps endpoints whose labels fit a Kubernetes LabelSelector",
        SelectorParameters,
        lambda parameters, kit: LabelFilter(selector_of(parameters)),
        older=("by-label-selector",),
    ),
    PluginType(
        "by-label",
        FILTER,
        "older: keeps endpoints whose `label` is one of `validValues`",
        ByLabelParameters,
        lambda parameters, kit: LabelFilter(selector_of(parameters)),
        note=lambda parameters: "by-label is an older type, use label-selector-filter",
    ),
    PluginType(
        "header-label-affinity-scorer",
        SCORER,
        "1 where the label `labelKey` is what the header `headerName` says, else 0",
        HeaderLabelParameters,
        _header_label,
    ),
)
