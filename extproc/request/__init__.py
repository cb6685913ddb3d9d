"""From bytes to an InferenceRequest: which model does this request name?

This package may not import asyncio, grpc, protobuf, logging or any room beside it. It reads bodies; `rename` tells
what changes in one whose model gets another name, `serving` in one to a serving endpoint.
"""

from extproc.request.keys import Key, KeyFinder
from extproc.request.parse import UPGRADE_MARKS, ParseOptions, checked_model, is_upgrade, parse
from extproc.request.rename import Renamed, renamed
from extproc.request.scan import scanner_of
from extproc.request.serving import Address, address_of, as_served

__all__ = [
    "UPGRADE_MARKS",
    "Address",
    "Key",
    "KeyFinder",
    "ParseOptions",
    "Renamed",
    "address_of",
    "as_served",
    "checked_model",
    "is_upgrade",
    "parse",
    "renamed",
    "scanner_of",
]
