"""From a model's name to what serves it: adapters to base models, models to pools.

This package may not import asyncio, grpc, protobuf, logging or any room beside it.
"""

from extproc.traffic.adapters import AdapterMap
from extproc.traffic.routes import Route, RouteTable

__all__ = ["AdapterMap", "Route", "RouteTable"]
