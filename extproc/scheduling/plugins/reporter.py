"""`request-attribute-reporter`: tells the proxy, with the end of an answer, a number made of the tokens that it cost.

The proxy has it as dynamic metadata then: for its access log, for a rate limit, for a balancer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Final

from extproc.expressions import Expression
from extproc.scheduling.cycle import Tokens
from extproc.scheduling.plugins.base import REPORTER, Figure, Kit, PluginType, Reported
from extproc.scheduling.plugins.parameters_reporter import AttributeReporterParameters

_MOST: Final = 2.0**63
"""What is as large as this is no integer of upstream's."""


class AttributeReporter:
    """`request-attribute-reporter`."""

    def __init__(self, namespace: str, name: str, value: Expression, when: Expression | None) -> None:
        self._namespace = namespace
        self._name = name
        self._value = value
        self._when = when
        self._told = 0
        self._failed = 0

    def reports(self, tokens: Tokens) -> Sequence[Reported]:
        usage = _usage(tokens)
        if not usage:
            return ()
        values = {"usage": usage}
        if self._when is not None:
            answer = self._when.evaluate(values)
            if answer.value is not True:
                self._failed += answer.failed
                return ()
        answer = self._value.evaluate(values)
        number = answer.value
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
            self._failed += answer.failed or number is not None
            return ()
        whole = float(math.trunc(number))
        if not whole or abs(whole) >= _MOST:
            return ()
        self._told += 1
        return (Reported(self._namespace, self._name, whole),)

    def figures(self) -> Iterable[Figure]:
        return (
            Figure("extproc_reported_attributes_total", "Answers with whose end a number was told.", self._told, counts=True),
            Figure(
                "extproc_reported_attributes_failed_total",
                "Answers with whose end none was told, as the expression or its condition failed.",
                self._failed,
                counts=True,
            ),
        )


def _usage(tokens: Tokens) -> dict[str, object]:
    """What expressions read: what the answer said, in OpenAI's words and in Anthropic's; numbers are doubles, as upstream's."""
    usage: dict[str, object] = {}
    total = 0.0
    said = ((tokens.prompt, "prompt_tokens", "input_tokens"), (tokens.completion, "completion_tokens", "output_tokens"))
    for number, older, newer in said:
        if number is not None:
            usage[older] = usage[newer] = float(number)
            total += number
    if usage:
        usage["total_tokens"] = total
    if tokens.cached is not None:
        cached = {"cached_tokens": float(tokens.cached)}
        for name in ("prompt_tokens_details", "prompt_token_details", "input_tokens_details"):
            usage[name] = cached
    return usage


def _made(parameters: AttributeReporterParameters, kit: Kit) -> AttributeReporter:
    attribute = parameters.attributes[0]
    return AttributeReporter(attribute.key.namespace, attribute.key.name, attribute.value, attribute.when)


_NEEDS_ANSWERS: Final = (
    "tells nothing of answers that the proxy does not send here (response_body_mode NONE), and the proxy takes only namespaces "
    "that its metadata_options name"
)

TYPES: Final = (
    PluginType(
        "request-attribute-reporter",
        REPORTER,
        "with the end of an answer, the integer part of `expression` (CEL over `usage`: `prompt_tokens`, `completion_tokens`, "
        "`total_tokens`, `prompt_tokens_details.cached_tokens`, as doubles) as dynamic metadata `key`, where `condition` is "
        "true; 0 is not told",
        AttributeReporterParameters,
        _made,
        note=lambda parameters: _NEEDS_ANSWERS,
    ),
)
