"""What requests to a served entity cost."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BeforeValidator, model_validator

from extproc.settings.serving.fields import Closed, Label

_MOST: Final = 1e9


def _amount(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MOST:
        raise ValueError("expected a number from 0 to a billion, such as 0.25")
    return float(value)


Amount = Annotated[float, BeforeValidator(_amount)]


class Price(Closed):
    """`price` of a served entity; ours. Amounts are of one currency, which is only a word."""

    input_per_million: Amount | None = None
    """Of a million tokens of prompts, cached ones among them where the answer counts them so."""
    output_per_million: Amount | None = None
    per_request: Amount | None = None
    currency: Label = "USD"

    @model_validator(mode="after")
    def _something(self) -> Price:
        if self.input_per_million is None and self.output_per_million is None and self.per_request is None:
            raise ValueError("expected input_per_million, output_per_million or per_request")
        return self
