"""What is known about the endpoints of a pool.

This package may not import asyncio, grpc, protobuf, logging or any room beside it. One store a pool; its writers (discovery,
scraping, the director) run on one event loop, so every change is whole before anyone reads.
"""

from extproc.pool.member import MemberView
from extproc.pool.store import PoolStore, Ticket

__all__ = ["MemberView", "PoolStore", "Ticket"]
