"""The picker configs of upstream's own charts, as Helm renders them: our picker starts with each, and picks. No cluster needed,
only helm."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.charts.test_upstream_configs import CONFIGS
from tests.k8s.api import documents
from tests.k8s.cluster import ROOT
from tests.k8s.helm import helm
from tests.k8s.picks import Client
from tests.k8s.servers import Server, simulators

CHARTS: Final = ROOT / ".cache" / "charts"
"""Upstream's, by version; made by scripts/install-kubernetes."""
PREDICTOR_SINCE: Final = "v1.3"
NEEDED: Final = (
    "inferencePool.modelServers.matchLabels.app=vllm",
    "inferenceExtension.endpointsServer.endpointSelector=app=vllm",
)


def charts() -> Iterator[Any]:
    for chart in sorted([*CHARTS.glob("v*/inferencepool"), *CHARTS.glob("v*/standalone")]):
        version = chart.parent.name
        yield pytest.param(chart, False, id=f"{version}-{chart.name}")
        if version >= PREDICTOR_SINCE:
            yield pytest.param(chart, True, id=f"{version}-{chart.name}-with-a-predictor")


CASES: Final = list(charts())


def configs_of(chart: Path, *, predictor: bool) -> dict[str, str]:
    """By file name; v0.4 has none."""
    options = [f"--set={each}" for each in (*NEEDED, f"inferenceExtension.latencyPredictor.enabled={str(predictor).lower()}")]
    maps = [each for each in documents(helm("template", "mine", str(chart), *options)) if each["kind"] == "ConfigMap"]
    return {
        name: text for each in maps for name, text in (each.get("data") or {}).items() if "kind: EndpointPickerConfig" in text
    }


@pytest.fixture(scope="module")
def endpoints(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    with simulators(tmp_path_factory.mktemp("sims"), ["127.0.0.31", "127.0.0.32"], ["--model=m"]) as started:
        yield started


def test_there_are_charts() -> None:
    assert len(CASES) == 15, "run scripts/install-kubernetes"


@pytest.mark.parametrize(("chart", "predictor"), CASES)
def test_it_starts_and_picks(chart: Path, predictor: bool, endpoints: list[str], tmp_path: Path) -> None:
    found = configs_of(chart, predictor=predictor)
    assert found or chart.parent.name.startswith("v0.4")
    for name, text in found.items():
        (tmp_path / name).write_text(text)
        server = Server("epp", [f"--config-file={tmp_path / name}", f"--endpoints={','.join(endpoints)}"], tmp_path, name)
        server.start()
        client = Client(server.port)
        try:
            server.wait_ready()
            answers = [client.ask() for _ in range(4)]
            assert {endpoint for answer in answers for endpoint in answer.endpoints} <= set(endpoints)
            assert [answer.problem for answer in answers] == [""] * 4
            assert '"level":"error"' not in server.log()
        finally:
            client.close()
            assert server.stop() == 0


@pytest.mark.parametrize(("chart", "predictor"), CASES)
def test_what_is_written_down_of_it_is_so(chart: Path, predictor: bool) -> None:
    """tests/charts/upstream-configs.yaml, for those who have no Helm."""
    known = [{key: value for key, value in config.items() if key != "apiVersion"} for config in CONFIGS.values()]
    for name, text in configs_of(chart, predictor=predictor).items():
        config = yaml.safe_load(text)
        del config["apiVersion"]
        assert config in known, name
