"""Serving endpoints as a part of a service: the desk over its store, and the feeders that tell it what files and maps say."""

from extproc.app.endpoints.configmaps import WatchedEndpoints
from extproc.app.endpoints.desk import Counting, ServingEndpoints
from extproc.app.endpoints.files import EndpointsFile
from extproc.app.endpoints.make import endpoint_feeders, load_of, read_seal, secret_store
from extproc.app.endpoints.providers import ExternalProviders

__all__ = [
    "Counting",
    "EndpointsFile",
    "ExternalProviders",
    "ServingEndpoints",
    "WatchedEndpoints",
    "endpoint_feeders",
    "load_of",
    "read_seal",
    "secret_store",
]
