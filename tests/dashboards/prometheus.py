"""A real Prometheus that scrapes one process."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import pytest

from extproc.demo.ports import free_ports
from extproc.demo.processes import Child
from tests.e2e.parts import call, until

ROOT: Final = Path(__file__).resolve().parents[2]
_OURS: Final = ROOT / ".cache/prometheus/usr/bin"


def program(name: str) -> str:
    """Where `prometheus` or `promtool` is. Skips the test where there is none; `make test-dashboards`, which has it, fails."""
    found = shutil.which(name, path=f"{_OURS}{os.pathsep}{os.environ.get('PATH', '')}")
    if found is None:
        why = f"there is no '{name}', neither in {_OURS.relative_to(ROOT)} nor on the path: scripts/install-prometheus"
        if os.environ.get("EXTPROC_REQUIRE_PROMETHEUS"):
            pytest.fail(f"{why}, and EXTPROC_REQUIRE_PROMETHEUS is set")
        pytest.skip(why)
    return found


class Prometheus:
    """Asked over its API."""

    def __init__(self, url: str) -> None:
        self._url = url

    def ask(self, query: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series, now. Raises AssertionError with Prometheus' words when it is no query."""
        found = self._get(f"/api/v1/query?query={quote(query)}")
        if found["resultType"] == "scalar":
            return [({}, float(found["result"][1]))]
        return [(each["metric"], float(each["value"][1])) for each in found["result"]]

    def values(self, selector: str, label: str) -> list[str]:
        """Of a label, of these series."""
        found: list[str] = self._get(f"/api/v1/label/{label}/values?match[]={quote(selector)}")
        return found

    def read_at_s(self) -> float:
        """When a page was read last; 0 for never."""
        return max([value for _, value in self.ask("timestamp(up) and up == 1")], default=0.0)

    def trouble(self) -> str:
        """Why the last page could not be read; '' when it could."""
        return "; ".join(each["lastError"] for each in self._get("/api/v1/targets")["activeTargets"])

    def _get(self, path: str) -> Any:
        document = json.loads(call(self._url, path).body)
        assert document["status"] == "success", (path, document)
        return document["data"]


@contextlib.contextmanager
def scraping(page: str, directory: Path) -> Iterator[Prometheus]:
    """The metrics of the process at `page`, every two seconds: for one that is not read within that there is no value."""
    (port,) = free_ports(1)
    config = directory / "prometheus.yml"
    target = {"targets": [urlsplit(page).netloc], "labels": {"namespace": "ai"}}
    every = {"scrape_interval": "2s", "scrape_timeout": "2s"}
    config.write_text(json.dumps({"global": every, "scrape_configs": [{"job_name": "gateway", "static_configs": [target]}]}))
    flags = [f"--config.file={config}", f"--storage.tsdb.path={directory}/tsdb", f"--web.listen-address=127.0.0.1:{port}"]
    child = Child("prometheus", [program("prometheus"), *flags, "--log.level=warn"], directory)
    url = f"http://127.0.0.1:{port}"

    def up() -> bool:
        child.check()
        return call(url, "/-/ready").status == 200

    try:
        child.start()
        until(up, within_s=30, what="Prometheus is up")
        yield Prometheus(url)
    finally:
        child.stop()
