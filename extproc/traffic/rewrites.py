"""Which model serves a request instead of the one that it names (InferenceModelRewrite of the inference extension).

A rule names models, or none and then means every model; its targets share the requests by their weights. A rule that names
the model comes before one that means all; of several, the oldest object's, and within an object the first.

Weights. None has one: equal shares. Some have one: the others count 1, as a backend's weight in an HTTPRoute does. Upstream
never picks those, so a target that was forgotten would get nothing and nobody would be told.

A rule is applied once, to the name that came: a target which is itself a name with a rule is not rewritten again, so there
are no loops.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Final, NamedTuple

from extproc.media import has_controls

MAX_WEIGHT: Final = 1_000_000
MAX_MODEL_CHARS: Final = 1024


class RewriteTarget(NamedTuple):
    """A model that may serve instead, and its share: `weight` is 1..1_000_000, or None."""

    model: str
    weight: int | None = None


class RewriteRule(NamedTuple):
    """Requests for one of `models` (empty: for every model, and those that name none) go to one of `targets`."""

    models: tuple[str, ...]
    targets: tuple[RewriteTarget, ...]


class ModelRewrite(NamedTuple):
    """One object: its name as `namespace/name`, when it was created (seconds since the epoch), its rules in order."""

    name: str
    created_s: float
    rules: tuple[RewriteRule, ...]


class Split:
    """The targets of one rule, drawn from by their weights."""

    __slots__ = ("_shares", "models", "rewrite")

    def __init__(self, rewrite: str, targets: tuple[RewriteTarget, ...]) -> None:
        self.rewrite = rewrite
        """The name of the object that has the rule."""
        self.models = tuple(target.model for target in targets)
        self._shares = tuple(accumulate(1 if target.weight is None else target.weight for target in targets))

    def draw(self, draw: Callable[[], float]) -> str:
        """One of `models`. `draw` gives numbers in [0, 1), and is not asked when there is no choice."""
        shares = self._shares
        last = len(shares) - 1
        if not last:
            return self.models[0]
        return self.models[min(bisect_right(shares, draw() * shares[last]), last)]

    def shares(self) -> dict[str, float]:
        """The part of the requests that each model gets; they add up to 1."""
        parts: dict[str, float] = dict.fromkeys(self.models, 0.0)
        below = 0
        for model, share in zip(self.models, self._shares, strict=True):
            parts[model] += (share - below) / self._shares[-1]
            below = share
        return parts

    def __repr__(self) -> str:
        return f"<Split {self.rewrite} to {', '.join(self.models)}>"


class RewriteTable:
    """All rewrites of a pool. Immutable: a change is a new table. One without rules is false."""

    def __init__(self, rewrites: Iterable[ModelRewrite] = ()) -> None:
        """Raise ValueError, which names the object and the rule, when a rule has no targets, a target no usable name, or a
        weight is not in 1..1_000_000.
        """
        self._exact: dict[str, Split] = {}
        self._generic: Split | None = None
        for rewrite in sorted(rewrites, key=lambda rewrite: (rewrite.created_s, rewrite.name)):
            for index, rule in enumerate(rewrite.rules):
                _check(rule, f"{rewrite.name}: rules[{index}]")
                split = Split(rewrite.name, rule.targets)
                for model in rule.models:
                    self._exact.setdefault(model, split)
                if not rule.models and self._generic is None:
                    self._generic = split
        self.is_empty = not self._exact and self._generic is None
        """No rule at all."""
        splits = [*self._exact.values(), *([] if self._generic is None else [self._generic])]
        self._names = frozenset([*self._exact, *(model for split in splits for model in split.models)])

    def has(self, model: str) -> bool:
        """Whether a rule names the model, for a client's or as a target."""
        return model in self._names

    def split_of(self, model: str) -> Split | None:
        """Where requests for the model go, None when no rule is for it; '' is a request that names none."""
        return self._exact.get(model, self._generic)

    def followed_by(self) -> tuple[tuple[str, str, str], ...]:
        """Rules whose target has a rule by its own name, which is not followed: the object's name, the model, the target."""
        return tuple(
            (split.rewrite, model, target)
            for model, split in self._exact.items()
            for target in split.models
            if target != model and target in self._exact
        )

    def __bool__(self) -> bool:
        return not self.is_empty

    def __repr__(self) -> str:
        return f"<RewriteTable {len(self._exact)} models{' and all others' if self._generic else ''}>"


def _check(rule: RewriteRule, where: str) -> None:
    if not rule.targets:
        raise ValueError(f"{where}.targets is empty; at least one target is needed")
    for index, target in enumerate(rule.targets):
        if not 1 <= len(target.model) <= MAX_MODEL_CHARS or not _is_text(target.model):
            raise ValueError(
                f"{where}.targets[{index}].modelRewrite is {target.model[:40]!r}; expected a model's name of 1 to "
                f"{MAX_MODEL_CHARS} characters without control characters"
            )
        if target.weight is not None and not 1 <= target.weight <= MAX_WEIGHT:
            raise ValueError(f"{where}.targets[{index}].weight is {target.weight}; expected 1 to {MAX_WEIGHT}")


def _is_text(name: str) -> bool:
    """No control characters, which a form or a path must not hold, and no half of a surrogate pair, which has no UTF-8."""
    return not has_controls(name) and not any(0xD800 <= ord(c) <= 0xDFFF for c in name)
