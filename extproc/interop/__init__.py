"""Serving endpoints as objects of KServe, Istio and the Gateway API, and back. Values in, values out: no I/O.

    document ─ read ─▶ Endpoint ─▶ istio_out, kserve_out, gateway_api ─▶ objects   what they can't say is a list of Loss
    objects  ─ objects ─▶ istio_in, kserve_in ─▶ Endpoint ─ written ─▶ document     what we can't take is one too

What is rendered or taken means the same on both sides; what does not is left out and said with its path, never bent to fit. So
a rule of which one condition can't be said is not said without that condition: its requests go on to what comes next.
"""

from extproc.interop.endpoint import Endpoint, Losses
from extproc.interop.gateway_api import http_routes
from extproc.interop.istio_in import of_istio
from extproc.interop.istio_out import virtual_service
from extproc.interop.kserve_in import of_kserve
from extproc.interop.kserve_out import inference_services, knative_services, llm_services
from extproc.interop.naming import Placing
from extproc.interop.read import read_endpoint
from extproc.interop.written import document_of

__all__ = [
    "Endpoint",
    "Losses",
    "Placing",
    "document_of",
    "http_routes",
    "inference_services",
    "knative_services",
    "llm_services",
    "of_istio",
    "of_kserve",
    "read_endpoint",
    "virtual_service",
]
