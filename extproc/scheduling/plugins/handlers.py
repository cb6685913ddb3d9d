"""Profile handlers: which profiles run for a request, and what becomes of it."""

from __future__ import annotations

from typing import Final

from extproc.candidates import Candidates
from extproc.scheduling.cycle import Cycle
from extproc.scheduling.plugins.base import HANDLER, PluginType, Profiles, Scheduled
from extproc.scheduling.plugins.parameters import NoParameters


class SingleProfile:
    """`single-profile-handler`."""

    def schedule(self, cycle: Cycle, candidates: Candidates, profiles: Profiles) -> Scheduled:
        name = profiles.names[0]
        return Scheduled(name, {name: profiles.run(name, cycle, candidates)})


TYPES: Final = (
    PluginType("single-profile-handler", HANDLER, "one profile decides", NoParameters, lambda parameters, kit: SingleProfile()),
)
