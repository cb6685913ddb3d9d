"""The page in a real browser: collected by `make test-browser`, or when a file is named, as chromium takes its time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.parts import Person, browser, person
from tests.e2e.behind import Behind, behind
from tests.e2e.conftest import endpoints, envoy_binary, session_endpoints
from tests.e2e.parts import Endpoints

__all__ = ["endpoints", "envoy_binary", "session_endpoints"]

if not os.environ.get("EXTPROC_REQUIRE_BROWSER"):
    collect_ignore_glob = ["test_*.py"]


# Of a module and no longer: while playwright runs, no test of this process can have an event loop of its own.
@pytest.fixture(scope="module")
def opened() -> Iterator[Browser]:
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def standing(
    opened: Browser, envoy_binary: Path, session_endpoints: Endpoints, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Behind]:
    """After the browser: where there is none, nothing is started."""
    folder = tmp_path_factory.mktemp("page")
    # In slots of two seconds, so that there is something to draw.
    flags = ("--database-url", f"sqlite:///{folder}/state.db", "--audit-dir", f"{folder}/audit", "--measures-window", "4m")
    with behind(envoy_binary, session_endpoints, folder, *flags) as made:
        yield made


@pytest.fixture
def at(standing: Behind) -> Iterator[Behind]:
    """Without endpoints."""
    yield standing
    standing.forget()


@pytest.fixture
def alice(opened: Browser, at: Behind) -> Iterator[Person]:
    with person(opened, at.url) as made:
        yield made
