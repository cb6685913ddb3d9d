"""The roles a plugin can have, one small interface each; and its row: what a config file needs to know of it.

Which families a plugin is of, its row says; a `Listener`, `Watcher`, `Dresser`, `Dumper`, `Keeper`, `Measured` or `Teller` is
whoever has the methods. A plugin is pure: what it wants of a clock or of chance is in its `Kit`. Deciding (`keep`, `score`,
`pick`, `produce`, `refuses`, `wants`, `schedule`, `dress`) changes nothing, as explaining asks the same; what changes state is
a `Listener`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from pydantic import BaseModel

from extproc.candidates import Candidates, Column, Pick
from extproc.scheduling.cycle import Cycle, Tokens

Random: TypeAlias = Callable[[], float]
"""Uniform in [0, 1)."""
Clock: TypeAlias = Callable[[], float]
"""Seconds that never go back, from anywhere."""

FILTER: Final = "filter"
SCORER: Final = "scorer"
PICKER: Final = "picker"
PRODUCER: Final = "producer"
SCREENER: Final = "screener"
ADMITTER: Final = "admitter"
HANDLER: Final = "profile handler"
DECIDER: Final = "decider"
DETECTOR: Final = "saturation detector"
REPORTER: Final = "reporter"
HEADERS: Final = "header writer"
PARSER: Final = "parser"
DATA_LAYER: Final = "data layer"


class Filter(Protocol):
    """Leaves out candidates. A screener is the same for all profiles, and comes before producers."""

    fixed: bool
    """True when it reads only the endpoints and their labels: what it keeps is then kept until the endpoints change."""
    by_load: bool
    """Whom it leaves out has too much to do: when nobody is left that is 429, come back later; else 503."""

    def keep(self, cycle: Cycle, candidates: Candidates) -> Sequence[int] | None:
        """Positions of those that stay, in order; None for all. Candidates are never empty."""
        ...


class Scorer(Protocol):
    """Gives each candidate points."""

    per_snapshot: bool
    """True when it reads only `running` and `kv_usage`: its points are then kept until the candidates' stamp changes."""

    def score(self, cycle: Cycle, candidates: Candidates) -> Column:
        """Points in 0..1, aligned with the candidates; more is better. Never NaN. Candidates are never empty."""
        ...


class Picker(Protocol):
    """Chooses by the total points."""

    def pick(self, totals: Column, candidates: Candidates, random: Random) -> Sequence[int]:
        """Positions, best first, at least one and each once."""
        ...


class Producer(Protocol):
    """Finds out something of a request, once, for all who need it."""

    def produce(self, cycle: Cycle, candidates: Candidates) -> object:
        """What those who need it find in `cycle.facts` under the plugin's name. `candidates` are the whole pool, so columns
        that are made here are aligned with `Candidates.whole` later: `candidates.of(column)`. What it needs itself is in
        `cycle.facts` already. An `Awaited` when somebody has to be asked who does not answer at once."""
        ...


class Admitter(Protocol):
    """May refuse a request before it is scheduled."""

    def refuses(self, cycle: Cycle, candidates: Candidates) -> str | None:
        """Why, in the client's words; None when it does not."""
        ...


class Run:
    """What came of a profile: whom it left, and whom of those it chose."""

    __slots__ = ("candidates", "pick", "points")

    def __init__(self, candidates: Candidates, pick: Pick, points: Sequence[Column] = ()) -> None:
        """`points`: of each of the profile's scorers that does not go by one signal; empty unless somebody keeps them."""
        self.candidates: Final = candidates
        self.pick: Final = pick
        self.points: Final = points

    @property
    def endpoint(self) -> str:
        """The key of the one that was chosen."""
        return self.candidates.endpoints[self.pick.positions[0]].key

    @property
    def place(self) -> int:
        """Where that one stands in the whole pool."""
        return self.candidates.place(self.pick.positions[0])


class Scheduled(NamedTuple):
    """A choice: one run for each profile that ran, and what the proxy is told besides."""

    primary: str
    """The profile whose pick serves the request."""
    runs: Mapping[str, Run]
    set_headers: tuple[tuple[str, str], ...] = ()
    remove_headers: tuple[str, ...] = ()
    set_response_headers: tuple[tuple[str, str], ...] = ()
    destination: str = ""
    """What to name instead of the endpoint that was picked, where that is not where the request goes first."""
    omitted: Mapping[str, str] = {}
    """Profiles that should have run and found nobody, and why: the request goes on without them."""
    served_header: str = ""
    """A header of the response that is to say which endpoint answered; '' for none."""

    @property
    def run(self) -> Run:
        """The primary one."""
        return self.runs[self.primary]


class Profiles(Protocol):
    """The profiles of a config, as a handler sees them."""

    @property
    def names(self) -> Sequence[str]:
        """In the order of the file."""
        ...

    def run(self, name: str, cycle: Cycle, candidates: Candidates) -> Run:
        """Filter, score, pick. Raises Saturated or NoEndpoints when the filters leave nobody."""
        ...


class ProfileHandler(Protocol):
    """Decides which profiles run, and what becomes of it."""

    def schedule(self, cycle: Cycle, candidates: Candidates, profiles: Profiles) -> Scheduled:
        """Raises what `Profiles.run` raises of a profile without which the request can't be served."""
        ...


class Decider(Protocol):
    """Says whether a further stage (prefill, encode) is worth an endpoint of its own."""

    def wants(self, cycle: Cycle, decode: Run) -> bool:
        """`decode` is who decodes."""
        ...


class Dresser(Protocol):
    """Adds to what the proxy is told when everything is chosen."""

    def dress(self, cycle: Cycle, scheduled: Scheduled) -> Scheduled:
        """The choice with its additions."""
        ...


class Listener(Protocol):
    """Hears when a request goes out; of one that does not, nobody hears."""

    def picked(self, cycle: Cycle, scheduled: Scheduled) -> None:
        """The decision goes out, and this is the last that is seen of the request and the facts."""
        ...


class AnswerListener(Protocol):
    """Hears when such a request is answered."""

    def answered(self, cycle: Cycle, status: int) -> None:
        """The response's headers are here. Of a stream they may come before anything was computed."""
        ...


class PrefillListener(Protocol):
    """Hears when the prompt of such a request is computed."""

    def prefilled(self, cycle: Cycle) -> None:
        """The first piece of the answer's body is here; where the body does not come by us, the headers of an answer that is no
        stream. Once, behind `answered`; never of a stream that does not come by, nor of a request that ends before."""
        ...


class EndListener(Protocol):
    """Hears when such a request ends, once."""

    def ended(self, cycle: Cycle, status: int, served: str) -> None:
        """The request is over, however it ended; `status` is 0 and `served` (who answered, `ip:port`) '' where unknown."""
        ...


class Reported(NamedTuple):
    """A number that the proxy is told with the end of an answer, as dynamic metadata."""

    namespace: str
    name: str
    value: float


class Reporter(Protocol):
    """Has something to tell the proxy when an answer ends."""

    def reports(self, tokens: Tokens) -> Sequence[Reported]:
        """The last piece of the answer is here, and goes on when this is known. Not of answers whose body does not come by."""
        ...


class Watcher(Protocol):
    """Keeps something of endpoints, and is told when that does not hold any more."""

    def forget(self, endpoint: str) -> None:
        """The endpoint (`ip:port`) has left, or was started anew: its caches are empty."""
        ...


class Keeper(Protocol):
    """Knows something that is worth keeping over a restart of ours."""

    def snapshot(self, now_s: float) -> Iterator[bytes]:
        """What it knows now, in pieces that each take little time; `now_s` since 1970."""
        ...

    def restore(self, data: bytes, now_s: float) -> Iterator[None]:
        """Take over such a snapshot, a little with each step. Raises UnusableSnapshot, before anything was taken over."""
        ...

    def began(self, endpoint: str, started_s: float) -> None:
        """The endpoint's page says when its process was started, for the first time or another time than before."""
        ...


class UnusableSnapshot(ValueError):
    """It is damaged, too old, or of something else; the message says which."""


class Dumper(Protocol):
    """Has state that people may want to see."""

    def dump(self) -> object:
        """Made for JSON, bounded, without a prompt or a key of a client."""
        ...


class Reuser(Protocol):
    """Knows what endpoints have in their prefix caches."""

    def reuse(self) -> Mapping[str, Sequence[int]]:
        """By endpoint: tokens of the prompts that went there, and those of them that it was likely to have. They only grow, and
        begin anew when the endpoint does."""
        ...


class Figure(NamedTuple):
    """A number that a plugin shows on `/metrics`, by its pool's and its own name."""

    name: str
    doc: str
    value: float
    labels: tuple[tuple[str, str], ...] = ()
    """Further ones; the same of all figures of a name, and bounded."""
    counts: bool = False
    """It is a counter. Else it is a gauge, which is gone when it is not told any more."""


class Measured(Protocol):
    """Has numbers to show."""

    def figures(self) -> Iterable[Figure]:
        """As they are now; asked when someone looks."""
        ...


class Teller(Protocol):
    """Has something to say of a choice that people should know."""

    def tells(self, cycle: Cycle) -> object:
        """For an explanation, made for JSON; None for nothing."""
        ...


class Need(NamedTuple):
    """What a plugin reads in `cycle.facts`."""

    kind: str
    """What it is, as producers' rows say in `provides`."""
    producer: str | None = None
    """By name, as the parameters say; None: the one that is listed, else a default one that is made for it."""
    path: str = ""
    """The parameter that names it."""
    optional: bool = False
    """Does without where no producer is listed."""
    made: str = ""
    """The type of the producer that is made when none is named or listed; '' for the kind's default."""
    parameters: Mapping[str, Any] = {}
    """Of the producer that is made, by their keys in YAML: then it is this plugin's own."""


class Reference(NamedTuple):
    """Another plugin that a plugin asks."""

    name: str
    family: str
    path: str
    """The parameter that names it."""


class Kit(NamedTuple):
    """What a plugin is made with, beside its parameters. One for each plugin of a pool."""

    name: str
    """The plugin's own name: of its place in `cycle.kept` and `cycle.facts`."""
    random: Random
    clock: Clock
    interval_s: float
    """From one page of an endpoint to the next."""
    sources: Sequence[str | None] = ()
    """By the row's `needs`, in their order: under which name it is in `cycle.facts`; None for an optional one that is not
    there."""
    plugins: Mapping[str, Any] = {}
    """The plugins that the row's `refers` names, and those of `sources`, by name."""

    def source(self, position: int = 0) -> str:
        """Under which name a need that is not optional is met."""
        name = self.sources[position]
        assert name is not None, "the need is not optional"
        return name


class Remarks(NamedTuple):
    """What is to be said of a handler's parameters and the profiles that there are, each with the parameter."""

    problems: Sequence[str] = ()
    warnings: Sequence[str] = ()


def no_profile(parameter: str, name: str, names: Sequence[str]) -> str:
    """That a profile is missing."""
    return f"{parameter}: no profile is called {name!r} (there are: {', '.join(names)})"


def nothing(parameters: Any) -> tuple[Any, ...]:
    """For plugins without needs or references."""
    return ()


class PluginType(NamedTuple):
    """A row: one type that a config file may name. It stands in the file of its plugin, and docs/plugins.md is made from it."""

    name: str
    family: str
    what: str
    """What it does: a formula, or a few words."""
    parameters: type[BaseModel]
    make: Callable[..., Any] | None = None
    """Takes the parameters and a `Kit`. None for types that only carry parameters or change nothing here."""
    roles: tuple[str, ...] = ()
    """Families that it is of as well."""
    needs: Callable[[Any], Sequence[Need]] = nothing
    """What it reads of producers, by its parameters."""
    refers: Callable[[Any], Sequence[Reference]] = nothing
    """Whom it asks, by its parameters."""
    provides: str = ""
    """Of a producer: what it finds out."""
    attributes: Callable[[Any], Sequence[str]] = nothing
    """Which attributes of endpoints it reads, by its parameters: no others are looked for on their pages."""
    older: tuple[str, ...] = ()
    """Names of this type in older versions. Whoever uses one is told."""
    note: Callable[[Any], str] | None = None
    """What to tell at start of a plugin with these parameters, '' for nothing: that it stands on the next best thing, that it
    is for tests."""
    profiles: Callable[[Any, Sequence[str]], Remarks] | None = None
    """Of a handler: what is to be said of its parameters and the names of the profiles that there are."""

    def has(self, role: str) -> bool:
        """Whether it is of this family, or has it as a role."""
        return self.family == role or role in self.roles
