"""`--transport`: which transport carries the ExtProc streams in tests that have the fixture `transport`.

Without it, a test runs over both; one with a real Envoy runs over our own, and over both when it is marked `every_transport`.
"""

from __future__ import annotations

import os
from typing import Final

import pytest
from hypothesis import settings

from extproc.demo import ports

TRANSPORTS: Final = ("h2", "grpcio")


settings.register_profile("any machine", deadline=None)  # one that is busy is no counter-example
settings.load_profile("any machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--transport", choices=[*TRANSPORTS, "both"], help="run tests of servers over this transport only, or over both"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Workers side by side take ports of their own, and so do the processes that they start: a server that a test kills and
    starts anew gets its port back, and nobody else tries it in the moment before a server of ours has it."""
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        os.environ[ports.SHARE] = part = f"{worker['workerid'].removeprefix('gw')}/{worker['workercount']}"
        ports.PORTS = ports.share(ports.PORTS, part)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "transport" in metafunc.fixturenames:
        metafunc.parametrize("transport", transports_of(metafunc), indirect=True, scope="session")


def transports_of(metafunc: pytest.Metafunc) -> tuple[str, ...]:
    """What this test runs over."""
    asked: str | None = metafunc.config.getoption("--transport")
    if asked in TRANSPORTS:
        return (asked,)
    marks = {mark.name for mark in metafunc.definition.iter_markers()}
    if asked is None and "e2e" in marks and "every_transport" not in marks:
        return TRANSPORTS[:1]
    return TRANSPORTS


@pytest.fixture(scope="session")
def transport(request: pytest.FixtureRequest) -> str:
    """As `--transport` of our servers has it."""
    return str(request.param)
