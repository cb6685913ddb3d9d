"""What is made once for all open pages: the same for whoever asks within a beat."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final

BEAT_S: Final = 10.0
"""How often a plot is drawn anew."""
_MOST: Final = 32

Plot = dict[str, Any]
"""`title`, `unit` (of `plots.UNITS`), `at` in Unix seconds, and `series`, each with `label`, `place` (its colour) and `values`
(null is unknown), perhaps `dashed`, or `line`: a threshold. `bands`: pairs of series with what is between them filled. `y`:
from, to. With `kind` "heat" there are `rows` instead, each with `label` and `values`, how many `columns` there are in all,
`every` so many seconds, and perhaps `top`, the most that there can be.
"""


class Kept:
    """Plots in JSON, made once in a beat, however many pages ask."""

    def __init__(self, clock: Callable[[], float], most: int = _MOST) -> None:
        """`clock` is monotonic, in seconds."""
        self._clock = clock
        self._most = most
        self._made: OrderedDict[str, tuple[int, list[Plot]]] = OrderedDict()

    def of(self, key: str, make: Callable[[], list[Plot]]) -> list[Plot]:
        """Those of the key, made when there are none of this beat."""
        beat = self.beat
        found = self._made.get(key)
        if found is None or found[0] != beat:
            found = self._made[key] = (beat, make())
            self._made.move_to_end(key)
            while len(self._made) > self._most:
                self._made.popitem(last=False)
        return found[1]

    @property
    def beat(self) -> int:
        """The number of this moment."""
        return int(self._clock() / BEAT_S)
