"""A Kubernetes API for the tests of this folder, collected with EXTPROC_TEST_K8S=1 or when a file is named.

They need programs that Go builds in ten minutes (`scripts/install-kubernetes`), so the variable is set by `make test-k8s`
and by nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.k8s.cluster import Cluster, missing
from tests.k8s.servers import simulator

if os.environ.get("EXTPROC_TEST_K8S") != "1":
    collect_ignore_glob = ["test_*.py"]

_TEST_TIMEOUT_S = 180
"""The first test waits for the API server, and a start of it takes ten seconds when others compute, too."""


@pytest.fixture(scope="session")
def session_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if absent := missing():
        pytest.fail(f"not installed: {', '.join(absent)}; run scripts/install-kubernetes", pytrace=False)
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def cluster(session_cluster: Cluster) -> Cluster:
    """Up and ready, whatever the test before did to it."""
    if session_cluster.server.pid is None:
        session_cluster.start_server()
    return session_cluster


@pytest.fixture
def namespace(cluster: Cluster) -> str:
    """A new one for each test."""
    return cluster.namespace()


@pytest.fixture(scope="session")
def sim_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a simulated model server at every address 127.x.y.z, so that it can be every pod."""
    child, port = simulator(tmp_path_factory.mktemp("sim"))
    try:
        yield port
    finally:
        child.stop()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(_TEST_TIMEOUT_S))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the API server logged last."""
    report = yield
    cluster = getattr(item, "funcargs", {}).get("session_cluster")
    if report.failed and isinstance(cluster, Cluster):
        report.sections.append(("kube-apiserver", cluster.server.tail()))
    return report
