"""Collected by `make test-dashboards`, or when a file is named: it takes a minute of the machine."""

from __future__ import annotations

import os

from tests.e2e.conftest import endpoints, envoy_binary, session_endpoints

__all__ = ["endpoints", "envoy_binary", "session_endpoints"]

if not os.environ.get("EXTPROC_REQUIRE_PROMETHEUS"):
    collect_ignore_glob = ["test_*.py"]
