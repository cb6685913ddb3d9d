"""The rows of the data layer's plugins that this room is: what a config file may name."""

from __future__ import annotations

from typing import Final

from extproc.scheduling.plugins.base import PluginType
from extproc.settings.engines import CoreMetricsSettings, MetricsSourceSettings

TYPES: Final = (
    PluginType("metrics-data-source", "data layer", "where an endpoint's page is", MetricsSourceSettings),
    PluginType(
        "core-metrics-extractor",
        "data layer",
        "in which words it speaks",
        CoreMetricsSettings,
        older=("model-server-protocol-metrics",),
    ),
)
