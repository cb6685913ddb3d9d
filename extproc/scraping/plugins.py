"""The rows of the data layer's plugins that this room is: what a config file may name."""

from __future__ import annotations

from typing import Final

from extproc.scheduling.plugins.base import PluginType
from extproc.settings.engines import (
    ClusterMetricsSettings,
    ClusterSourceSettings,
    CoreMetricsSettings,
    GpuSettings,
    GpuSourceSettings,
    MetricsSourceSettings,
)

TYPES: Final = (
    PluginType("metrics-data-source", "data layer", "where an endpoint's page is", MetricsSourceSettings),
    PluginType(
        "core-metrics-extractor",
        "data layer",
        "in which words it speaks",
        CoreMetricsSettings,
        older=("model-server-protocol-metrics",),
    ),
    PluginType(
        "multicluster-metrics-data-source",
        "data layer",
        "where the page of a cluster's picker is",
        ClusterSourceSettings,
    ),
    PluginType(
        "multicluster-metrics-extractor",
        "data layer",
        "what that page says of the cluster's pool: as its queue and KV cache usage, and as attributes",
        ClusterMetricsSettings,
    ),
    PluginType(
        "dcgm-data-source",
        "data layer",
        "where the page of the DCGM exporter is that sees an endpoint's GPUs",
        GpuSourceSettings,
    ),
    PluginType(
        "dcgm-extractor",
        "data layer",
        "the largest `DCGM_FI_DEV_GPU_UTIL` / 100 of an endpoint's GPUs as the attribute `GPUUtilization`",
        GpuSettings,
    ),
)
