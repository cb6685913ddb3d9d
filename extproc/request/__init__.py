"""From bytes to an InferenceRequest: which model does this request name?

This package may not import asyncio, grpc, protobuf, logging or any room beside it. It reads bodies and never changes them.
"""

from extproc.request.parse import ParseOptions, parse
from extproc.request.scan import scanner_of

__all__ = ["ParseOptions", "parse", "scanner_of"]
