"""Candidates in, choice and its explanation out.

This package may not import asyncio, grpc, protobuf, logging or any room beside it. Plugins are named and parameterised as in
upstream's EndpointPickerConfig; each reads the candidates' columns, and what producers found out of the request.
"""

from extproc.scheduling.blueprint import Blueprint, PoolPlugins
from extproc.scheduling.build import build_scheduler
from extproc.scheduling.cycle import Cycle
from extproc.scheduling.plugins.base import Scheduled
from extproc.scheduling.profile import Explanation, Profile, WeightedScorer
from extproc.scheduling.saturation import SaturationDetector
from extproc.scheduling.scheduler import Scheduler

__all__ = [
    "Blueprint",
    "Cycle",
    "Explanation",
    "PoolPlugins",
    "Profile",
    "SaturationDetector",
    "Scheduled",
    "Scheduler",
    "WeightedScorer",
    "build_scheduler",
]
