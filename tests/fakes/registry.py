"""The metrics that there are, by the registry of a gateway."""

from __future__ import annotations

from pathlib import Path

import yaml

from extproc.app import build
from extproc.settings.commands import GatewaySettings

_PROCESS = {
    "process_cpu_seconds_total": frozenset[str](),
    "process_resident_memory_bytes": frozenset[str](),
    "process_start_time_seconds": frozenset[str](),
    "process_open_fds": frozenset[str](),
    "process_max_fds": frozenset[str](),
    "python_gc_collections_total": frozenset({"generation"}),
}
"""What prometheus-client collects itself, once in a process: `extproc` says so at its start."""


def labels_of_everything(directory: Path) -> dict[str, frozenset[str]]:
    """Labels of each metric that a gateway has which uses everything that dashboards show."""
    config = directory / "gateway.yaml"
    pool = {"name": "llama", "region": "here", "endpoints": {"static": ["127.0.0.1:1"]}}
    document = {
        "apiVersion": "extproc.dev/v1alpha1",
        "kind": "Gateway",
        "pools": [pool],
        "routes": [{"models": ["llama"], "pool": "llama"}],
        "scheduling": {"featureGates": ["flowControl"], "flowControl": {"enableEviction": True}},
        "regions": {"self": "here", "names": ["here"]},
        "registry": {"uri": "http://127.0.0.1:1"},
    }
    config.write_text(yaml.safe_dump(document))
    service = build(GatewaySettings(config_file=str(config), audit_dir=str(directory / "audit"), api_port=1, api_auth="off"))
    return {**service.telemetry.instruments.labels(), **_PROCESS}
