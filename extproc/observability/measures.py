"""The measures of served entities and arms, as Prometheus reads them: made from the tallies when somebody asks for the page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from extproc.measures import Measures, Timing, Totals
from extproc.observability.instruments import UNBOUNDED, Family, Histogram, Instruments, Value
from extproc.observability.kept import Kept
from extproc.observability.metrics import REQUEST_SECONDS
from extproc.observability.responses import TPOT_SECONDS

_ENTITY: Final = ("serving_endpoint", "served_entity", "arm")
_TPOT: Final[tuple[float, ...]] = tuple(TPOT_SECONDS)


class FeedbackMetrics:
    """What was said of answers, and whether anything is known of them."""

    def __init__(self, instruments: Instruments) -> None:
        self._said = instruments.counter(
            "extproc_feedback_total",
            "Times that somebody said how good an answer was, by what became of it: counted, rated before, unknown (too long "
            "ago, another replica's, another endpoint's), unread (not as docs/measures.md has it).",
            ["verdict"],
        )

    def said(self, verdict: str) -> None:
        self._said.child(verdict).value += 1

    def unread(self) -> None:
        self._said.child("unread").value += 1


class MeasureMetrics:
    """Series by serving endpoint, served entity and arm; the arm is '' for all requests of the entity, so who adds up takes
    that one alone. All names are configured."""

    def __init__(self, instruments: Instruments, measures: Measures) -> None:
        self._measures = measures
        self._hidden: set[tuple[str, str]] = set()
        """Arms of experiments that have ended: the API has their measures on."""
        self._counters: list[Family[Value]] = []
        self._histograms: list[Family[Histogram]] = []

        def counter(name: str, doc: str, *labels: str) -> Family[Value]:
            family = instruments.counter(f"extproc_entity_{name}_total", doc, [*_ENTITY, *labels], most=UNBOUNDED)
            self._counters.append(family)
            return family

        def histogram(name: str, doc: str, bounds: tuple[float, ...]) -> Family[Histogram]:
            family = instruments.histogram(f"extproc_entity_{name}_seconds", doc, bounds, _ENTITY, most=UNBOUNDED)
            self._histograms.append(family)
            return family

        self._requests = counter("requests", "Requests to a served entity that ended; each attempt is one.")
        self._errors = counter(
            "errors",
            "Of these what failed, by kind: 429, 5xx, timeout (504), cut, unanswered; 4xx is the request's fault.",
            "kind",
        )
        self._tokens = counter("tokens", "Tokens that answers said they cost, by kind: input, output, cached.", "kind")
        self._finished = counter("finish_reasons", "Answers by the reason for which they ended, as they say.", "reason")
        self._cost = counter("cost", "What requests cost by the entity's price, in its currency.")
        self._feedback = counter("feedback", "Answers that somebody called good or bad.", "verdict")
        self._shadow = counter("shadow_pairs", "Answers of a shadow, the same as the live one or different.", "verdict")
        self._headers = histogram("headers", "To the headers of answers of 2xx.", REQUEST_SECONDS)
        self._ttft = histogram("ttft", "To the first bytes of answers that stream.", REQUEST_SECONDS)
        self._tpot = histogram("tpot", "From token to token, of answers that stream.", _TPOT)
        self._e2e = histogram("e2e", "To the end of answers of 2xx.", REQUEST_SECONDS)
        instruments.before_collect.append(self._refresh)

    def _refresh(self) -> Iterator[None]:
        for key in self._measures.known():
            totals = None if _arm(key) in self._hidden else self._measures.total(*key)
            if totals is not None:
                self._show(key, totals)
            yield

    def _show(self, key: tuple[str, str, str], totals: Totals) -> None:
        self._requests.child(*key).value = totals.requests
        for kind, count in totals.errors_by_kind.items():
            self._errors.child(*key, kind).value = count
        if totals.rejected:
            self._errors.child(*key, "4xx").value = totals.rejected
        if totals.usage:
            for kind, count in (
                ("input", totals.input_tokens),
                ("output", totals.output_tokens),
                ("cached", totals.cached_tokens),
            ):
                self._tokens.child(*key, kind).value = count
        for reason, count in totals.finish_reasons.items():
            self._finished.child(*key, reason).value = count
        if totals.priced:
            self._cost.child(*key).value = totals.cost
        if totals.feedback_score.n:
            self._feedback.child(*key, "good").value = totals.feedback_good
            self._feedback.child(*key, "bad").value = totals.feedback_bad
        if totals.shadow_pairs:
            self._shadow.child(*key, "same").value = totals.shadow_same
            self._shadow.child(*key, "different").value = totals.shadow_pairs - totals.shadow_same
        _tell(self._headers.child(*key), totals.headers_s, REQUEST_SECONDS)
        _tell(self._ttft.child(*key), totals.ttft_s, REQUEST_SECONDS)
        _tell(self._tpot.child(*key), totals.tpot_s, _TPOT)
        _tell(self._e2e.child(*key), totals.e2e_s, REQUEST_SECONDS)

    def keep(self, kept: Kept) -> None:
        """Forget the measures of all other entities and arms, and their series; of arms that are not shown the series alone."""
        there = {key for key in self._measures.known() if key[:2] in kept.entities and (not key[2] or _arm(key) in kept.arms)}
        self._measures.keep(there)
        self._hidden = {_arm(key) for key in there if key[2] and _arm(key) not in kept.shown}
        shown = {key for key in there if _arm(key) not in self._hidden}
        for counter in self._counters:
            counter.keep(lambda labels: labels[:3] in shown)
        for histogram in self._histograms:
            histogram.keep(lambda labels: labels[:3] in shown)


def _arm(key: tuple[str, str, str]) -> tuple[str, str]:
    return key[0], key[2]


def _tell(histogram: Histogram, timing: Timing, bounds: tuple[float, ...]) -> None:
    """Counts by bucket out of the sketch, whose values are right within 1 %."""
    passed = 0
    counts: list[int] = []
    for below in timing.sketch.below(bounds):
        counts.append(below - passed)
        passed = below
    histogram.counts = [*counts, timing.n - passed]
    histogram.sum = timing.sum_s
