"""What somebody says of an answer."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, model_validator

from extproc.settings.serving.fields import Flag, Form, Label


def _score(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError("expected a number from 0 to 1")
    return float(value)


Score = Annotated[float, BeforeValidator(_score)]


class Feedback(Form):
    """`POST .../feedback`: one of `good` and `score`."""

    request_id: Label
    good: Flag | None = None
    score: Score | None = None
    """0 to 1; from 0.5 on it was good."""

    @model_validator(mode="after")
    def _one(self) -> Feedback:
        if (self.good is None) == (self.score is None):
            raise ValueError("expected one of good and score")
        return self

    @property
    def said(self) -> float:
        """As a score."""
        return self.score if self.score is not None else float(bool(self.good))
