"""Serving endpoints: one name, several served entities, and a split of the requests between them (Databricks' terms).

A key of the request (a user, a session) is hashed into one of 10,000 buckets, and a layout says whose bucket that is: the same
key is served by the same entity as long as the split is the same, on every replica, and nobody keeps a table of users. A
request without a key is drawn.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final

from extproc.errors import AmbiguousModel, UnknownServedEntity
from extproc.names import INVOCATIONS
from extproc.traffic.catalog import Catalog, UnknownEntity
from extproc.traffic.conditions import Asking
from extproc.traffic.experiments import Arm, Experiment
from extproc.traffic.hashing import Hashed
from extproc.traffic.layout import BUCKETS, Layout, in_order
from extproc.traffic.match import Matcher, RefusalSpec, RuleSpec
from extproc.traffic.residency import Residency
from extproc.traffic.segments import NO_SEGMENTS, Segments
from extproc.traffic.specs import EndpointSpec, EntitySpec

SERVED_MODEL_NAME: Final = "served-model-name"
"""The response header that says which entity answered."""

BY_KEY: Final = "sticky"
BY_DRAW: Final = "draw"
ALONE: Final = "only entity"
NAMED: Final = "asked by model"
DIRECT: Final = "asked directly"
FALLBACK: Final = "fallback"
HANDED_OVER: Final = "handed over"
NOT_KEPT: Final = "the gateway's config has no regions, so where its requests stay can't be kept"
BY_RULE: Final = "rule"
BY_EXPERIMENT: Final = "experiment"


class ServedEntity:
    """One entity of an endpoint, ready to be served. Immutable by convention."""

    __slots__ = (
        "endpoint",
        "external",
        "model",
        "name",
        "path",
        "percentage",
        "pool",
        "pools",
        "price",
        "problem",
        "region",
        "response_headers",
    )

    def __init__(self, endpoint: str, spec: EntitySpec, percentage: int, catalog: Catalog) -> None:
        self.endpoint = endpoint
        self.name = spec.name
        self.percentage = percentage
        self.external = spec.external
        self.price = spec.price
        self.model = ""
        """The name that the model server, or the provider, knows."""
        self.pool = ""
        """'' when a provider serves it."""
        self.pools: tuple[str, ...] = ()
        """That pool, and those of other regions that serve it as well."""
        self.region = spec.region
        """Of the provider."""
        self.path = INVOCATIONS
        self.problem = spec.problem
        """Why it can't be served: what it names is gone."""
        self.response_headers: tuple[tuple[str, str], ...] = ((SERVED_MODEL_NAME, spec.name),)
        if spec.external is not None:
            self.model = spec.external.name
            return
        if spec.problem:
            return
        try:
            served = spec.served
            served = catalog.resolve(spec.entity_name, spec.entity_version) if served is None else catalog.placed(served)
            self.model, self.pool, self.path, beside = served
            self.pools = (self.pool, *beside)
        except UnknownEntity as error:
            self.problem = str(error)

    def __repr__(self) -> str:
        where = self.problem or self.pool or "a provider"
        return f"<ServedEntity {self.endpoint}/{self.name} {self.percentage} % {self.model} at {where}>"


class Shares:
    """Whose bucket it is. Immutable."""

    __slots__ = ("_bounds", "_owners")

    def __init__(self, entities: Sequence[ServedEntity], layout: Layout) -> None:
        self._owners = tuple([entities[position] for position, _ in layout])
        self._bounds = tuple(accumulate([size for _, size in layout]))

    @property
    def only(self) -> ServedEntity | None:
        """Who has all buckets, None when there is a choice."""
        return self._owners[0] if len(self._owners) == 1 else None

    def owner_of(self, bucket: int) -> ServedEntity:
        return self._owners[bisect_right(self._bounds, bucket)]


class Rule:
    """A rule, compiled: one of `shares` and `refusal`. Immutable."""

    __slots__ = ("matcher", "name", "refusal", "shares")

    def __init__(
        self, spec: RuleSpec, entities: Mapping[str, ServedEntity], endpoint: str, segments: Segments = NO_SEGMENTS
    ) -> None:
        """Raise ValueError when an expression does not compile, or it names entities that the endpoint has not, or splits to
        other than 100.
        """
        self.name = spec.name
        self.matcher = Matcher(spec.matches, f"{endpoint}/{spec.name}", segments)
        self.refusal: RefusalSpec | None = spec.refusal
        self.shares: Shares | None = None
        if spec.refusal is None:
            split = dict(spec.split) or {spec.entity: 100}
            if not split.keys() <= entities.keys() or sum(split.values()) != 100:
                raise ValueError(f"endpoint {endpoint!r}: the rule {spec.name!r} has no split between its entities: {split}")
            self.shares = Shares([entities[name] for name in split], in_order(tuple(split.values())))


class ServingEndpoint:
    """An endpoint, compiled. Immutable: a change is another one."""

    __slots__ = (
        "_by_name",
        "_hashed",
        "entities",
        "experiments",
        "name",
        "needs_key",
        "problems",
        "residency",
        "rules",
        "shares",
        "spec",
        "sticky",
    )

    def __init__(self, spec: EndpointSpec, catalog: Catalog, segments: Segments = NO_SEGMENTS) -> None:
        """Raise ValueError when the split is none: no entity, other percentages than entities or than 100 in all, a layout with
        others than 10,000 buckets. An entity that nothing serves stays, with its `problem`.
        """
        if not spec.entities or len(spec.percentages) != len(spec.entities) or sum(spec.percentages) != 100:
            raise ValueError(
                f"endpoint {spec.name!r}: {len(spec.entities)} entities share {spec.percentages}; expected 100 in all"
            )
        layout = spec.layout or in_order(spec.percentages)
        if sum([size for _, size in layout]) != BUCKETS:
            raise ValueError(f"endpoint {spec.name!r}: the layout has not {BUCKETS} buckets: {layout}")
        self.name = spec.name
        self.spec = spec
        self.sticky = spec.sticky
        self.entities = tuple(
            [
                ServedEntity(spec.name, entity, percentage, catalog)
                for entity, percentage in zip(spec.entities, spec.percentages, strict=True)
            ]
        )
        self._by_name = {entity.name: entity for entity in self.entities}
        self.shares = Shares(self.entities, layout)
        self.rules = tuple([Rule(rule, self._by_name, spec.name, segments) for rule in spec.rules])
        self.experiments = tuple([Experiment(each, spec.name, segments) for each in spec.experiments])
        for experiment in self.experiments:
            for entity_name in experiment.entities:
                if entity_name not in self._by_name:
                    raise ValueError(f"endpoint {spec.name!r}: an arm of {experiment.name!r} is served by {entity_name!r}")
        self.needs_key = bool(self.experiments) or any(rule.matcher.needs_key for rule in self.rules)
        """Whether rules or experiments ask who is asking."""
        self.residency = Residency(spec.residency, spec.name, segments)
        self.problems = (*_missing(spec, segments), *_elsewhere(spec, catalog.regions))
        """What rules and experiments name that is not there."""
        if spec.residency and not catalog.regions:
            for entity in self.entities:
                entity.problem = entity.problem or NOT_KEPT
        self._hashed = Hashed(spec.salt or spec.name)

    @property
    def only(self) -> ServedEntity | None:
        """The entity that gets all requests, None when there is a choice."""
        return self.shares.only

    def rule_for(self, asking: Asking) -> Rule | None:
        """The first rule that matches the request."""
        for rule in self.rules:
            if rule.matcher.matches(asking):
                return rule
        return None

    def arms_for(self, asking: Asking) -> list[tuple[Experiment, Arm]]:
        """The experiments that a request takes part in, each with its arm.

        Of those that say who serves, the first that has the request is the only one: it would not be an experiment else.
        """
        found: list[tuple[Experiment, Arm]] = []
        decided = False
        for experiment in self.experiments:
            if decided and experiment.decides:
                continue
            arm = experiment.arm_of(asking)
            if arm is not None:
                found.append((experiment, arm))
                decided = decided or experiment.decides
        return found

    def bucket_of(self, key: bytes) -> int:
        """0 to 9,999, the same for the same key on every replica."""
        return self._hashed.bucket_of(key)

    def owner_of(self, bucket: int) -> ServedEntity:
        """Whose bucket of the split it is."""
        return self.shares.owner_of(bucket)

    def choose(self, key: bytes | None, draw: Callable[[], float], shares: Shares | None = None) -> tuple[ServedEntity, str]:
        """The entity that serves the request, and why: `BY_KEY`, `BY_DRAW` or `ALONE`.

        `draw` gives numbers in [0, 1); it is asked when there is no key, or when the endpoint is not sticky. `shares` are those
        of a rule that decides instead of the split.
        """
        split = self.shares if shares is None else shares
        only = split.only
        if only is not None:
            return only, ALONE
        if key is not None and self.sticky:
            return split.owner_of(self.bucket_of(key)), BY_KEY
        return split.owner_of(int(draw() * BUCKETS)), BY_DRAW

    def entity(self, name: str) -> ServedEntity:
        """The entity of that name. Raises UnknownServedEntity, which lists those there are."""
        entity = self._by_name.get(name)
        if entity is None:
            there = ", ".join(self._by_name)
            raise UnknownServedEntity(
                f"The endpoint `{self.name}` has no served entity `{name}`. There are: {there}", param="served_entity"
            )
        return entity

    def attempts(self, first: ServedEntity) -> tuple[ServedEntity, ...]:
        """Who is tried, in order: the first, then the others in the list's order, each once; without fallback, the first."""
        if not self.spec.fallback:
            return (first,)
        return (first, *[entity for entity in self.entities if entity is not first])

    def __repr__(self) -> str:
        return f"<ServingEndpoint {self.name} {', '.join(f'{e.name} {e.percentage} %' for e in self.entities)}>"


def _elsewhere(spec: EndpointSpec, regions: tuple[str, ...]) -> Iterator[str]:
    """Regions that the gateway has not: nobody is there, and so nobody may serve what has to stay there."""
    for rule in spec.residency:
        if not regions:
            yield f"residency {rule.name}: {NOT_KEPT}"
        for region in rule.regions:
            if regions and region not in regions:
                yield f"residency {rule.name}: there is no region {region!r}, so nothing is served there"


def _missing(spec: EndpointSpec, segments: Segments) -> Iterator[str]:
    named = [("rule", rule.name, rule.matches) for rule in spec.rules]
    named += [("experiment", each.name, each.matches) for each in spec.experiments]
    named += [("residency", each.name, each.matches) for each in spec.residency]
    for kind, name, matches in named:
        so = "it is kept for all requests" if kind == "residency" else "nobody is in it"
        for match in matches:
            for segment in match.segments:
                if segments.get(segment) is None:
                    yield f"{kind} {name}: there is no segment {segment!r}, so {so}"


class TrafficTable:
    """All serving endpoints, by every name that leads to one. Immutable: a change is another table."""

    __slots__ = ("_endpoints", "_of_model", "is_empty")

    def __init__(self, endpoints: Iterable[ServingEndpoint] = ()) -> None:
        self._endpoints = {endpoint.name: endpoint for endpoint in endpoints}
        self.is_empty = not self._endpoints
        self._of_model: dict[str, list[ServedEntity]] = {}
        for endpoint in self._endpoints.values():
            for entity in endpoint.entities:
                if entity.model:
                    self._of_model.setdefault(entity.model, []).append(entity)

    def changed(self, changes: Mapping[str, ServingEndpoint | None]) -> TrafficTable:
        """Another table with these endpoints instead of those of the same names; None: the endpoint is gone."""
        kept = {**self._endpoints, **changes}
        return TrafficTable([endpoint for endpoint in kept.values() if endpoint is not None])

    def get(self, name: str) -> ServingEndpoint | None:
        """The endpoint of that name."""
        return self._endpoints.get(name)

    def of_model(self, model: str) -> tuple[ServingEndpoint, ServedEntity | None] | None:
        """The endpoint that serves a model that no endpoint is called: the one of which an entity has it.

        With the entity, as the client asked for that model; None when several of its entities have it, and the split decides.
        None when no endpoint has it, or when several have and a pool serves it by itself. Raises AmbiguousModel when several
        have it and only providers serve it.
        """
        entities = self._of_model.get(model)
        if entities is None:
            return None
        name = entities[0].endpoint
        if all(entity.endpoint == name for entity in entities):
            return self._endpoints[name], entities[0] if len(entities) == 1 else None
        if any(entity.external is None for entity in entities):
            return None
        names = ", ".join(sorted({entity.endpoint for entity in entities}))
        raise AmbiguousModel(f"The model `{model}` is served by several endpoints; name one of them: {names}", param="model")

    def __iter__(self) -> Iterator[ServingEndpoint]:
        return iter(self._endpoints.values())

    def __len__(self) -> int:
        return len(self._endpoints)

    def __repr__(self) -> str:
        return f"<TrafficTable {len(self)} endpoints>"
