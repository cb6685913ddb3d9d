"""Types of upstream's that a config may name and that change nothing here."""

from __future__ import annotations

from typing import Final

from extproc.scheduling.plugins.base import PluginType
from extproc.scheduling.plugins.parameters import NoParameters

_BY_ITSELF: Final = "accepted; bodies are told apart by path and content type"

TYPES: Final = (
    PluginType("openai-parser", "parser", _BY_ITSELF, NoParameters),
    PluginType("anthropic-parser", "parser", _BY_ITSELF, NoParameters),
    PluginType("vllmhttp-parser", "parser", _BY_ITSELF, NoParameters),
    PluginType(
        "passthrough-parser",
        "parser",
        "accepted; when it is the only parser no body is read: [requests.md](requests.md)",
        NoParameters,
    ),
)
