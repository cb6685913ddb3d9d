"""Models of other providers: a client's request becomes one to the provider, and its answer one for the client.

Pure: bytes and values in, bytes and values out. Nothing here knows sockets, names that are resolved, clocks, or Envoy.

    read_external_model(spec) ─▶ ExternalModel
    payload_of(request, body) ─▶ payload
    asked(path, payload) ─▶ Asked ─┐
                   ExternalModel ──┴▶ provider_call(...) ─▶ ProviderCall: where to, headers, splices of the body
                                                               └▶ ProviderReader(...): the answer, as it passes
"""

from extproc.external.addresses import is_inside
from extproc.external.call import MAX_TOKENS, ProviderCall, payload_of, provider_call
from extproc.external.dialects import Asked, Dialect, ErrorShape, Task, asked
from extproc.external.faults import Fault, written
from extproc.external.model import Credential, ExternalModel, read_external_model
from extproc.external.providers import PROVIDERS
from extproc.external.reader import ProviderReader

__all__ = [
    "MAX_TOKENS",
    "PROVIDERS",
    "Asked",
    "Credential",
    "Dialect",
    "ErrorShape",
    "ExternalModel",
    "Fault",
    "ProviderCall",
    "ProviderReader",
    "Task",
    "asked",
    "is_inside",
    "payload_of",
    "provider_call",
    "read_external_model",
    "written",
]
