"""Picker configs that rows are measured with."""

from __future__ import annotations

import json
from typing import Any, Final

LOAD_ONLY: Final[dict[str, Any]] = {
    "plugins": [{"type": "queue-scorer"}, {"type": "kv-cache-utilization-scorer"}],
    "schedulingProfiles": [
        {
            "name": "default",
            "plugins": [
                {"pluginRef": "queue-scorer", "weight": 2},
                {"pluginRef": "kv-cache-utilization-scorer", "weight": 2},
            ],
        }
    ],
}
"""What needs no prompt: the default without its prefix-cache-scorer, as older revisions have it too."""
LOAD_ONLY_TEXT: Final = json.dumps(LOAD_ONLY)
