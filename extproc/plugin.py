"""Own plugins: what people import to write one. docs/own-plugins.md tells how.

    class Warm(EndpointScorer):
        \"\"\"Endpoints that run something already.\"\"\"

        def score(self, request: Request, endpoint: EndpointState) -> float:
            return 1.0 if endpoint.running else 0.0

The package names it as an entry point of the group `extproc.plugins`; the entry point's name is the type in configs. A class
that is a subclass of one below becomes a row (`row_of`); an entry point may also name a `PluginType` itself.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from pydantic import BaseModel, Field, create_model, model_validator
from pydantic.alias_generators import to_camel

from extproc.candidates import Candidates, Column
from extproc.document import as_dict
from extproc.domain import NO_LOAD, Load, known_or_none
from extproc.errors import NoEndpoints, Saturated
from extproc.scheduling import columns
from extproc.scheduling.cycle import Awaited, Cycle
from extproc.scheduling.guard import BUDGET_S
from extproc.scheduling.plugins.base import (
    ADMITTER,
    DECIDER,
    FILTER,
    HANDLER,
    PICKER,
    PRODUCER,
    SCORER,
    SCREENER,
    Kit,
    Need,
    PluginType,
    Random,
    Run,
    Scheduled,
)
from extproc.scheduling.plugins.parameters import NoParameters, Parameters
from extproc.settings.base import Duration, Size

__all__ = [
    "Admitter",
    "Awaited",
    "Candidates",
    "Column",
    "Cycle",
    "Decider",
    "Duration",
    "EndpointFilter",
    "EndpointScorer",
    "EndpointState",
    "Filter",
    "Handler",
    "Kit",
    "NoEndpoints",
    "Parameters",
    "Picker",
    "Plugin",
    "PluginType",
    "Producer",
    "Random",
    "Request",
    "Run",
    "Saturated",
    "Scheduled",
    "Scorer",
    "Screener",
    "Size",
    "columns",
    "row_of",
]

_WORD: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class Request:
    """A request as the per-endpoint forms see it."""

    __slots__ = ("_cycle",)

    def __init__(self, cycle: Cycle) -> None:
        self._cycle = cycle

    @property
    def model(self) -> str | None:
        """The model that will serve; None when the request names none."""
        return self._cycle.asked.model

    @property
    def path(self) -> str:
        """Without the query string."""
        return self._cycle.asked.path

    @property
    def priority(self) -> int:
        """Of its objective; 0 without one."""
        return self._cycle.priority

    @property
    def body_bytes(self) -> int:
        return self._cycle.asked.body_bytes

    @property
    def body(self) -> Mapping[str, object] | None:
        """The JSON object that was sent; None when the body is none. To read only, and never to be logged."""
        return as_dict(self._cycle.asked.payload)

    def header(self, name: str) -> str:
        """By its name in lower case; '' when absent."""
        return self._cycle.asked.head.text(name)


class EndpointState:
    """An endpoint and what is known of it now. None is unknown, which is not idle: its page is stale, or does not say."""

    __slots__ = ("_candidates", "_position")

    def __init__(self, candidates: Candidates, position: int) -> None:
        self._candidates = candidates
        self._position = position

    @property
    def key(self) -> str:
        """`ip:port`."""
        return self._candidates.endpoints[self._position].key

    @property
    def name(self) -> str:
        """Of its pod, or as the file calls it."""
        return self._candidates.endpoints[self._position].name

    @property
    def labels(self) -> Mapping[str, str]:
        return self._candidates.endpoints[self._position].labels

    @property
    def waiting(self) -> float | None:
        """Requests in its queue, with those that were sent there since its last page."""
        return known_or_none(float(self._candidates.waiting[self._position]))

    @property
    def running(self) -> float | None:
        """Requests in its batch."""
        return known_or_none(float(self._candidates.running[self._position]))

    @property
    def kv_usage(self) -> float | None:
        """Used share of its KV cache, 0 to 1."""
        return known_or_none(float(self._candidates.kv_usage[self._position]))

    @property
    def in_flight(self) -> float:
        """Requests that we sent there and that have not ended."""
        return float(self._candidates.in_flight[self._position])

    @property
    def load(self) -> Load:
        """Everything else that its page says: LoRA adapters, blocks."""
        loads = self._candidates.loads
        return loads[self._position] if loads else NO_LOAD


class Plugin:
    """Base of all. `parameters` is annotated with a dataclass or a pydantic model, which is then what the config may say."""

    family: ClassVar[str] = ""
    """Of the role; set by the classes below."""
    needs: ClassVar[Sequence[str]] = ()
    """Kinds of facts that producers find out: `fact`."""
    provides: ClassVar[str] = ""
    """Of a producer: the kind of what it finds out."""
    budget_s: ClassVar[float] = BUDGET_S
    """Seconds that one call may take."""

    parameters: Any

    def __init__(self, parameters: Any, kit: Kit) -> None:
        """`kit` has the plugin's name, a clock and chance; what is to be kept between requests is made here."""
        self.parameters = parameters
        self.kit = kit

    def fact(self, cycle: Cycle, kind: str) -> Any:
        """What was found out of the request, of a kind in `needs`."""
        source = self.kit.sources[list(self.needs).index(kind)]
        return None if source is None else cycle.facts[source]


class Scorer(Plugin):
    """Points for all candidates at once."""

    family = SCORER

    def score(self, cycle: Cycle, candidates: Candidates) -> Column:
        """Points in 0..1, one for each candidate; more is better."""
        raise NotImplementedError


class Filter(Plugin):
    """Leaves out candidates."""

    family = FILTER
    by_load: ClassVar[bool] = False
    """Whom it leaves out has too much to do: when nobody is left, the client gets 429 and not 503."""

    def keep(self, cycle: Cycle, candidates: Candidates) -> Sequence[int] | None:
        """Positions of those that stay; None for all."""
        raise NotImplementedError


class Screener(Filter):
    """A filter that counts by being listed, for all profiles, and before producers are asked."""

    family = SCREENER


class EndpointScorer(Plugin):
    """Points for one endpoint after the other: a call of Python each."""

    family = SCORER

    def score(self, request: Request, endpoint: EndpointState) -> float:
        """Points in 0..1; more is better."""
        raise NotImplementedError


class EndpointFilter(Plugin):
    """Whether an endpoint stays, one after the other."""

    family = FILTER
    by_load: ClassVar[bool] = False
    """As of Filter."""

    def keep(self, request: Request, endpoint: EndpointState) -> bool:
        raise NotImplementedError


class Picker(Plugin):
    """Chooses by the total points."""

    family = PICKER

    def pick(self, totals: Column, candidates: Candidates, random: Random) -> Sequence[int]:
        """Positions, best first, at least one and each once."""
        raise NotImplementedError


class Producer(Plugin):
    """Finds out something of a request, once, for plugins that have its `provides` among their `needs`."""

    family = PRODUCER

    def produce(self, cycle: Cycle, candidates: Candidates) -> object:
        """What it is; an `Awaited` when somebody has to be asked who does not answer at once."""
        raise NotImplementedError


class Admitter(Plugin):
    """May refuse a request before an endpoint is chosen."""

    family = ADMITTER

    def refuses(self, cycle: Cycle, candidates: Candidates) -> str | None:
        """Why, in words for the client; None when it does not."""
        raise NotImplementedError


class Decider(Plugin):
    """Says whether a further stage, such as prefill, is worth an endpoint of its own."""

    family = DECIDER

    def wants(self, cycle: Cycle, decode: Run) -> bool:
        raise NotImplementedError


class Handler(Plugin):
    """Decides which profiles run for a request, and what becomes of it."""

    family = HANDLER

    def schedule(self, cycle: Cycle, candidates: Candidates, profiles: Any) -> Scheduled:
        """Raises NoEndpoints and Saturated where `profiles.run` does."""
        raise NotImplementedError


class _Each:
    """A plugin with one call for each endpoint, as the columns' roles have it."""

    def __init__(self, plugin: Any) -> None:
        self._plugin = plugin
        self.budget_s = plugin.budget_s

    def __getattr__(self, name: str) -> Any:
        """Its hooks."""
        return getattr(self._plugin, name)


class _ScoresEach(_Each):
    def score(self, cycle: Cycle, candidates: Candidates) -> Column:
        request, score = Request(cycle), self._plugin.score
        return [score(request, EndpointState(candidates, position)) for position in range(len(candidates))]


class _KeepsEach(_Each):
    def keep(self, cycle: Cycle, candidates: Candidates) -> Sequence[int] | None:
        request, keep = Request(cycle), self._plugin.keep
        return [position for position in range(len(candidates)) if keep(request, EndpointState(candidates, position))]


def row_of(plugin: type[Plugin], name: str = "") -> PluginType:
    """The row of a plugin's class; `name` is its type in configs, else its own name in small letters with dashes.

    Raises TypeError for a class that can't be one: without a role, or with parameters that are neither a dataclass nor a
    pydantic model.
    """
    if not plugin.family:
        raise TypeError(f"{plugin.__name__}: expected a subclass of Scorer, Filter or another role of extproc.plugin")
    if plugin.family == PRODUCER and not plugin.provides:
        raise TypeError(f"{plugin.__name__}.provides: expected the kind of what it finds out")
    model, given = _parameters(plugin)
    around = _ScoresEach if issubclass(plugin, EndpointScorer) else _KeepsEach if issubclass(plugin, EndpointFilter) else None

    def make(parameters: Any, kit: Kit) -> Any:
        made = plugin(given(parameters), kit)
        return made if around is None else around(made)

    needs = tuple(Need(kind) for kind in plugin.needs)
    return PluginType(
        name or _WORD.sub("-", plugin.__name__).lower(),
        plugin.family,
        _first_line(plugin),
        model,
        make,
        needs=lambda parameters: needs,
        provides=plugin.provides,
    )


def _first_line(plugin: type[Plugin]) -> str:
    return next(iter((vars(plugin).get("__doc__") or "").strip().splitlines()), "")


def _parameters(plugin: type[Plugin]) -> tuple[type[BaseModel], Any]:
    """The model that reads them, and what makes of that what the plugin gets."""
    kind = typing.get_type_hints(plugin).get("parameters")
    if kind in (Any, None):
        return NoParameters, _same
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind, _same
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _of_dataclass(kind)
    raise TypeError(f"{plugin.__name__}.parameters: expected a dataclass or a pydantic model (got {kind!r})")


def _same(parameters: Any) -> Any:
    return parameters


def _of_dataclass(kind: type[Any]) -> tuple[type[BaseModel], Any]:
    """Keys are the fields' names in camelCase, as in the rest of the file; their own names are taken too."""
    hints = typing.get_type_hints(kind, include_extras=True)
    fields: dict[str, Any] = {}
    for each in dataclasses.fields(kind):
        given: dict[str, Any] = {"alias": to_camel(each.name), "description": each.metadata.get("description")}
        if each.default is not dataclasses.MISSING:
            given["default"] = each.default
        elif each.default_factory is not dataclasses.MISSING:
            given["default_factory"] = each.default_factory
        fields[each.name] = (hints[each.name], Field(**given))

    def given_to(parameters: Any) -> Any:
        return kind(**{name: getattr(parameters, name) for name in fields})

    def whole(parameters: Any) -> Any:
        given_to(parameters)  # what `__post_init__` does not like
        return parameters

    validators: dict[str, Any] = {"whole": model_validator(mode="after")(whole)}
    model: type[BaseModel] = create_model(
        kind.__name__, __base__=Parameters, __doc__=kind.__doc__, __validators__=validators, **fields
    )
    return model, given_to
