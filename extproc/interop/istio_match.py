"""A match of Istio's to one of ours."""

from __future__ import annotations

from typing import Final

from extproc import names
from extproc.interop.endpoint import EXACT, ONE_OF, PREFIX, PRESENT, Losses, Match, TextTest
from extproc.interop.istio_forms import MatchRequest, StringMatch
from extproc.interop.objects import not_taken
from extproc.interop.patterns import read_pattern
from extproc.interop.sayable import MODEL_HEADER

_NOT_TAKEN: Final = {
    "method": "rules have no method",
    "authority": "rules have no host",
    "scheme": "rules have no scheme",
    "queryParams": "rules go by the path without its query",
    "ignoreUriCase": "paths are compared as they are",
    "port": "rules have no port",
    "gateways": "rules have no gateways",
    "sourceLabels": "who asks is not known by labels",
    "sourceNamespace": "who asks is not known by namespace",
}


def match_of(given: MatchRequest, where: str, losses: Losses) -> Match | None:
    """None: one of its conditions can't be taken, which `losses` is told."""
    before = len(losses.left_out)
    not_taken(given, f"{where}.", losses, _NOT_TAKEN, "nothing is known of it here")
    path = None
    if given.uri is not None:
        path = _test(given.uri, f"{where}.uri", losses)
        path = None if path == TextTest(PRESENT) else path
    headers: list[tuple[str, TextTest]] = []
    model: TextTest | None = None
    regions: tuple[str, ...] = ()
    for name, string in given.headers.items():
        test = _test(string, f"{where}.headers.{name}", losses)
        if test is None:
            continue
        if name == MODEL_HEADER:
            model = test
        elif name == names.REGION_HEADER and test.kind in (EXACT, ONE_OF):
            regions = test.values
        else:
            headers.append((name, test))
    for name, string in given.withoutHeaders.items():
        if _test(string, f"{where}.withoutHeaders.{name}", losses) != TextTest(PRESENT):
            losses.drop(f"{where}.withoutHeaders.{name}", "a rule says that a header is not there, not that it is another one")
        elif name == MODEL_HEADER:
            model = TextTest(PRESENT, wanted=False)
        else:
            headers.append((name, TextTest(PRESENT, wanted=False)))
    if len(losses.left_out) > before:
        losses.drop(where, "as one of its conditions is not taken")
        return None
    return Match(tuple(headers), path, model, regions, where)


def _test(string: StringMatch, where: str, losses: Losses) -> TextTest | None:
    if string.exact:
        return TextTest(EXACT, (string.exact,))
    if string.prefix:
        return TextTest(PREFIX, (string.prefix,))
    if string.regex is None:
        return TextTest(PRESENT)
    if (test := read_pattern(string.regex)) is None:
        losses.drop(where, "a pattern is taken if it is texts with | between, or one with .* before or behind it")
    return test
