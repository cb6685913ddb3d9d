"""A serving endpoint as it was asked for: what is compiled into a ServingEndpoint."""

from __future__ import annotations

from typing import NamedTuple

from extproc.traffic.catalog import Served
from extproc.traffic.experiments import ExperimentSpec
from extproc.traffic.layout import Layout
from extproc.traffic.match import RuleSpec
from extproc.traffic.residency import ResidencySpec
from extproc.traffic.shadows import ShadowSpec


class ExternalSpec(NamedTuple):
    """A model that a provider serves."""

    name: str
    """The provider's name of it."""
    provider: str
    task: str
    """`llm/v1/chat`, `llm/v1/completions` or `llm/v1/embeddings`."""
    options: tuple[tuple[str, str], ...] = ()
    """The provider's own settings by their field's name; of a secret the reference, never the value."""


class Price(NamedTuple):
    """What requests cost, in one currency."""

    input_per_million: float = 0.0
    output_per_million: float = 0.0
    per_request: float = 0.0
    currency: str = "USD"

    def of(self, input_tokens: int, output_tokens: int) -> float:
        """Of one request; below 0 when its tokens have a price and nobody said how many they are (-1)."""
        if self.input_per_million and input_tokens < 0:
            return -1.0
        if self.output_per_million and output_tokens < 0:
            return -1.0
        tokens = max(input_tokens, 0) * self.input_per_million + max(output_tokens, 0) * self.output_per_million
        return self.per_request + tokens / 1e6


class EntitySpec(NamedTuple):
    """One served entity as it was asked for."""

    name: str
    entity_name: str = ""
    """What it serves, as the catalog or a route knows it; '' for an external model."""
    entity_version: str = ""
    external: ExternalSpec | None = None
    price: Price | None = None
    region: str = ""
    """Where a provider serves it; '' when nobody said so, or pools say."""
    served: Served | None = None
    """Who serves it, where that is known without the catalog."""
    problem: str = ""
    """Why it can't be served, whatever the catalog says; '' when it can."""


class RateLimit(NamedTuple):
    """At most so many calls or tokens a minute."""

    key: str
    """`endpoint`: all together; `user`: each; `user_group`, `service_principal`: the `principal`."""
    calls: int | None = None
    tokens: int | None = None
    principal: str = ""


class EndpointSpec(NamedTuple):
    """A serving endpoint as the data plane needs it."""

    name: str
    entities: tuple[EntitySpec, ...]
    percentages: tuple[int, ...]
    """One of each entity, whole, 0 to 100; they add up to 100."""
    layout: Layout = ()
    """Which buckets are whose; () lays them out in the order of the list."""
    sticky: bool = True
    salt: str = ""
    """So that two endpoints split the same users differently; '' takes the name."""
    fallback: bool = False
    rate_limits: tuple[RateLimit, ...] = ()
    usage_tracking: bool = False
    task: str = ""
    config_version: int = 0
    """Which config of the endpoint this is, for the record."""
    rules: tuple[RuleSpec, ...] = ()
    experiments: tuple[ExperimentSpec, ...] = ()
    shadows: tuple[ShadowSpec, ...] = ()
    residency: tuple[ResidencySpec, ...] = ()
