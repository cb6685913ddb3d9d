"""Deciders: whether a further stage of a request is worth an endpoint of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, cast

from extproc.scheduling.cycle import Cycle
from extproc.scheduling.facts import PREFIX_MATCH, PROMPT, PrefixMatch, Prompt
from extproc.scheduling.plugins.base import DECIDER, Kit, Need, PluginType, Run
from extproc.scheduling.plugins.parameters import NoParameters
from extproc.scheduling.plugins.parameters_disagg import PrefixBasedParameters


class Always:
    """`always-disagg-pd-decider`."""

    def wants(self, cycle: Cycle, decode: Run) -> bool:
        return True


class PrefixBased:
    """`prefix-based-pd-decider`: where much of the prompt is cached there is little to give away."""

    def __init__(self, prompt: str, match: str, non_cached_tokens: int, prompt_tokens: int = 0) -> None:
        """`prompt` and `match`: who finds these out."""
        self._prompt = prompt
        self._match = match
        self._non_cached = non_cached_tokens
        self._prompt_tokens = prompt_tokens

    def wants(self, cycle: Cycle, decode: Run) -> bool:
        if not self._non_cached:
            return False
        tokens = cast(Prompt, cycle.facts[self._prompt]).tokens
        if tokens < self._prompt_tokens or tokens < self._non_cached:
            return False
        match = cast(PrefixMatch, cycle.facts[self._match])
        place = decode.place
        return tokens - match.matched[place] * match.block_tokens >= self._non_cached


class Multimodal:
    """`always-disagg-multimodal-decider`."""

    def __init__(self, prompt: str) -> None:
        """`prompt`: who finds it out."""
        self._prompt = prompt

    def wants(self, cycle: Cycle, decode: Run) -> bool:
        return cast(Prompt, cycle.facts[self._prompt]).multimodal


def prefix_needs(parameters: Any) -> Sequence[Need]:
    """What a prefix based decision reads."""
    return (Need(PROMPT), Need(PREFIX_MATCH))


def prefix_based(kit: Kit, non_cached_tokens: int, prompt_tokens: int = 0) -> PrefixBased:
    """For who has `prefix_needs`."""
    prompt, match = kit.sources
    assert prompt is not None
    assert match is not None
    return PrefixBased(prompt, match, non_cached_tokens, prompt_tokens)


def _multimodal(parameters: Any, kit: Kit) -> Multimodal:
    (prompt,) = kit.sources
    assert prompt is not None
    return Multimodal(prompt)


TYPES: Final = (
    PluginType("always-disagg-pd-decider", DECIDER, "yes", NoParameters, lambda parameters, kit: Always()),
    PluginType(
        "prefix-based-pd-decider",
        DECIDER,
        "yes when the prompt has `promptTokens` and `nonCachedTokens` or more, and prompt − cached blocks × block size of who "
        "decodes ≥ `nonCachedTokens`; `nonCachedTokens` 0: no",
        PrefixBasedParameters,
        lambda parameters, kit: prefix_based(kit, parameters.non_cached_tokens, parameters.prompt_tokens),
        needs=prefix_needs,
    ),
    PluginType(
        "always-disagg-multimodal-decider",
        DECIDER,
        "yes when there are images, audio or video in the prompt",
        NoParameters,
        _multimodal,
        needs=lambda parameters: (Need(PROMPT),),
    ),
)
