"""What is wrong with something that a user wrote."""

from __future__ import annotations

from collections.abc import Sequence


class Unusable(Exception):
    """It can't be used. `problems` are all that is wrong, a line each, with the place, the value and what was expected."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)
