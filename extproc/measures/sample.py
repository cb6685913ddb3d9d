"""What is known of one request when it is over."""

from __future__ import annotations

from typing import Final

UNANSWERED: Final = "unanswered"
TOO_MANY: Final = "429"
TIMEOUT: Final = "timeout"
SERVER: Final = "5xx"
CUT: Final = "cut"
REJECTED: Final = "4xx"
"""No error of who serves, as a rule: the request was wrong. Counted by itself."""

UNKNOWN: Final = -1
"""Of a number of tokens, or a time in seconds, that nobody said."""
_NAN: Final = float("nan")


def error_kind(status: int, cut: bool) -> str:
    """What went wrong: `unanswered` (there was no answer: the model server or the client broke off before it), `429`, `timeout`
    (504), `5xx`, `cut` (an answer of 2xx that began and did not end), `4xx` (any other), '' when nothing did.
    """
    if status == 0:
        return UNANSWERED
    if status < 400:
        return CUT if cut else ""
    if status == 429:
        return TOO_MANY
    if status < 500:
        return REJECTED
    return TIMEOUT if status == 504 else SERVER


class Sample:
    """One request. Times in seconds from when it was whole here; below 0 where they are not known."""

    __slots__ = (
        "cached_tokens",
        "cost",
        "e2e_s",
        "error",
        "finish_reason",
        "headers_s",
        "hit_fraction",
        "input_tokens",
        "output_tokens",
        "queue_at_pick",
        "tpot_s",
        "ttft_s",
    )

    def __init__(self) -> None:
        self.error = ""
        """As `error_kind` says."""
        self.headers_s = -1.0
        """To the answer's headers, which many servers send before the first token is there."""
        self.ttft_s = -1.0
        """To the first bytes of the body of an answer that streams."""
        self.tpot_s = -1.0
        """From token to token, of an answer that streams."""
        self.e2e_s = -1.0
        """To the end of the answer."""
        self.input_tokens = UNKNOWN
        self.output_tokens = UNKNOWN
        self.cached_tokens = UNKNOWN
        self.finish_reason = ""
        """'' when the answer does not say."""
        self.cost = -1.0
        """Below 0 when nobody set a price, or nobody said how many tokens there were."""
        self.queue_at_pick = _NAN
        """Requests that waited at the endpoint when it was picked; NaN where that is unknown, as with providers."""
        self.hit_fraction = _NAN
        """How much of the prompt was in its prefix cache, 0 to 1, as the picker knew it."""
