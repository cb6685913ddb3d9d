"""Answers in the shapes of vLLM 0.32: whole documents, stream chunks, the model list. Nulls and order included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import orjson

from extproc.simulator.answers import Answer
from extproc.simulator.api import ServedModel

VERSION = "0.32.0"
DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens in, out, and found in the prefix cache."""

    prompt: int
    completion: int
    cached: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """What all documents of one answer have in common."""

    chat: bool
    id: str
    created: int
    model: str

    @property
    def _fingerprint(self) -> str:
        return f"vllm-{VERSION}-{blake2b(self.model.encode(), digest_size=4).hexdigest()}"

    def document(self, choices: Sequence[tuple[str, Answer]], usage: Usage) -> bytes:
        """The whole answer; a choice is its text and how it came to its end."""
        end = {"kv_transfer_params": None, "ec_transfer_params": None, "metrics": None}
        prompt = {"prompt_logprobs": None, "prompt_token_ids": None}
        shown: list[dict[str, object]] = []
        for index, (text, answer) in enumerate(choices):
            reasons = {"logprobs": None, "finish_reason": answer.finish_reason, "stop_reason": answer.stop_reason}
            if self.chat:
                extras = dict.fromkeys(("refusal", "annotations", "audio", "function_call", "reasoning"))
                message = {"role": "assistant", "content": text, **extras}
                shown.append({"index": index, "message": message, **reasons, "token_ids": None, "routed_experts": None})
            else:
                shown.append({"index": index, "text": text, **reasons, "token_ids": None, **prompt, "routed_experts": None})
        return orjson.dumps(
            {
                "id": self.id,
                "object": "chat.completion" if self.chat else "text_completion",
                "created": self.created,
                "model": self.model,
                "choices": shown,
                "service_tier": None,
                "system_fingerprint": self._fingerprint,
                "usage": self._usage(usage, multimodal=True) | {"completion_tokens_details": None},
                **(prompt | {"prompt_text": None} if self.chat else {}),
                **end,
            }
        )

    def role_chunk(self, index: int, usage: Usage | None) -> bytes:
        """The first chunk of a chat's choice."""
        choice = {
            "index": index,
            "delta": {"role": "assistant", "content": ""},
            "logprobs": None,
            "finish_reason": None,
        }
        return self._event([choice], usage, {"prompt_token_ids": None, "prompt_text": None})

    def token_chunk(self, index: int, text: str, end: Answer | None, usage: Usage | None, *, last: bool) -> bytes:
        """What one token adds; with the last one `end` tells how the choice ended. `last`: no usage chunk follows."""
        reasons: dict[str, object] = {"logprobs": None, "finish_reason": None if end is None else end.finish_reason}
        choice: dict[str, object]
        if self.chat:
            choice = {"index": index, "delta": {"content": text}, **reasons}
            if end is not None:
                choice["stop_reason"] = end.stop_reason
        else:
            stop_reason = None if end is None else end.stop_reason
            choice = {"index": index, "text": text, **reasons, "stop_reason": stop_reason, "prompt_token_ids": None}
        choice["token_ids"] = None
        return self._event([choice], usage, {"system_fingerprint": self._fingerprint} if end is not None and last else {})

    def usage_chunk(self, usage: Usage) -> bytes:
        """The chunk after all choices when usage was asked for."""
        shown: dict[str, object] = {
            "usage": self._usage(usage, multimodal=False),
            "system_fingerprint": self._fingerprint,
        }
        return self._event([], None, shown)

    def _event(self, choices: Sequence[Mapping[str, object]], usage: Usage | None, rest: dict[str, object]) -> bytes:
        document: dict[str, object] = {
            "id": self.id,
            "object": "chat.completion.chunk" if self.chat else "text_completion",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }
        if usage is not None:
            document["usage"] = _counts(usage) | ({"completion_tokens_details": None} if self.chat else {})
        return b"data: " + orjson.dumps(document | rest) + b"\n\n"

    def _usage(self, usage: Usage, *, multimodal: bool) -> dict[str, object]:
        details: dict[str, object] = {"cached_tokens": usage.cached}
        if self.chat or multimodal:
            details["created_cache_tokens"] = 0 if self.chat else None
        if multimodal:
            details["multimodal_tokens"] = None
        return _counts(usage) | {"prompt_tokens_details": details}


def _counts(usage: Usage) -> dict[str, object]:
    return {
        "prompt_tokens": usage.prompt,
        "total_tokens": usage.prompt + usage.completion,
        "completion_tokens": usage.completion,
    }


def model_list(served: ServedModel, created: int) -> bytes:
    """GET /v1/models: base names first, then adapters, which have no length of their own but a parent."""
    cards = []
    for name in (*served.names, *served.loras):
        base = name in served.names
        permission = {
            "id": f"modelperm-{blake2b(name.encode(), digest_size=8).hexdigest()}",
            "object": "model_permission",
            "created": created,
            "allow_create_engine": False,
            "allow_sampling": True,
            "allow_logprobs": True,
            "allow_search_indices": False,
            "allow_view": True,
            "allow_fine_tuning": False,
            "organization": "*",
            "group": None,
            "is_blocking": False,
        }
        cards.append(
            {
                "id": name,
                "object": "model",
                "created": created,
                "owned_by": "vllm",
                "root": served.names[0] if base else name,
                "parent": None if base else served.names[0],
                "max_model_len": served.max_model_len if base else None,
                "permission": [permission],
            }
        )
    return orjson.dumps({"object": "list", "data": cards})
