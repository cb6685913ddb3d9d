"""Types of upstream's that a config may name and that change nothing here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from extproc.scheduling.plugins.base import DATA_LAYER, PARSER, PluginType
from extproc.scheduling.plugins.parameters import (
    EndpointEventsParameters,
    KubernetesEventsParameters,
    ModelsSourceParameters,
    NoParameters,
)

_BY_ITSELF: Final = "accepted; bodies are told apart by path and content type"
_GRPC: Final = "bodies of gRPC are not read here: its requests are picked for by load, labels and headers, and name no model"


def _note(text: str) -> Callable[[Any], str]:
    return lambda parameters: text


TYPES: Final = (
    PluginType("openai-parser", PARSER, _BY_ITSELF, NoParameters),
    PluginType("anthropic-parser", PARSER, _BY_ITSELF, NoParameters),
    PluginType("vllmhttp-parser", PARSER, _BY_ITSELF, NoParameters),
    PluginType("sglanghttp-parser", PARSER, f"{_BY_ITSELF}; `input_ids` need not be there", NoParameters),
    PluginType(
        "vllmgrpc-parser",
        PARSER,
        "accepted; bodies of gRPC pass unread, those of HTTP are read as ever",
        NoParameters,
        note=_note(_GRPC),
    ),
    PluginType(
        "vertexai-parser",
        PARSER,
        "accepted; Vertex AI's REST paths name their model, bodies of its gRPC service pass unread",
        NoParameters,
        note=_note(_GRPC),
    ),
    PluginType(
        "passthrough-parser",
        PARSER,
        "accepted; when it is the only parser no body is read: [requests.md](requests.md)",
        NoParameters,
    ),
    PluginType(
        "endpoint-notification-source",
        DATA_LAYER,
        "accepted; plugins that keep something of endpoints hear of those that leave and restart anyway",
        EndpointEventsParameters,
    ),
    PluginType(
        "k8s-notification-source",
        DATA_LAYER,
        "accepted; what is needed of Kubernetes is watched anyway",
        KubernetesEventsParameters,
    ),
    PluginType(
        "models-data-source",
        DATA_LAYER,
        "accepted; no plugin reads which models an endpoint has, so nobody is asked for them",
        ModelsSourceParameters,
        note=_note("no plugin reads which models an endpoint has, so `/v1/models` is not asked for"),
    ),
    PluginType("models-data-extractor", DATA_LAYER, "accepted, as its source", NoParameters),
)
