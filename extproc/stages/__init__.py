"""The stages of a decision. A deployment chooses which of them run on a stream, and in which order:

    bbr       ModelHeaders
    epp       RewriteModel, AdmitByPriority, PickEndpoint
    gateway   ModelHeaders, RouteToPool, RewriteModel, AdmitByPriority, PickEndpoint

Rewrites and objectives belong to a pool, so they come behind the route to it; the route and the headers go by the model that
the client named.

A stage reads the request and adds to the draft; it may answer the client itself, or raise an ExtProcError. `explain` tells
what `run` would do now, and does and counts nothing.
"""

from extproc.stages.admit import AdmitByPriority
from extproc.stages.draft import Draft, InFlight, Stage
from extproc.stages.headers import ModelHeaders
from extproc.stages.pick import PickEndpoint
from extproc.stages.pools import PoolOfEndpoints
from extproc.stages.rewrite import RewriteModel
from extproc.stages.route import RouteToPool

__all__ = [
    "AdmitByPriority",
    "Draft",
    "InFlight",
    "ModelHeaders",
    "PickEndpoint",
    "PoolOfEndpoints",
    "RewriteModel",
    "RouteToPool",
    "Stage",
]
