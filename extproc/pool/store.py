"""The one place where a pool's state lives, and its only writer.

Columns are kept in place: a page or a pick changes one position, so both cost the same in a pool of ten and of a thousand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from extproc.candidates import Candidates, Pages
from extproc.domain import Endpoint, Load, Reading
from extproc.pool.columns import UNKNOWN, make_column, no_candidates
from extproc.pool.member import Member, MemberView

STALE_AFTER_S: Final = 2.0
"""Age at which a page's signals become unknown (upstream's --metrics-staleness-threshold)."""

PAUSE_S: Final = 10e-6
"""Between two layouts of the columns, for each endpoint: ten times what a layout takes. Nothing below `SMALL`."""
SMALL: Final = 256


class Ticket:
    """A request's place in the in-flight counts, given back with `PoolStore.release` exactly once."""

    __slots__ = ("generation", "member")

    def __init__(self, member: Member, generation: int) -> None:
        self.member = member
        self.generation = generation


class PoolStore:
    """Endpoints of one pool, how they are doing, and what we sent them.

    An endpoint that can't even be connected to is left out while another can; when none can, all are candidates: a router
    that lost its metrics must not stop the traffic. Signals that were never read, or are stale, are NaN.

    An endpoint that answers and says nothing of its load (engines whose page has no samples before their first request) gets
    requests too, or it would never say anything: see `_with_trial`.

    Columns are laid out anew, in time linear in the pool, when someone reads after endpoints came, left, went down or up; but
    not more often than `PAUSE_S` for each endpoint, so that a large pool that fails all at once costs one pick in a while a few
    milliseconds, and not each pick. Until then an endpoint that went down may still be picked.
    """

    def __init__(self, name: str, clock: Callable[[], float], *, stale_after_s: float = STALE_AFTER_S) -> None:
        self.name = name
        self.revision = 0
        """Grows with every change of the set of endpoints."""
        self._clock = clock
        self.stale_after_s = stale_after_s
        self._members: dict[str, Member] = {}
        self._eligible: list[Member] = []
        self._all: Candidates = no_candidates()
        self._loads: list[Load] = []
        self._read_at_s: list[float] = []  # as in Pages
        self._pages: Pages | None = None
        self.looked_at_s = 0.0  # when the candidates were asked for last
        self._check_at_s = float("inf")
        self._laid_out_at_s = float("-inf")
        self._dirty = False
        """The columns are not those of the members that may be picked now."""
        self.hint: Callable[[str], None] = lambda key: None
        """Told the key of an endpoint without a page that answers requests all the same."""
        self.forget: Callable[[str], None] = lambda key: None
        """Told the key of an endpoint that has left, or was started anew: whatever it had in its caches is gone."""
        self.began: Callable[[str, float], None] = lambda key, started_s: None
        """Told when an endpoint's process was started, since 1970, when its page says so first or says another time."""
        self.news: Callable[[], None] | None = None
        """Told that a page was read, a request ended or the endpoints changed; None when nobody wants to know."""
        self._blank: dict[str, Member] = {}
        """Candidates that answer, and of which nothing is known."""
        self.picks = 0
        """Requests that were sent to any of its endpoints, so far."""
        self.untried = 0
        """Endpoints of which no attempt at a page has ended."""
        self.fresh = 0
        """Endpoints whose page is fresh."""
        self.down = 0
        """Endpoints that could not be connected to."""

    def __repr__(self) -> str:
        return f"<PoolStore {self.name} members={len(self._members)} eligible={len(self.candidates())} fresh={self.fresh}>"

    def __len__(self) -> int:
        return len(self._members)

    def has(self, key: str) -> bool:
        """Whether the endpoint is in the pool."""
        return key in self._members

    @property
    def able(self) -> bool:
        """Whether there is an endpoint that can be connected to, or was not tried yet."""
        return self.down < len(self._members)

    # -- written by discovery ------------------------------------------------------------------------------------

    def replace_endpoints(self, endpoints: Sequence[Endpoint]) -> None:
        """The pool's endpoints are these from now on. What is known of those that stay is kept."""
        members = {}
        for endpoint in endpoints:
            member = self._members.get(endpoint.key)
            if member is None:
                member = Member(endpoint)
            else:
                member.endpoint = endpoint
            members[endpoint.key] = member
        for key, member in self._members.items():
            if key not in members:
                member.slot = -1
                self.forget(key)
        self._members = members
        self.revision += 1
        self.untried = sum([not member.tried for member in members.values()])
        self.fresh = sum([member.fresh for member in members.values()])
        self.down = sum([member.down for member in members.values()])
        self._lay_out()
        if self.news is not None:
            self.news()

    # -- written by scraping -------------------------------------------------------------------------------------

    def page_started(self, key: str) -> None:
        """A page is about to be asked for."""
        member = self._members.get(key)
        if member is not None:
            member.page_started()

    def page_read(self, key: str, load: Load) -> None:
        """The page that was asked for says this."""
        member = self._members.get(key)
        if member is None:
            return
        was_down = member.down
        if member.restarted(load):
            self.forget(key)
        if load.started_s is not None and load.started_s != member.load.started_s:
            self.began(key, load.started_s)
        if not member.tried:
            self.untried -= 1
        if not member.fresh:
            self.fresh += 1
        now_s = self._clock()
        same = load is member.load and member.fresh and not was_down
        member.page_read(load, now_s)
        if member.slot >= 0:
            self._read_at_s[member.slot] = now_s
            self._pages = None
        self._check_at_s = min(self._check_at_s, now_s + self.stale_after_s)
        if was_down:
            self._dirty = True
            self.down -= 1
        self._judge(member)
        if member.slot >= 0:
            if same:  # then what is kept for the stamp still holds
                self._all.waiting[member.slot] = member.waiting()
            else:
                self._write(member)
        if self.news is not None:
            self.news()

    def page_failed(self, key: str, reason: str, *, down: bool, alive: bool = False) -> None:
        """The page could not be had; `down`: there was not even a connection; `alive`: somebody answered, with no page."""
        member = self._members.get(key)
        if member is None:
            return
        if not member.tried:
            self.untried -= 1
        was_down = member.down
        member.page_failed(reason, down=down, alive=alive)
        self._judge(member)
        if down != was_down:
            self._dirty = True
            self.down += 1 if down else -1
            if member.slot >= 0:
                self._write(member)

    # -- read and written by the director ------------------------------------------------------------------------

    def candidates(self) -> Candidates:
        """Every endpoint that may be picked now."""
        self.looked_at_s = now_s = self._clock()
        if now_s >= self._check_at_s:
            self._sweep(now_s)
        if self._dirty and (len(self._members) < SMALL or now_s - self._laid_out_at_s >= len(self._members) * PAUSE_S):
            self._lay_out()
        if self._blank:
            return self._with_trial(self._all)
        return self._all

    def pages(self) -> Pages:
        """As they are behind the candidates that were asked for last: made once for each page that comes."""
        if self._pages is None:
            self._pages = Pages(self._all.endpoints, self._loads[:], self._read_at_s[:])
        return self._pages

    def subset(self, hints: Iterable[str]) -> Candidates:
        """The candidates that one of the hints names, as `ip:port` or `ip` (proposal 004)."""
        everyone = self.candidates()
        wanted = set(hints)
        chosen = [at for at, each in enumerate(everyone.endpoints) if each.key in wanted or each.address in wanted]
        if len(chosen) == len(everyone):
            return everyone
        return everyone.only(chosen)

    def picked(self, endpoint: Endpoint) -> Ticket:
        """Count a request that goes to this candidate, before the next one is decided."""
        member = self._members[endpoint.key]
        self.picks += 1
        member.picked_at = self.picks
        ticket = Ticket(member, member.picked())
        if member.slot >= 0:
            self._write_in_flight(member)
            self._all.picked_at[member.slot] = float(self.picks)
        return ticket

    def move(self, ticket: Ticket, key: str) -> Ticket:
        """The request of the ticket turned out to be with this endpoint; the ticket to give back instead.

        An endpoint that is not of this pool changes nothing.
        """
        member = self._members.get(key)
        if member is None or member is ticket.member:
            return ticket
        if member.failures:
            self.hint(key)
        self.release(ticket)
        moved = Ticket(member, member.arrived())
        if member.slot >= 0:
            self._write_in_flight(member)
        return moved

    def release(self, ticket: Ticket, *, answered: bool = False) -> None:
        """The request of the ticket is over; `answered`: by the endpoint, and with no error of it."""
        member = ticket.member
        if answered:
            member.proved += 1
            if member.failures:
                self.hint(member.endpoint.key)
        member.released(ticket.generation)
        if member.slot >= 0:
            self._write_in_flight(member)
        if self.news is not None:
            self.news()

    def readings(self, hints: Iterable[str] | None = None) -> list[Reading]:
        """What is known of every endpoint that may be picked now; `hints` as for `subset`, None for all."""
        self.candidates()
        now_s = self._clock()
        wanted = None if hints is None else set(hints)
        return [
            member.reading(member.load, now_s)
            for member in self._eligible
            if wanted is None or member.endpoint.key in wanted or member.endpoint.address in wanted
        ]

    def readings_in(self, part: int, parts: int) -> list[Reading]:
        """As `readings` of all, of one of so many parts of about the same size, from 0: for who looks at a large pool often."""
        self.candidates()
        now_s = self._clock()
        return [member.reading(member.load, now_s) for member in self._eligible[part::parts]]

    def projected(self) -> list[Reading]:
        """As `readings` of all, with the queue that is to be expected when what was sent has arrived (`Member.expected`)."""
        self.candidates()
        now_s = self._clock()
        out = []
        for member in self._eligible:
            load, expected = member.load, member.expected()
            if expected != load.waiting:
                load = Load(expected, *load[1:])
            out.append(member.reading(load, now_s))
        return out

    # -- for people ----------------------------------------------------------------------------------------------

    def describe(self) -> list[MemberView]:
        """Every endpoint with its signals and their age."""
        return list(self.views())

    def members(self) -> list[str]:
        """The keys of every endpoint."""
        return list(self._members)

    def views(self) -> Iterator[MemberView]:
        """As `describe`, one by one, each as it is when it is asked for: the pool may change meanwhile."""
        self.candidates()
        for member in list(self._members.values()):
            yield member.view(self._clock())

    def view(self, key: str) -> MemberView | None:
        """One of them; None when there is none. Who wants to see what is stale asks for `candidates` first."""
        member = self._members.get(key)
        return None if member is None else member.view(self._clock())

    # -- inside --------------------------------------------------------------------------------------------------

    def _lay_out(self) -> None:
        self._dirty = False
        self._laid_out_at_s = self._clock()
        members = list(self._members.values())
        up = [member for member in members if not member.down]
        self._eligible = up or members
        for member in members:
            member.slot = -1
        self._blank = {}
        for slot, member in enumerate(self._eligible):
            member.slot = slot
            if member.blank:
                self._blank[member.endpoint.key] = member
        self._loads = [member.known() for member in self._eligible]
        self._read_at_s = [UNKNOWN if member.read_at_s is None else member.read_at_s for member in self._eligible]
        self._pages = None
        self._all = Candidates(
            endpoints=[member.endpoint for member in self._eligible],
            waiting=make_column(member.waiting() for member in self._eligible),
            running=make_column(member.running() for member in self._eligible),
            kv_usage=make_column(member.kv_usage() for member in self._eligible),
            in_flight=make_column(float(member.in_flight) for member in self._eligible),
            stamp=object(),
            loads=self._loads,
            picked_at=make_column(float(member.picked_at) for member in self._eligible),
        )

    def _judge(self, member: Member) -> None:
        """Keep `_blank`."""
        if member.slot >= 0 and member.blank:
            if member.endpoint.key not in self._blank:
                self._blank[member.endpoint.key] = member
                member.proved = 0
        elif self._blank:
            self._blank.pop(member.endpoint.key, None)

    def _with_trial(self, everyone: Candidates) -> Candidates:
        """The candidates, and whose turn it is to be tried: the one that was picked longest ago of those that may be.

        Tried is who was not among the last picks, as many as there are candidates, and has room: one request in flight, and
        one more for each that was answered, up to what the known ones have in flight on average. So one that hangs holds a
        single request, one that fails at once gets its share of the picks and no more, and one that serves gets as much
        as the others, whether its page ever says so or not.
        """
        number = len(self._eligible)
        known = number - len(self._blank)
        if known < 1:
            return everyone  # nobody is better known than it
        chosen: Member | None = None
        for member in self._blank.values():
            if self.picks - member.picked_at < number or (chosen is not None and member.picked_at >= chosen.picked_at):
                continue
            if member.in_flight and member.in_flight >= self._room(member, known):
                continue
            chosen = member
        if chosen is None:
            return everyone
        return everyone.marked(everyone.stamp, chosen.slot)

    def _room(self, member: Member, known: int) -> float:
        total = float(sum(self._all.in_flight)) - sum([each.in_flight for each in self._blank.values()])
        return min(1.0 + member.proved, max(1.0, total / known))

    def _write(self, member: Member) -> None:
        """One member's page changed: write its position, and give the candidates a new stamp."""
        old = self._all
        slot = member.slot
        old.running[slot] = member.running()
        old.kv_usage[slot] = member.kv_usage()
        old.waiting[slot] = member.waiting()
        self._loads[slot] = member.known()
        self._pages = None
        self._all = old.marked(object())

    def _write_in_flight(self, member: Member) -> None:
        self._all.in_flight[member.slot] = float(member.in_flight)
        self._all.waiting[member.slot] = member.waiting()

    def _sweep(self, now_s: float) -> None:
        """Make stale what has become stale, and find the next time when something can."""
        oldest = float("inf")
        for member in self._members.values():
            if not member.fresh or member.read_at_s is None:
                continue
            if now_s - member.read_at_s >= self.stale_after_s:
                member.fresh = False
                self.fresh -= 1
                self._judge(member)
                if member.slot >= 0:
                    self._write(member)
            else:
                oldest = min(oldest, member.read_at_s)
        pause_s = len(self._members) * PAUSE_S if len(self._members) >= SMALL else 0.0
        self._check_at_s = max(oldest + self.stale_after_s, now_s + pause_s)
