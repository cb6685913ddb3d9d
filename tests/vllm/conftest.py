"""Three vLLM servers for the tests of this folder, collected with EXTPROC_TEST_VLLM=1 or when a file is named.

They need 6 GB of disk (`scripts/install-vllm`), 6 GB of memory and a minute before the first test, so the variable is
set by `make test-vllm` and by nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from extproc.demo.stack import LLAMA, PHI4

from .servers import Server, Spec, serving

MODEL_A, MODEL_B = LLAMA.model, PHI4.model
"""What the tiny models call themselves: the names that `envoy/two-stage.yaml` has routes for."""

if os.environ.get("EXTPROC_TEST_VLLM") != "1":
    collect_ignore_glob = ["test_*.py"]

_TEST_TIMEOUT_S = 600
"""The first test waits for the servers, which the time limit of the fast tests does not allow."""


@dataclass(frozen=True)
class Fleet:
    """Two servers of one model, as a pool has them, and one of another."""

    a: Server
    a_twin: Server
    b: Server


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with serving(tmp_path_factory.mktemp("vllm-logs"), Spec(MODEL_A), Spec(MODEL_A), Spec(MODEL_B)) as servers:
        yield Fleet(*servers)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(_TEST_TIMEOUT_S))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure of ours and one of vLLM's look alike from the client's side: show what vLLM logged."""
    report = yield
    fleet = getattr(item, "funcargs", {}).get("fleet")
    if report.failed and isinstance(fleet, Fleet):
        for server in (fleet.a, fleet.a_twin, fleet.b):
            report.sections.append((f"vLLM {server.name} at {server.address}", server.log_tail(15)))
    return report
