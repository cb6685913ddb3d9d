"""Requests in stages: who encodes, who prefills, who decodes (llm-d's EPD, P/D, E/PD and E/P/D).

The proxy sends the request to the one that decodes; a side-car there reads in headers who does the other stages, asks them,
and does by itself what no header names. A client's own headers of that name never get through, as they name hosts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from extproc.candidates import Candidates
from extproc.domain import Endpoint
from extproc.errors import NoEndpoints, Saturated
from extproc.names import DATA_PARALLEL_HEADER, ENCODERS_HEADER, PREFILLER_HEADER
from extproc.scheduling.cycle import Cycle
from extproc.scheduling.facts import PEER
from extproc.scheduling.plugins.base import (
    DECIDER,
    HANDLER,
    HEADERS,
    Decider,
    Figure,
    Kit,
    Need,
    PluginType,
    Profiles,
    Reference,
    Remarks,
    Run,
    Scheduled,
    no_profile,
)
from extproc.scheduling.plugins.deciders import Always, prefix_based, prefix_needs
from extproc.scheduling.plugins.parameters_disagg import DisaggParameters, HeadersParameters, PdParameters

_DECISIONS: Final = (
    ((False, False), "decode-only"),
    ((False, True), "prefill-decode"),
    ((True, False), "encode-decode"),
    ((True, True), "encode-prefill-decode"),
)
"""By whether it has encoders and a prefiller: upstream's words."""


def with_port(endpoint: Endpoint, port: int) -> str:
    """Another port of an endpoint, as `ip:port`."""
    return f"{endpoint.key[: endpoint.key.rindex(':')]}:{port}"


def at_port(run: Run, port: int) -> str:
    """Those that were picked, at another port, best first and each once."""
    picked = [with_port(run.candidates.endpoints[position], port) for position in run.pick.positions]
    return ",".join(dict.fromkeys(picked))


def stage_headers(prefill: Run | None, encode: Run | None) -> tuple[tuple[str, str], ...]:
    """Who does the other stages."""
    headers: tuple[tuple[str, str], ...] = ()
    if prefill is not None:
        headers += ((PREFILLER_HEADER, prefill.endpoint),)
    if encode is not None:
        keys = [encode.candidates.endpoints[position].key for position in encode.pick.positions]
        headers += ((ENCODERS_HEADER, ",".join(keys)),)
    return headers


class Stages:
    """`disagg-profile-handler`, and `pd-profile-handler`."""

    def __init__(
        self,
        decode: str,
        *,
        prefill: str | None,
        encode: str | None,
        prefill_decider: Decider | None,
        encode_decider: Decider | None,
        prefill_first: bool = False,
        strict: bool = False,
        primary_port: int = 0,
    ) -> None:
        """Profiles by name; None for a stage that never runs. Decode first: each stage is run that its decider wants. Prefill
        first: prefill always is."""
        self._decode = decode
        self._prefill = prefill
        self._encode = encode
        self._prefill_decider = prefill_decider
        self._encode_decider = encode_decider
        self._prefill_first = prefill_first
        self._strict = strict
        self._primary_port = primary_port
        self._decisions = {has: 0 for has, _ in _DECISIONS}
        self._omitted = {name: 0 for name in (encode, prefill) if name is not None}

    def schedule(self, cycle: Cycle, candidates: Candidates, profiles: Profiles) -> Scheduled:
        omitted: dict[str, str] = {}
        prefill: Run | None = None
        encode: Run | None = None
        if self._prefill_first and self._prefill is not None and self._prefill in profiles.names:
            prefill = self._stage(self._prefill, cycle, candidates, profiles, omitted)
            if prefill is not None:
                encode = self._encoded(cycle, candidates, profiles, prefill, omitted)
        decode = profiles.run(self._decode, cycle, candidates)
        _peer(cycle, decode)
        if prefill is None:
            encode = self._encoded(cycle, candidates, profiles, decode, omitted)
            name, decider = self._prefill, self._prefill_decider
            if name is not None and decider is not None and name in profiles.names and decider.wants(cycle, decode):
                prefill = self._stage(name, cycle, candidates, profiles, omitted)
        return self._scheduled(decode, prefill, encode, omitted)

    def _encoded(
        self, cycle: Cycle, candidates: Candidates, profiles: Profiles, before: Run, omitted: dict[str, str]
    ) -> Run | None:
        name, decider = self._encode, self._encode_decider
        if name is None or decider is None or name not in profiles.names or not decider.wants(cycle, before):
            return None
        return self._stage(name, cycle, candidates, profiles, omitted)

    def _stage(
        self, name: str, cycle: Cycle, candidates: Candidates, profiles: Profiles, omitted: dict[str, str]
    ) -> Run | None:
        try:
            run = profiles.run(name, cycle, candidates)
        except (NoEndpoints, Saturated) as none:
            if self._strict:
                raise
            omitted[name] = none.message
            return None
        _peer(cycle, run)
        return run

    def _scheduled(self, decode: Run, prefill: Run | None, encode: Run | None, omitted: dict[str, str]) -> Scheduled:
        runs = {self._decode: decode}
        if encode is not None and self._encode is not None:
            runs[self._encode] = encode
        if prefill is not None and self._prefill is not None:
            runs[self._prefill] = prefill
        headers = stage_headers(prefill, encode)
        destination = ""
        if self._primary_port:
            headers += ((DATA_PARALLEL_HEADER, decode.endpoint),)
            destination = at_port(decode, self._primary_port)
        return Scheduled(self._decode, runs, headers, destination=destination, omitted=omitted)

    # -- counting ------------------------------------------------------------------------------------------------

    def picked(self, cycle: Cycle, scheduled: Scheduled) -> None:
        runs = scheduled.runs
        self._decisions[(self._encode in runs, self._prefill in runs)] += 1
        for name in scheduled.omitted:
            self._omitted[name] += 1

    def figures(self) -> Iterable[Figure]:
        doc = "Requests by the stages that have an endpoint of their own."
        name = "llm_d_epp_disagg_decision_total"
        figures = [Figure(name, doc, self._decisions[has], (("decision_type", word),), counts=True) for has, word in _DECISIONS]
        doc = "Stages that should have had an endpoint of their own and found none: the request went on without."
        name = "extproc_disagg_omitted_total"
        figures += [Figure(name, doc, number, (("stage", stage),), counts=True) for stage, number in self._omitted.items()]
        return figures

    def dump(self) -> object:
        return {"decisions": {word: self._decisions[has] for has, word in _DECISIONS}, "omitted": dict(self._omitted)}


def _peer(cycle: Cycle, run: Run) -> None:
    cycle.facts[PEER] = run.candidates.endpoints[run.pick.positions[0]]


class StageHeaders:
    """`disagg-headers-handler`: for a handler that does not write these headers. Ours do, so there is nothing left to say."""

    def __init__(self, prefill: str, encode: str) -> None:
        """By the names of their profiles."""
        self._prefill = prefill
        self._encode = encode

    def dress(self, cycle: Cycle, scheduled: Scheduled) -> Scheduled:
        runs = scheduled.runs
        named = {name for name, _ in scheduled.set_headers}
        prefill = runs.get(self._prefill) if self._prefill != scheduled.primary else None
        encode = runs.get(self._encode) if self._encode != scheduled.primary else None
        headers = [each for each in stage_headers(prefill, encode) if each[0] not in named]
        return scheduled._replace(set_headers=(*scheduled.set_headers, *headers)) if headers else scheduled


def _disagg_refers(parameters: DisaggParameters) -> Sequence[Reference]:
    named = (parameters.prefill_decider, parameters.encode_decider)
    return [Reference(name, DECIDER, path) for path, name in named if name is not None]


def _disagg(parameters: DisaggParameters, kit: Kit) -> Stages:
    prefill, encode = parameters.prefill_decider[1], parameters.encode_decider[1]
    return Stages(
        parameters.decode,
        prefill=parameters.prefill,
        encode=parameters.encode,
        prefill_decider=None if prefill is None else kit.plugins[prefill],
        encode_decider=None if encode is None else kit.plugins[encode],
        prefill_first=parameters.stage_order == "prefill-first",
        strict=parameters.strict,
        primary_port=parameters.primary_port,
    )


def _disagg_profiles(parameters: DisaggParameters, names: Sequence[str]) -> Remarks:
    problems = [] if parameters.decode in names else [no_profile("profiles.decode", parameters.decode, names)]
    warnings = []
    for (path, decider), stage, profile in (
        (parameters.prefill_decider, "prefill", parameters.prefill),
        (parameters.encode_decider, "encode", parameters.encode),
    ):
        if decider is not None and profile not in names:
            warnings.append(f"{path}: {stage} never runs, as no profile is called {profile!r}")
    if parameters.stage_order == "prefill-first" and parameters.prefill not in names:
        problems.append(no_profile("profiles.prefill", parameters.prefill, names))
    return Remarks(problems, warnings)


def _pd(parameters: PdParameters, kit: Kit) -> Stages:
    named = parameters.decider_plugin_name
    decider: Decider
    if named is not None:
        decider = kit.plugins[named]
    elif parameters.threshold:
        decider = prefix_based(kit, parameters.threshold)
    else:
        decider = Always()
    return Stages(
        parameters.decode_profile,
        prefill=parameters.prefill_profile,
        encode=None,
        prefill_decider=decider,
        encode_decider=None,
        strict=parameters.strict,
        primary_port=parameters.primary_port,
    )


def _pd_refers(parameters: PdParameters) -> Sequence[Reference]:
    named = parameters.decider_plugin_name
    return [] if named is None else [Reference(named, DECIDER, "deciderPluginName")]


def _pd_needs(parameters: PdParameters) -> Sequence[Need]:
    return prefix_needs(parameters) if parameters.decider_plugin_name is None and parameters.threshold else ()


def _pd_profiles(parameters: PdParameters, names: Sequence[str]) -> Remarks:
    wanted = (("decodeProfile", parameters.decode_profile), ("prefillProfile", parameters.prefill_profile))
    return Remarks([no_profile(path, name, names) for path, name in wanted if name not in names])


TYPES: Final = (
    PluginType(
        "disagg-profile-handler",
        HANDLER,
        "decode, then encode and prefill where their decider says so (`decode-first`), or prefill, encode, decode; in headers "
        "who does the other stages",
        DisaggParameters,
        _disagg,
        refers=_disagg_refers,
        profiles=_disagg_profiles,
    ),
    PluginType(
        "pd-profile-handler",
        HANDLER,
        "the same with prefill and decode alone",
        PdParameters,
        _pd,
        needs=_pd_needs,
        refers=_pd_refers,
        note=lambda parameters: "pd-profile-handler is deprecated, use disagg-profile-handler",
        profiles=_pd_profiles,
    ),
    PluginType(
        "disagg-headers-handler",
        HEADERS,
        "in headers who does the other stages; the profile handlers do so by themselves",
        HeadersParameters,
        lambda parameters, kit: StageHeaders(parameters.prefill_profile, parameters.encode_profile),
        older=("prefill-header-handler",),
        note=lambda parameters: "disagg-headers-handler is deprecated: disagg-profile-handler sets these headers by itself",
    ),
)
