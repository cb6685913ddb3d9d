"""What producers find out of a request, as those who need it read it: the kinds, as rows say in `provides`, and their values.

Columns are aligned with the whole pool: `candidates.of(column)` is the part that belongs to some of it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from extproc.candidates import Column
from extproc.prefix.prompt import Prompt as OnePrompt

PROMPT: Final = "prompt"
PREFIX_MATCH: Final = "prefix match"
CLUSTER_MATCH: Final = "multicluster prefix match"
"""As `prefix match`, of clusters."""
ENCODED: Final = "encoder match"
IN_FLIGHT: Final = "in-flight load"
LATENCY: Final = "latency prediction"
SESSION: Final = "session id"
"""A text, '' when the request is of no session."""
AGENT: Final = "agent identity"
"""A text, '' when no agent says who it is."""
PEER: Final = "peer"
"""In `Cycle.facts` under this name: the `Endpoint` that another stage of a request that is split was given to, for who wants to
be near it. The handler writes it between two profiles; it is not there in the first one."""


TOPOLOGY: Final = "topology"


class Prompt:
    """Of the kind `prompt`: what is sent to the model."""

    __slots__ = ("multimodal", "prompts", "salt", "scale", "tokens")

    def __init__(
        self, tokens: int, multimodal: bool, prompts: tuple[OnePrompt, ...] = (), salt: str = "", scale: float = 1.0
    ) -> None:
        self.tokens: Final = tokens
        """How long it is; exact where a tokenizer said so, else estimated. 0 when nothing could be read."""
        self.multimodal: Final = multimodal
        """There are images, audio or video in it."""
        self.prompts: Final = prompts
        """As bytes, each of a batch for itself."""
        self.salt: Final = salt
        """The tenant's: what has another salt is not shared."""
        self.scale: Final = scale
        """How many tokens stand behind each that its bytes were counted as, by what was learned of the model."""


class PrefixMatch:
    """Of the kind `prefix match`: how much of the prompt each endpoint has in its cache."""

    __slots__ = ("block_tokens", "chains", "matched", "total")

    def __init__(self, matched: Column, total: int, block_tokens: float, chains: tuple[bytes, ...] = ()) -> None:
        self.matched: Final = matched
        """Blocks from the front, 0..`total`; never NaN."""
        self.total: Final = total
        """Blocks in all, the last one that is not full among them; 0 when nothing could be read."""
        self.block_tokens: Final = block_tokens
        """Tokens in a block, as many as the prompt's are counted: what is known of the model's tokens counts here, too."""
        self.chains: Final = chains
        """The blocks' hashes, of each prompt of a batch (`prefix.hashing.chain`)."""


class Encoded(NamedTuple):
    """Of the kind `encoder match`: which endpoint has encoded how many of the prompt's images, audio and video."""

    matched: Column
    """So many, 0..len(`items`)."""
    items: tuple[int, ...]
    """Hashes of them, each once."""


class InFlight(NamedTuple):
    """Of the kind `in-flight load`: what we sent to each endpoint that is not done, and what this request would add."""

    requests: Column
    tokens: Column
    """Prompt tokens that have to be computed, and output where that is estimated. Live, as `Candidates.in_flight` is."""
    uncached: Column
    """Tokens of this request's prompt that the endpoint does not have in its cache."""


class Latency(NamedTuple):
    """Of the kind `latency prediction`: for this request, by endpoint, in milliseconds; NaN where nothing is predicted."""

    ttft_ms: Column
    tpot_ms: Column
    ttft_headroom_ms: Column
    """What the request asks for less what is predicted; below 0 it would be missed. Without such a wish, the prediction below
    zero, so that the least is the best; where only the other one is wished for, 0."""
    tpot_headroom_ms: Column
    known: bool
    """Something is predicted of any endpoint."""
