"""The stages of a decision. A deployment chooses which of them run on a stream, and in which order:

    bbr       ModelHeaders
    epp       PickEndpoint
    gateway   ModelHeaders, RouteToPool, PickEndpoint

A stage reads the request and adds to the draft; it may answer the client itself, or raise an ExtProcError. `explain` tells
what `run` would do now, and does and counts nothing.
"""

from extproc.stages.draft import Draft, InFlight, Stage
from extproc.stages.headers import ModelHeaders
from extproc.stages.pick import PickEndpoint, PoolOfEndpoints
from extproc.stages.route import RouteToPool

__all__ = ["Draft", "InFlight", "ModelHeaders", "PickEndpoint", "PoolOfEndpoints", "RouteToPool", "Stage"]
