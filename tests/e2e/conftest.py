from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from extproc.demo.envoy import find_envoy
from extproc.settings.base import SettingsError
from tests.e2e.parts import Endpoints, Stack, until
from tests.storage.server import PostgresServer, a_server


@pytest.fixture(scope="session")
def envoy_binary() -> Path:
    try:
        return find_envoy()
    except SettingsError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    yield from a_server()


@pytest.fixture(scope="session")
def session_endpoints(envoy_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoints]:
    endpoints = Endpoints(tmp_path_factory.mktemp("endpoints"))
    try:
        endpoints.start()
        yield endpoints
    finally:
        endpoints.stop()


@pytest.fixture(scope="session", params=["one-hop", "serving-endpoints", pytest.param("two-stage", marks=pytest.mark.long)])
def session_stack(
    request: pytest.FixtureRequest,
    envoy_binary: Path,
    session_endpoints: Endpoints,
    transport: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Stack]:
    stack = Stack(request.param, envoy_binary, session_endpoints, tmp_path_factory.mktemp(request.param), transport)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


@pytest.fixture
def endpoints(session_endpoints: Endpoints) -> Iterator[Endpoints]:
    """All six up and idle, before and after."""
    yield session_endpoints
    session_endpoints.revive(*(name for name, child in session_endpoints.children.items() if child.pid is None))
    for name in session_endpoints.children:
        session_endpoints.load(name)


@pytest.fixture
def stack(session_stack: Stack, endpoints: Endpoints) -> Iterator[Stack]:
    """Everything of it up, and nothing under way before; and nothing left under way by the test."""
    if session_stack.envoy.pid is None:
        session_stack.start_envoy()
    for name, child in session_stack.servers.items():
        if child.pid is None:
            child.start()
        session_stack.wait_server(name)
    yield session_stack
    if all(child.pid for child in session_stack.servers.values()):
        until(session_stack.idle, what="nothing is under way after the test")
