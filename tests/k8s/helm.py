"""Helm with our charts: rendered without a cluster, or installed on one."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from tests.k8s.api import Object, documents
from tests.k8s.cluster import BIN, ROOT

CHARTS: Final = ROOT / "charts"
HELM: Final = BIN / "helm"
NAMES: Final = ("body-based-routing", "inferencepool", "standalone")
LEAST: Final[Mapping[str, str]] = {
    "body-based-routing": "",
    "inferencepool": "inferencePool: {modelServers: {matchLabels: {app: vllm}}}",
    "standalone": "gateway: {pools: [{name: llama, models: [llama], matchLabels: {app: vllm}}]}",
}
"""What a chart can't do without."""


def values_of(chart: str, more: str = "") -> dict[str, Any]:
    """The least values with `more` on top, both YAML."""
    return _merged(yaml.safe_load(LEAST[chart]) or {}, yaml.safe_load(more) or {})


def _merged(base: dict[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in top.items():
        known = base.get(key)
        result[key] = _merged(known, value) if isinstance(value, dict) and isinstance(known, dict) else value
    return result


def helm(*arguments: str, values: Mapping[str, Any] | None = None, config: Path | None = None) -> str:
    """What it prints. Raises RuntimeError with what it complains of."""
    command = [str(HELM), *arguments]
    if config is not None:
        command += ["--kubeconfig", str(config)]
    if values is not None:
        command += ["--values", "-"]
    text = None if values is None else yaml.safe_dump(values)
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


def rendered(chart: str, more: str = "", *, release: str = "models", namespace: str = "ai", least: bool = True) -> list[Object]:
    """All objects of the chart with these values."""
    values = values_of(chart, more) if least else yaml.safe_load(more) or {}
    arguments = ["--namespace", namespace, "--kube-version", "1.35.0"]
    return documents(helm("template", release, str(CHARTS / chart), *arguments, values=values))


def refusal(chart: str, more: str, *, least: bool = True) -> str:
    """Why these values are refused. Raises AssertionError when they are not."""
    try:
        rendered(chart, more, least=least)
    except RuntimeError as error:
        return str(error)
    raise AssertionError(f"{chart} accepts {more}")


def only(objects: list[Object], kind: str) -> Object:
    """The one object of this kind."""
    found = [each for each in objects if each["kind"] == kind]
    assert len(found) == 1, f"{len(found)} of {kind}"
    return found[0]


def kinds(objects: list[Object]) -> set[str]:
    return {str(each["kind"]) for each in objects}


def container(objects: list[Object]) -> Object:
    """Our container of the Deployment."""
    found: Object = only(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    return found


def flags(objects: list[Object]) -> dict[str, str]:
    """Its `--flag=value` arguments."""
    pairs = [argument.removeprefix("--").partition("=") for argument in container(objects)["args"][1:]]
    return {flag: value for flag, _, value in pairs}
