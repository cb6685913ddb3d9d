"""No log lines: a broken peer makes some, and a fuzzer is nothing but broken peers."""

from __future__ import annotations

import logging

import structlog


def quiet() -> None:
    """For a process that does nothing but fuzz."""
    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
