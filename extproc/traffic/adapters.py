"""LoRA adapters and the base models that they sit on (BBR v1.3: `X-Gateway-Base-Model-Name`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class AdapterMap:
    """Which base model serves a name. Immutable: a change is a new map.

    A name is an adapter, a base model (its own base), or unknown. Names are compared without surrounding blanks.
    """

    def __init__(self, adapters_of_base: Mapping[str, Iterable[str]] | None = None) -> None:
        """Raise ValueError for an adapter with two bases, or one that is a base model itself."""
        bases = {base.strip(): [a.strip() for a in adapters] for base, adapters in (adapters_of_base or {}).items()}
        self._base_of: dict[str, str] = {base: base for base in bases}
        for base, adapters in bases.items():
            for adapter in adapters:
                owner = self._base_of.setdefault(adapter, base)
                if owner != base:
                    kind = "is a base model itself" if owner == adapter else f"already belongs to {owner!r}"
                    raise ValueError(f"adapter {adapter!r} of {base!r} {kind}")

    def base_of(self, model: str) -> str:
        """The base model of an adapter or base model, '' when the name is unknown."""
        return self._base_of.get(model) or self._base_of.get(model.strip(), "")

    def has(self, model: str) -> bool:
        """Whether it is an adapter or a base model of the map."""
        return model in self._base_of

    def adapters(self) -> list[tuple[str, str]]:
        """Each adapter and its base model."""
        return [(name, base) for name, base in self._base_of.items() if name != base]

    def __len__(self) -> int:
        return len(self._base_of)

    def __repr__(self) -> str:
        return f"<AdapterMap {len(set(self._base_of.values()))} bases, {len(self._base_of)} names>"
