"""Models to pools: exact names, and one pool each, or one in each of several regions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from extproc.errors import UnknownModel, listed


class Route(NamedTuple):
    """Models that a pool serves."""

    models: tuple[str, ...]
    pool: str
    beside: tuple[str, ...] = ()
    """Pools of other regions, or zones, that serve them as well."""


def _no_base(_: str) -> str:
    return ""


class RouteTable:
    """Which pool serves a model. Immutable: a change is a new table."""

    def __init__(self, routes: Sequence[Route], default_pool: str | None = None) -> None:
        """`default_pool`: of requests that name no model, when there are several pools; None where none was chosen."""
        self._pool_of = {model: route.pool for route in routes for model in route.models}
        self._beside = {model: route.beside for route in routes if route.beside for model in route.models}
        self._beside_pool = {route.pool: route.beside for route in reversed(routes)}
        self.models: tuple[str, ...] = tuple(self._pool_of)
        pools = {route.pool for route in routes}
        self.only_pool: str | None = next(iter(pools)) if len(pools) == 1 else None
        """The pool of requests that name no model, when there is no choice."""
        self.default_pool = default_pool or self.only_pool
        """The pool of requests that need no model to be served."""
        self.first_pool = default_pool or (routes[0].pool if routes else None)
        """The pool of requests that change nothing and name no model: a page, a health check."""

    def pool_of(self, model: str, base_of: Callable[[str], str] = _no_base) -> str:
        """The pool's name. `base_of` gives the base model of an adapter that no route names, '' for none: it is served where
        its base is. Raises UnknownModel, which lists the models there are."""
        pool = self._pool_of.get(model) or self._pool_of.get(base_of(model))
        if pool is None:
            raise UnknownModel(f"The model `{model}` does not exist. Available models: {self.listed()}", param="model")
        return pool

    def beside(self, model: str, base_of: Callable[[str], str] = _no_base) -> tuple[str, ...]:
        """The pools that serve the model as well as `pool_of` does: those of other regions."""
        if not self._beside:
            return ()
        return self._beside.get(model if model in self._pool_of else base_of(model), ())

    def beside_pool(self, pool: str) -> tuple[str, ...]:
        """The same for what names no model, and goes to this pool: of the first route that leads there."""
        return self._beside_pool.get(pool, ())

    def has(self, model: str) -> bool:
        """Whether a route names the model."""
        return model in self._pool_of

    def listed(self) -> str:
        """The models for people to read, shortened when there are many."""
        return listed(self.models)

    def __repr__(self) -> str:
        return f"<RouteTable {len(self.models)} models>"
