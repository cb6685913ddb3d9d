"""Conditions of metrics: comparisons of measures, such as `canary.ttft_p95 <= 1.2 * baseline.ttft_p95 && error_rate < 0.02`.

Python's grammar of comparisons, `and`, `or`, `not` and the four operations, with `&&`, `||` and `!` of Argo's expressions; what
is not one of them is refused, so a condition can't loop, call or grow. A measure without an arm before it is the canary's.
"""

from __future__ import annotations

import ast
import difflib
import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from extproc.rollouts.samples import MEASURES, ArmSample, Pair
from extproc.settings.base import shown

_OPERATIONS: Final[dict[type[ast.operator], Callable[[float, float], float]]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_COMPARISONS: Final[dict[type[ast.cmpop], Callable[[float, float], bool]]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_ARMS: Final = ("canary", "baseline")
_WORDS: Final = (("&&", " and "), ("||", " or "))
_NOT: Final = re.compile(r"!(?!=)")
_MOST: Final = 500
_DEEPEST: Final = 20


class BadCondition(ValueError):
    """A condition that is none; its text says what was expected."""


class Unknown(Exception):
    """A measure has no value yet, or something is divided by 0: neither true nor false."""


@dataclass(frozen=True)
class Condition:
    """One that holds, does not hold, or can't be said to. Equal by its text."""

    text: str
    tree: ast.expr = field(compare=False, repr=False)

    def holds(self, pair: Pair) -> bool | None:
        """None: nothing is known of one of its measures."""
        try:
            return _truth(self.tree, pair)
        except (Unknown, ZeroDivisionError, OverflowError):
            return None


def condition(text: str) -> Condition:
    """Raises BadCondition."""
    if len(text) > _MOST:
        raise BadCondition(f"got {len(text)} characters; expected at most {_MOST}")
    words = text
    for theirs, ours in _WORDS:
        words = words.replace(theirs, ours)
    words = _NOT.sub(" not ", words).strip()
    try:
        tree = ast.parse(words, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise BadCondition(f"got {shown(text)}; expected comparisons such as canary.error_rate < 0.02") from None
    _check(tree, text, truth=True, depth=0)
    return Condition(text, tree)


def _check(node: ast.expr, text: str, *, truth: bool, depth: int) -> None:
    if depth > _DEEPEST:
        raise BadCondition(f"got {shown(text)}; expected at most {_DEEPEST} brackets in each other")
    below = depth + 1
    if truth and isinstance(node, ast.BoolOp):
        for each in node.values:
            _check(each, text, truth=True, depth=below)
    elif truth and isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        _check(node.operand, text, truth=True, depth=below)
    elif truth and isinstance(node, ast.Compare) and all(type(each) in _COMPARISONS for each in node.ops):
        for each in (node.left, *node.comparators):
            _check(each, text, truth=False, depth=below)
    elif not truth and isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
        _check(node.left, text, truth=False, depth=below)
        _check(node.right, text, truth=False, depth=below)
    elif not truth and isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        _check(node.operand, text, truth=False, depth=below)
    elif not truth and isinstance(node, ast.Constant) and _is_number(node.value):
        return
    elif not truth and isinstance(node, ast.Name | ast.Attribute):
        _check_measure(node)
    else:
        raise BadCondition(f"got {shown(text)}; expected comparisons such as canary.error_rate < 0.02, with and, or, + - * /")


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _check_measure(node: ast.Name | ast.Attribute) -> None:
    arm, measure = _named(node)
    if arm not in _ARMS:
        raise BadCondition(f"got the arm {shown(arm)}; expected canary or baseline")
    if measure not in MEASURES:
        alike = difflib.get_close_matches(measure, MEASURES, 1)
        meant = f"{alike[0]}, or another" if alike else "one"
        raise BadCondition(f"got the measure {shown(measure)}, which nobody knows; expected {meant} of {', '.join(MEASURES)}")


def _named(node: ast.Name | ast.Attribute) -> tuple[str, str]:
    if isinstance(node, ast.Name):
        return "canary", node.id
    return (node.value.id if isinstance(node.value, ast.Name) else "?"), node.attr


def _truth(node: ast.expr, pair: Pair) -> bool:
    if isinstance(node, ast.BoolOp):
        both = isinstance(node.op, ast.And)
        return _together([_or_unknown(each, pair) for each in node.values], both)
    if isinstance(node, ast.UnaryOp):
        return not _truth(node.operand, pair)
    assert isinstance(node, ast.Compare)
    values = [_value(each, pair) for each in (node.left, *node.comparators)]
    return all(_COMPARISONS[type(op)](one, other) for op, one, other in zip(node.ops, values, values[1:], strict=False))


def _or_unknown(node: ast.expr, pair: Pair) -> bool | None:
    try:
        return _truth(node, pair)
    except (Unknown, ZeroDivisionError, OverflowError):
        return None


def _together(truths: list[bool | None], both: bool) -> bool:
    """Kleene's three values: what is unknown counts only where it could change something."""
    if (not both) in truths:
        return not both
    if None in truths:
        raise Unknown
    return both


def _value(node: ast.expr, pair: Pair) -> float:
    if isinstance(node, ast.BinOp):
        return _OPERATIONS[type(node.op)](_value(node.left, pair), _value(node.right, pair))
    if isinstance(node, ast.UnaryOp):
        return -_value(node.operand, pair)
    if isinstance(node, ast.Constant):
        assert isinstance(node.value, int | float)
        return float(node.value)
    assert isinstance(node, ast.Name | ast.Attribute)
    arm, measure = _named(node)
    sample: ArmSample = getattr(pair, arm)
    value = MEASURES[measure](sample)
    if value is None or not math.isfinite(value):
        raise Unknown
    return value
