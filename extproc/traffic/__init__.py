"""From a model's name to what serves it: adapters to base models, models to pools, models to the ones that serve instead;
and from an objective's name to its priority.

This package may not import asyncio, grpc, protobuf, logging or any room beside it.
"""

from extproc.traffic.adapters import AdapterMap
from extproc.traffic.objectives import ObjectiveTable
from extproc.traffic.objects import PoolTables, PoolTraffic
from extproc.traffic.rewrites import ModelRewrite, RewriteRule, RewriteTable, RewriteTarget, Split
from extproc.traffic.routes import Route, RouteTable
from extproc.traffic.stored import MadeAt, StoredResponses

__all__ = [
    "AdapterMap",
    "MadeAt",
    "ModelRewrite",
    "ObjectiveTable",
    "PoolTables",
    "PoolTraffic",
    "RewriteRule",
    "RewriteTable",
    "RewriteTarget",
    "Route",
    "RouteTable",
    "Split",
    "StoredResponses",
]
