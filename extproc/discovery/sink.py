"""Where discovered endpoints go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from extproc.domain import Endpoint


class EndpointSink(Protocol):
    """Called from the event loop, with all endpoints of the pool, no two with the same key; must not block."""

    def replace_endpoints(self, endpoints: Sequence[Endpoint]) -> None: ...
