"""A real MLflow server on SQLite, from the venv of scripts/install-mlflow, and what people do with its registry."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from extproc.demo.ports import free_ports
from tests.e2e.parts import Answer, call, until

VENV = Path(__file__).parents[2] / ".cache/mlflow-venv"
API = "/api/2.0/mlflow"


def installed() -> Path:
    """The venv's Python. Skips the test where there is none, but for `make test-registry`."""
    python = VENV / "bin/python"
    if not (VENV / "installed.lock").exists():
        missing = "MLflow is not installed: scripts/install-mlflow"
        if os.environ.get("EXTPROC_REQUIRE_MLFLOW"):
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    return python


class Mlflow:
    """A server that may be killed and come back, with the same port and database."""

    def __init__(self, python: Path, directory: Path) -> None:
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self._directory = directory
        self._argv = [
            *(str(python), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"),
            *(
                "--backend-store-uri",
                f"sqlite:///{directory}/mlflow.db",
                "--artifacts-destination",
                str(directory / "artifacts"),
            ),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when it answers."""
        environ = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with (self._directory / "mlflow.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=environ
            )
        until(lambda: call(self.url, "/health").status == 200, within_s=120, what="MLflow is up")

    def kill(self) -> None:
        """As a crash would, with its workers."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _post(self, path: str, body: dict[str, Any], method: str = "POST") -> Answer:
        got = call(self.url, f"{API}/{path}", body, method=method)
        assert got.status == 200, got
        return got

    def model(self, name: str, *pools: str) -> None:
        """A registered model with a version for each of these pools, '' for a version without a tag."""
        self._post("registered-models/create", {"name": name})
        for number, pool in enumerate(pools, 1):
            self._post("model-versions/create", {"name": name, "source": f"s3://models/{name}/{number}"})
            if pool:
                self.tag(name, number, pool)

    def tag(self, name: str, version: int, pool: str) -> None:
        """Say which pool serves a version."""
        body = {"name": name, "version": str(version), "key": "extproc.pool", "value": pool}
        self._post("model-versions/set-tag", body)

    def alias(self, name: str, alias: str, version: int) -> None:
        """Let the alias mean this version."""
        self._post("registered-models/alias", {"name": name, "alias": alias, "version": str(version)})

    def delete(self, name: str, version: int) -> None:
        """A version goes, and its aliases with it."""
        self._post("model-versions/delete", {"name": name, "version": str(version)}, "DELETE")
