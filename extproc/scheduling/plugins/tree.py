"""`decision-tree-filter` of 2025: filters that are asked one after the other, by whether the one before left anybody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from extproc.candidates import Candidates
from extproc.scheduling.cycle import Cycle
from extproc.scheduling.plugins.base import FILTER, Filter, Kit, PluginType, Reference
from extproc.scheduling.plugins.parameters_load import TreeParameters, TreeStep


class Tree:
    """A step, and what follows."""

    fixed = False
    by_load = True

    def __init__(self, current: Filter, on_success: Filter | None = None, on_failure: Filter | None = None) -> None:
        self._current = current
        self._on_success = on_success
        self._on_failure = on_failure

    def keep(self, cycle: Cycle, candidates: Candidates) -> Sequence[int] | None:
        kept = self._current.keep(cycle, candidates)
        if kept is not None and not kept:
            return kept if self._on_failure is None else self._on_failure.keep(cycle, candidates)
        further = self._on_success
        if further is None:
            return kept
        if kept is None:
            return further.keep(cycle, candidates)
        of_those = further.keep(cycle, candidates.only(kept))
        return kept if of_those is None else [kept[position] for position in of_those]


def _tree(parameters: TreeParameters, filters: Mapping[str, Filter]) -> Tree:
    either = parameters.next_on_success_or_failure
    return Tree(
        _step(parameters.current, filters),
        _next(parameters.next_on_success or either, filters),
        _next(parameters.next_on_failure or either, filters),
    )


def _step(step: TreeStep, filters: Mapping[str, Filter]) -> Filter:
    if step.plugin_ref is not None:
        return filters[step.plugin_ref]
    assert step.decision_tree is not None, "the parameters are checked"
    return _tree(step.decision_tree, filters)


def _next(step: TreeStep | None, filters: Mapping[str, Filter]) -> Filter | None:
    return None if step is None else _step(step, filters)


def _references(parameters: TreeParameters, path: str = "") -> Sequence[Reference]:
    found: list[Reference] = []
    for name, step in (
        ("current", parameters.current),
        ("nextOnSuccess", parameters.next_on_success),
        ("nextOnFailure", parameters.next_on_failure),
        ("nextOnSuccessOrFailure", parameters.next_on_success_or_failure),
    ):
        if step is None:
            continue
        if step.plugin_ref is not None:
            found.append(Reference(step.plugin_ref, FILTER, f"{path}{name}.pluginRef"))
        if step.decision_tree is not None:
            found += _references(step.decision_tree, f"{path}{name}.decisionTree.")
    return found


def _make(parameters: TreeParameters, kit: Kit) -> Tree:
    return _tree(parameters, kit.plugins)


TYPES: Final = (
    PluginType(
        "decision-tree-filter",
        FILTER,
        "asks `current`; then of those that it left `nextOnSuccess`, or when it left none of all `nextOnFailure`",
        TreeParameters,
        _make,
        refers=_references,
    ),
)
