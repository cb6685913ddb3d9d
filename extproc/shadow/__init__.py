"""Shadows: which requests are copied to another entity, within which bounds, and how the two answers differ.

    sampled ▸ Budget.take ▸ (a copy is sent, an answer read) ▸ compared(live, shadow) ▸ Sums.add, Pairs.add

Pure: bytes, times and draws come in, verdicts and sums come out. Who sends copies is `app/shadow`, who hears of live requests
`stages/shadow`.
"""

from extproc.shadow.answer import NOTHING_SAID, AnswerText, Said
from extproc.shadow.budget import Budget
from extproc.shadow.compare import Comparison, Side, compared
from extproc.shadow.live import LiveAnswer
from extproc.shadow.numeric import Gap, gap_of, numbers_in
from extproc.shadow.pairs import Bodies, Pair, Pairs
from extproc.shadow.sampling import sampled
from extproc.shadow.similarity import MISSING_EXTRA, has_similarity, similarity
from extproc.shadow.sums import Sums

__all__ = [
    "MISSING_EXTRA",
    "NOTHING_SAID",
    "AnswerText",
    "Bodies",
    "Budget",
    "Comparison",
    "Gap",
    "LiveAnswer",
    "Pair",
    "Pairs",
    "Said",
    "Side",
    "Sums",
    "compared",
    "gap_of",
    "has_similarity",
    "numbers_in",
    "sampled",
    "similarity",
]
