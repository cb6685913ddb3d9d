"""Copies of requests on their way to a shadow: taken within budget, sent where the pool has room, read to the end, compared."""

from extproc.app.shadow.component import Shadows

__all__ = ["Shadows"]
