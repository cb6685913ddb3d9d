"""Two answers to one request: how they differ, and whether they are the same."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from extproc.shadow.answer import NOTHING_SAID, Said
from extproc.shadow.numeric import Gap, gap_of
from extproc.shadow.similarity import similarity

ANSWERED: Final = "answered"
LEFT: Final = "left"
"""Of a live request: it ended before its answer did, as its client left."""
GOES_ON: Final = "goes on"
"""Of a live request: it had not ended long after its shadow's answer had."""


class Side(NamedTuple):
    """One of the two."""

    entity: str
    endpoint: str
    """Of the pool, `ip:port`; '' when nobody was asked."""
    outcome: str = ANSWERED
    """`answered`, or why there is no whole answer, in a word or two."""
    status: int = 0
    latency_s: float | None = None
    """From the request to the end of its answer."""
    ttft_s: float | None = None
    """To the first piece of its body."""
    size_bytes: int = 0
    seen: bool = True
    """Its body came by here."""
    said: Said = NOTHING_SAID

    @property
    def is_whole(self) -> bool:
        return self.outcome == ANSWERED

    def shape(self) -> dict[str, Any]:
        """For people; None is unknown."""
        prompt, completion, _ = self.said.usage
        return {
            "entity": self.entity,
            "endpoint": self.endpoint,
            "outcome": self.outcome,
            "status": self.status or None,
            "latency_s": self.latency_s,
            "ttft_s": self.ttft_s,
            "body_bytes": self.size_bytes if self.seen else None,
            "text_length": None if self.said.text is None else len(self.said.text),
            "finish_reason": self.said.finish_reason,
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "numbers": len(self.said.numbers[0]) or None,
            "unread": self.said.unread or (None if self.seen else "body not sent"),
        }


class Comparison(NamedTuple):
    """How the shadow's answer differs from the live one."""

    same: bool | None
    """None: nobody can tell, as the live answer was not seen, or not whole."""
    differs: tuple[str, ...] = ()
    """In what, of `outcome`, `status`, `finish reason`, `text`, `numbers`."""
    similarity: float | None = None
    """Of the texts, 0 to 1; None when there are not two, or nobody can tell."""
    gap: Gap | None = None
    """Between the numbers; None when there are none."""


def compared(live: Side, shadow: Side, *, min_similarity: float | None = None, max_difference: float = 0.0) -> Comparison:
    """The comparison. Nothing is said against a shadow whose live request did not end as it should."""
    if not live.is_whole:
        return Comparison(None)
    if not shadow.is_whole:
        return Comparison(False, ("outcome",))
    if live.status != shadow.status:
        return Comparison(False, ("status",))
    if not live.seen:
        return Comparison(None)
    differs = []
    one, other = live.said, shadow.said
    if one.finish_reason != other.finish_reason and None not in (one.finish_reason, other.finish_reason):
        differs.append("finish reason")
    alike, gap = _texts(one, other), _numbers(one, other)
    if alike is not None and min_similarity is not None and alike < min_similarity:
        differs.append("text")
    if gap is not None and (gap.other_shape or gap.largest > max_difference):
        differs.append("numbers")
    unread = bool(one.unread or other.unread)
    return Comparison(None if unread and not differs else not differs, tuple(differs), alike, gap)


def _texts(one: Said, other: Said) -> float | None:
    if one.unread or other.unread or (one.text is None and other.text is None):
        return None
    return similarity(one.text or "", other.text or "")


def _numbers(one: Said, other: Said) -> Gap | None:
    if one.unread or other.unread or not (one.numbers[0] or other.numbers[0]):
        return None
    return gap_of(one.numbers, other.numbers)
