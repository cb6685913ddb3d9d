"""`token-producer`: the prompt, and about how many tokens it has.

    tokens = bytes / r      r: 4, until answers said how many tokens prompts for that model had; then
    r = Σ bytes / Σ tokens  over those prompts, of which 1,000 tokens at 4 bytes are taken to be known before

Token ids are counted, an image is 64 tokens. What is learned changes how many tokens a prompt is thought to have, and never
which bytes are a block: blocks of another size would match nothing that was sent before.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, cast

from extproc.candidates import Candidates
from extproc.domain import InferenceRequest
from extproc.prefix.prompt import BYTES_PER_TOKEN, prompts_of, salt_of
from extproc.scheduling.cycle import Cycle
from extproc.scheduling.facts import PROMPT, Prompt
from extproc.scheduling.plugins.base import PRODUCER, Kit, PluginType, Scheduled
from extproc.scheduling.plugins.parameters_prefix import TokenParameters

LEAST_RATIO: Final = 1.0
MOST_RATIO: Final = 16.0
"""Bytes a token. Of text no tokenizer has less than one byte, and what seems to have more was not what the engine read."""
LEAST_BYTES: Final = 256
"""Of a prompt that something is learned of: of shorter ones a template is too much."""
MOST_MODELS: Final = 1000
"""Of which a ratio is kept, those that were heard of last: clients may name any."""
_KNOWN_TOKENS: Final = 1000.0
_LONG_TOKENS: Final = 2_000_000.0
"""When there are so many, all that was learned counts half from then on: texts and templates change."""
_MOST_DUMPED: Final = 100
_CUT: Final = ("truncate_prompt_tokens", "truncation")
"""Requests with these may have more text than the engine reads."""


class Ratio:
    """Of one model."""

    __slots__ = ("prompts", "seen_bytes", "seen_tokens")

    def __init__(self) -> None:
        self.seen_bytes = _KNOWN_TOKENS * BYTES_PER_TOKEN
        self.seen_tokens = _KNOWN_TOKENS
        self.prompts = 0

    @property
    def value(self) -> float:
        """Bytes a token, between the least and the most."""
        return self.seen_bytes / self.seen_tokens

    def add(self, length_bytes: int, tokens: int) -> None:
        """A prompt of so many bytes had so many tokens. What can't be is left out."""
        if not LEAST_RATIO * tokens <= length_bytes <= MOST_RATIO * tokens:
            return
        self.prompts += 1
        self.seen_bytes += length_bytes
        self.seen_tokens += tokens
        if self.seen_tokens > _LONG_TOKENS:
            self.seen_bytes *= 0.5
            self.seen_tokens *= 0.5


class Asked:
    """A prompt that is under way."""

    __slots__ = ("length_bytes", "model")

    def __init__(self, model: str, length_bytes: int) -> None:
        self.model = model
        self.length_bytes = length_bytes


class TokenProducer:
    """`token-producer`."""

    def __init__(self, name: str, most_bytes: int = 4 * 2**20) -> None:
        """Of a prompt that is longer than `most_bytes` the beginning is kept."""
        self._name = name
        self._most_bytes = most_bytes
        self._ratios: OrderedDict[str, Ratio] = OrderedDict()
        """By model, those that were heard of last behind."""

    def produce(self, cycle: Cycle, candidates: Candidates) -> object:
        payload = cycle.asked.payload
        prompts = prompts_of(payload, most_bytes=self._most_bytes)
        if not prompts:
            return _NO_PROMPT
        tokens = sum([prompt.tokens for prompt in prompts])
        multimodal = any(prompt.multimodal for prompt in prompts)
        ratio = self._ratios.get(cycle.asked.model or "")
        if ratio is None or prompts[0].ids or multimodal:
            return Prompt(tokens, multimodal, tuple(prompts), salt_of(payload))
        scale = BYTES_PER_TOKEN / ratio.value
        return Prompt(max(1, round(tokens * scale)), multimodal, tuple(prompts), salt_of(payload), scale)

    def picked(self, cycle: Cycle, scheduled: Scheduled) -> None:
        prompt = cast(Prompt, cycle.facts[self._name])
        prompts = prompt.prompts
        if len(prompts) != 1 or prompts[0].media or prompts[0].ids or prompts[0].length_bytes < LEAST_BYTES:
            return
        asked = cycle.asked
        if asked.model and not _hides_tokens(asked):
            cycle.kept[self._name] = Asked(asked.model, prompts[0].length_bytes)

    def ended(self, cycle: Cycle, status: int, served: str) -> None:
        asked = cast("Asked | None", cycle.kept.pop(self._name, None))
        measured = cycle.measured
        if asked is None or measured is None or not measured.prompt_tokens or not 200 <= status < 300:
            return
        ratio = self._ratios.get(asked.model)
        if ratio is None:
            ratio = self._ratios[asked.model] = Ratio()
            if len(self._ratios) > MOST_MODELS:
                self._ratios.popitem(last=False)
        else:
            self._ratios.move_to_end(asked.model)
        ratio.add(asked.length_bytes, measured.prompt_tokens)

    def tells(self, cycle: Cycle) -> object:
        prompt = cycle.facts.get(self._name)
        if not isinstance(prompt, Prompt) or not prompt.prompts:
            return None
        return {"tokens": prompt.tokens, "bytes_per_token": round(BYTES_PER_TOKEN / prompt.scale, 3)}

    def dump(self) -> object:
        latest = list(self._ratios.items())[-_MOST_DUMPED:]
        return {
            "models": len(self._ratios),
            "bytes_per_token": {
                model[:_MOST_DUMPED]: {"value": round(ratio.value, 3), "prompts": ratio.prompts} for model, ratio in latest
            },
        }


_NO_PROMPT: Final = Prompt(0, False)


def _hides_tokens(request: InferenceRequest) -> bool:
    """What its answer says is not how long its prompt is: Anthropic's API leaves out what was cached, and a request that may be
    cut is not read whole."""
    if request.path.endswith("/messages"):
        return True
    payload = request.payload
    return payload is not None and any(payload.get(name) is not None for name in _CUT)


def _made(parameters: TokenParameters, kit: Kit) -> TokenProducer:
    return TokenProducer(kit.name)


def _note(parameters: TokenParameters) -> str:
    if parameters.vllm is None and parameters.uds_tokenizer_config is None:
        return ""
    return "tokens are estimated, by what answers say of earlier prompts: no service is asked to render prompts"


TYPES: Final = (
    PluginType(
        "token-producer",
        PRODUCER,
        "the prompt, and how long it is: text at four bytes a token until answers say how many tokens prompts for the model "
        "have (1 to 16 bytes), token ids exactly",
        TokenParameters,
        _made,
        provides=PROMPT,
        older=("tokenizer",),
        note=_note,
    ),
)
