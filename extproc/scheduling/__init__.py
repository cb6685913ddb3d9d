"""Candidates in, choice and its explanation out.

This package may not import asyncio, grpc, protobuf, logging or any room beside it. Plugins are named and parameterised as in
upstream's EndpointPickerConfig; each reads the candidates' columns and nothing else.
"""

from extproc.scheduling.build import Blueprint, build_scheduler
from extproc.scheduling.saturation import SaturationDetector
from extproc.scheduling.scheduler import Explanation, Profile, Scheduler, WeightedScorer

__all__ = [
    "Blueprint",
    "Explanation",
    "Profile",
    "SaturationDetector",
    "Scheduler",
    "WeightedScorer",
    "build_scheduler",
]
