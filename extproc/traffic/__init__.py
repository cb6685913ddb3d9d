"""From a model's name to what serves it: adapters to base models, models to pools, models to the ones that serve instead;
from an objective's name to its priority; and from a serving endpoint to one of its served entities.

This package may not import asyncio, grpc, protobuf, logging or any room beside it.
"""

from extproc.traffic.adapters import AdapterMap
from extproc.traffic.catalog import Catalog, CatalogEntry, Served, UnknownEntity
from extproc.traffic.layout import BUCKETS, Layout, NamedLayout, in_order, laid_out, moved, moves, positioned
from extproc.traffic.objectives import ObjectiveTable
from extproc.traffic.objects import PoolTables, PoolTraffic
from extproc.traffic.rewrites import ModelRewrite, RewriteRule, RewriteTable, RewriteTarget, Split
from extproc.traffic.routes import Route, RouteTable
from extproc.traffic.serving import ServedEntity, ServingEndpoint, TrafficTable
from extproc.traffic.specs import EndpointSpec, EntitySpec, ExternalSpec, Price, RateLimit
from extproc.traffic.stored import MadeAt, StoredResponses

__all__ = [
    "BUCKETS",
    "AdapterMap",
    "Catalog",
    "CatalogEntry",
    "EndpointSpec",
    "EntitySpec",
    "ExternalSpec",
    "Layout",
    "MadeAt",
    "ModelRewrite",
    "NamedLayout",
    "ObjectiveTable",
    "PoolTables",
    "PoolTraffic",
    "Price",
    "RateLimit",
    "RewriteRule",
    "RewriteTable",
    "RewriteTarget",
    "Route",
    "RouteTable",
    "Served",
    "ServedEntity",
    "ServingEndpoint",
    "Split",
    "StoredResponses",
    "TrafficTable",
    "UnknownEntity",
    "in_order",
    "laid_out",
    "moved",
    "moves",
    "positioned",
]
