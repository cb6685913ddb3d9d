"""What runs for as long as a service does: discovery, scraping, watchers, elections, and whatever is to come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence


class Component:
    """One part of a service. Every method does nothing unless a component has something to do there.

        start ▸ (the servers listen) ▸ run … missing() is None for all ▸ ready ▸ unready()? … leave ▸ run is cancelled ▸ close

    The service calls `start` in the order of its list and `close` in the reverse; the rest runs side by side.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        """For people and for tasks."""
        self.changed: Callable[[], None] = lambda: None
        """Says that `unready` may have changed. The service sets it once it is ready."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self.missing() or self.unready() or 'ready'}>"

    async def start(self) -> None:
        """Get what is needed before anybody may connect. Raises SettingsError when it can't be had."""

    def missing(self) -> str | None:
        """What the service does not know yet and has to know before it may be used; None when nothing. Once every component
        has said None, it is not asked again."""
        return None

    def unready(self) -> str | None:
        """Why a service that was ready must not be used now, None when it may be."""
        return None

    async def run(self, ready: asyncio.Event) -> None:
        """Work until cancelled, or until there is nothing more to do. `ready` is set when nothing is missing any more."""

    async def leave(self) -> None:
        """The service drains: give up what others may take over."""

    async def reload(self) -> Sequence[str]:
        """Look now at files that nobody watches; their paths."""
        return ()

    async def close(self) -> None:
        """Let go of what `start` got, also when it failed."""
