"""How long to look for counter-examples: `FUZZ=100 pytest tests/protocol` looks a hundred times as long as CI does."""

from __future__ import annotations

import os
from typing import Final

from hypothesis import settings

_TIMES: Final = int(os.environ.get("FUZZ", "1"))


def examples(number: int) -> settings:
    """Decorate a property with it. No deadline: a slow machine is no counter-example."""
    return settings(max_examples=number * _TIMES, deadline=None)
