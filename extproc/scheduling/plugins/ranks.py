"""Handlers that run one profile: the one that a header names; or for a rank of a pod that is reached by the pod's first one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from extproc.candidates import Candidates
from extproc.errors import RequestError
from extproc.names import DATA_PARALLEL_HEADER
from extproc.scheduling.cycle import Cycle
from extproc.scheduling.plugins.base import HANDLER, PluginType, Profiles, Remarks, Scheduled, no_profile
from extproc.scheduling.plugins.disagg import at_port
from extproc.scheduling.plugins.parameters_disagg import DataParallelParameters, HeaderProfileParameters


class DataParallel:
    """`data-parallel-profile-handler`: a gateway that knows one port of a pod sends there, and a side-car on to the rank."""

    def __init__(self, primary_port: int) -> None:
        self._primary_port = primary_port

    def schedule(self, cycle: Cycle, candidates: Candidates, profiles: Profiles) -> Scheduled:
        name = profiles.names[0]
        run = profiles.run(name, cycle, candidates)
        header = (DATA_PARALLEL_HEADER, run.endpoint)
        return Scheduled(name, {name: run}, (header,), destination=at_port(run, self._primary_port))


class HeaderProfile:
    """`header-profile-handler`. One profile alone is run whatever the header says."""

    def __init__(self, header: str, default: str) -> None:
        self._header = header.lower()
        self._default = default

    def schedule(self, cycle: Cycle, candidates: Candidates, profiles: Profiles) -> Scheduled:
        names = profiles.names
        name = names[0]
        if len(names) > 1:
            name = cycle.asked.head.text(self._header).strip() or self._default
            if name not in names:
                raise RequestError(f"header {self._header}: no such profile; there are {', '.join(names)}", param=self._header)
        return Scheduled(name, {name: profiles.run(name, cycle, candidates)})


def _one_profile(parameters: DataParallelParameters, names: Sequence[str]) -> Remarks:
    if len(names) == 1:
        return Remarks()
    return Remarks([f"primaryPort: data-parallel-profile-handler takes exactly one profile (got {', '.join(names)})"])


def _header_profiles(parameters: HeaderProfileParameters, names: Sequence[str]) -> Remarks:
    default = parameters.default_profile
    return Remarks([no_profile("defaultProfile", default, names)] if len(names) > 1 and default not in names else ())


TYPES: Final = (
    PluginType(
        "data-parallel-profile-handler",
        HANDLER,
        "one profile picks a rank; the destination is its pod's `primaryPort`, and `x-data-parallel-host-port` names the rank",
        DataParallelParameters,
        lambda parameters, kit: DataParallel(parameters.primary_port),
        profiles=_one_profile,
    ),
    PluginType(
        "header-profile-handler",
        HANDLER,
        "the profile that the header `headerName` names, else `defaultProfile`; of another name: 400",
        HeaderProfileParameters,
        lambda parameters, kit: HeaderProfile(parameters.header_name, parameters.default_profile),
        profiles=_header_profiles,
    ),
)
