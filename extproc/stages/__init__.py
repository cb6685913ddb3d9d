"""The stages of a decision. A deployment chooses which of them run on a stream, and in which order:

    bbr       ModelHeaders
    epp       FindStored, RewriteModel, AdmitByPriority, WaitForRoom, PickEndpoint
    gateway   ModelHeaders, FindStored, FindEndpoint, CheckAccess, LimitRate, HearFeedback, ServeEndpoint, RouteToPool,
              ChooseRegion, AskProvider, RewriteModel, AdmitByPriority, WaitForRoom, PickEndpoint, CopyToShadows,
              MeasureEntities

WaitForRoom is there where a pool has flow control, HearFeedback and MeasureEntities unless --measures=off, AuditDecisions
before all others where decisions are kept, ChooseRegion where the config has regions.

Rewrites and objectives belong to a pool, so they come behind the route to it; the route and the headers go by the model that
the client named.

A stage reads the request and adds to the draft; it may answer the client itself, wait, or raise an ExtProcError. Deciding books
and counts nothing; that is what its hooks are for (`stage.py`).
"""

from extproc.stages.access import Bearer, CheckAccess, Reviewers
from extproc.stages.admit import AdmitByPriority
from extproc.stages.again import Again
from extproc.stages.ask import AskProvider, Providers
from extproc.stages.audit import AuditDecisions
from extproc.stages.draft import Booking, Choice, Draft, Reasons
from extproc.stages.feedback import HearFeedback
from extproc.stages.find import FindEndpoint
from extproc.stages.headers import ModelHeaders
from extproc.stages.limit import LimitRate
from extproc.stages.measure import MeasureEntities
from extproc.stages.pick import PickEndpoint
from extproc.stages.placing import RegionRules
from extproc.stages.pools import PoolOfEndpoints
from extproc.stages.queue import WaitForRoom
from extproc.stages.region import ChooseRegion
from extproc.stages.rewrite import RewriteModel
from extproc.stages.route import RouteToPool
from extproc.stages.serve import ServeEndpoint
from extproc.stages.shadow import Copier, Copy, CopyToShadows
from extproc.stages.stage import ENOUGH, NO_HOOKS, Ending, Enough, Hooks, Pending, Stage, Step
from extproc.stages.stored import FindStored

__all__ = [
    "ENOUGH",
    "NO_HOOKS",
    "AdmitByPriority",
    "Again",
    "AskProvider",
    "AuditDecisions",
    "Bearer",
    "Booking",
    "CheckAccess",
    "Choice",
    "ChooseRegion",
    "Copier",
    "Copy",
    "CopyToShadows",
    "Draft",
    "Ending",
    "Enough",
    "FindEndpoint",
    "FindStored",
    "HearFeedback",
    "Hooks",
    "LimitRate",
    "MeasureEntities",
    "ModelHeaders",
    "Pending",
    "PickEndpoint",
    "PoolOfEndpoints",
    "Providers",
    "Reasons",
    "RegionRules",
    "Reviewers",
    "RewriteModel",
    "RouteToPool",
    "ServeEndpoint",
    "Stage",
    "Step",
    "WaitForRoom",
]
