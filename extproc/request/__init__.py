"""From bytes to an InferenceRequest: which model does this request name?

This package may not import asyncio, grpc, protobuf, logging or any room beside it. It reads bodies; `rename` tells
what changes in one whose model gets another name.
"""

from extproc.request.parse import UPGRADE_MARKS, ParseOptions, checked_model, is_upgrade, parse
from extproc.request.rename import Renamed, renamed
from extproc.request.scan import scanner_of

__all__ = [
    "UPGRADE_MARKS",
    "ParseOptions",
    "Renamed",
    "checked_model",
    "is_upgrade",
    "parse",
    "renamed",
    "scanner_of",
]
