"""Settings of `extproc sim`, a simulated vLLM server, and the grammar of the faults that it can be asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from extproc.settings.base import Duration, Port, Settings, Size, parse_duration_s, setting

FaultTarget = Literal["requests", "metrics", "health"]
FAULT_TARGETS: tuple[FaultTarget, ...] = ("requests", "metrics", "health")
FAULT_FORMS = "slow=DURATION, a status from 400 to 599, hang, drop, drop-after=N, and for metrics garbage or huge"

_STATUS = re.compile(r"[45]\d\d")


FaultKind = Literal["slow", "status", "hang", "drop", "drop-after", "garbage", "huge"]
_METRICS_ONLY: tuple[FaultKind, ...] = ("garbage", "huge")
_PLAIN_FAULTS: dict[str, FaultKind] = {"hang": "hang", "drop": "drop", "garbage": "garbage", "huge": "huge"}


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that goes wrong on purpose. `kind` decides which of the other fields count."""

    kind: FaultKind
    delay_s: float = 0.0
    status: int = 0
    after: int = 0
    text: str = ""

    def __str__(self) -> str:
        return self.text


def parse_fault(text: str, target: FaultTarget = "requests") -> Fault:
    """The fault that `text` asks for (`slow=2s`, `503`, `drop-after=5`). Raises ValueError with the forms there are."""
    kind, _, value = text.strip().partition("=")
    if kind == "slow" and value:
        return Fault("slow", delay_s=parse_duration_s(value), text=text)
    if kind == "drop-after" and value.isascii() and value.isdigit():
        return Fault("drop-after", after=int(value), text=text)
    if _STATUS.fullmatch(text.strip()):
        return Fault("status", status=int(text), text=text)
    plain = _PLAIN_FAULTS.get(text.strip())
    if plain is not None and (target == "metrics" or plain not in _METRICS_ONLY):
        return Fault(plain, text=text)
    raise ValueError(f"no such fault for {target}: {text!r}; there are {FAULT_FORMS}")


def parse_targeted_fault(value: object) -> tuple[FaultTarget, Fault]:
    """`[requests:|metrics:|health:]FAULT` as the flag takes it; without a target it is for requests."""
    if isinstance(value, tuple):
        return value
    text = str(value)
    for target in FAULT_TARGETS:
        if text.startswith(f"{target}:"):
            return target, parse_fault(text.removeprefix(f"{target}:"), target)
    return "requests", parse_fault(text)


def _sim(name: str, default: Any, doc: str, *, default_text: str | None = None) -> Any:
    """A setting whose variable is EXTPROC_SIM_..., so that a router in the same environment keeps its own port."""
    env = "EXTPROC_SIM_" + name.upper().replace("-", "_")
    return setting(default, doc, flag=name, env=env, default_text=default_text)


Positive = Annotated[int, Field(ge=1)]
Names = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field()]
TargetedFault = Annotated[Any, BeforeValidator(parse_targeted_fault)]


class SimSettings(Settings):
    """A simulated vLLM server: the OpenAI API with streaming, /metrics and a prefix cache, without a model.

    Times come from an engine model: a step lasts --decode-step, plus --decode-step-per-sequence for each sequence in
    the batch, plus the uncached prompt tokens of the step over --prefill-tokens-per-second.
    """

    host: str = _sim("host", "127.0.0.1", "Address to listen on.")
    port: Port = _sim("port", 8000, "Port to listen on; 0 takes a free one.")
    count: Positive = _sim("count", 1, "Servers to start, on consecutive ports; a --name gets -1, -2, ... added.")
    name: str | None = _sim("name", None, "What x-sim-endpoint says on every answer.", default_text="the address, as HOST:PORT")

    model: Names = _sim("model", ("sim",), "Names the model is served under; the first is the one in answers.")
    lora: Names = _sim("lora", (), "Adapters that can be asked for as models.")
    max_loras: Positive = _sim("max-loras", 4, "Adapters that can run in one batch.")
    max_model_len: Annotated[int | None, Field(ge=1)] = _sim(
        "max-model-len", None, "Tokens of prompt and answer together.", default_text="32768, or what the KV cache holds"
    )

    max_num_seqs: Positive = _sim("max-num-seqs", 256, "Sequences that run at once; more are waiting.")
    max_num_batched_tokens: Positive = _sim(
        "max-num-batched-tokens", 2048, "Tokens computed in one step; longer prompts take several."
    )
    num_gpu_blocks: Positive = _sim("num-gpu-blocks", 8192, "Blocks of the KV cache.")
    block_size: Positive = _sim("block-size", 16, "Tokens in a block.")
    prefix_caching: bool = _sim("prefix-caching", True, "Whether blocks of earlier prompts are found again.")

    prefill_tokens_per_second: Annotated[float, Field(gt=0)] = _sim(
        "prefill-tokens-per-second", 8000.0, "Prompt tokens computed in a second."
    )
    decode_step: Duration = _sim("decode-step", 0.008, "Time of any step, however small.", default_text="8ms")
    decode_step_per_sequence: Duration = _sim(
        "decode-step-per-sequence", 0.0002, "Time that each sequence adds to a step.", default_text="200us"
    )

    time_to_first_token: Duration = _sim(
        "time-to-first-token",
        0.0,
        "Least time from joining the batch to the first token; given, prompts cost nothing else.",
        default_text="what the steps take",
    )

    mode: Literal["random", "echo"] = _sim(
        "mode", "random", "What is answered: words by chance, or what the prompt or the last message said."
    )
    output_tokens: Positive = _sim("output-tokens", 128, "Tokens of an answer that nothing cuts short, on average.")
    output_spread: Annotated[float, Field(ge=0, le=1)] = _sim(
        "output-spread", 0.5, "How far such answers differ: 0.5 is from half to one and a half times the average."
    )
    embedding_dimensions: Annotated[int, Field(ge=1, le=16_384)] = _sim(
        "embedding-dimensions", 384, "Numbers in the vectors of /v1/embeddings, when the client does not say."
    )
    seed: int = _sim("seed", 0, "Decides what is answered and how long it is, together with the prompt.")

    fault: tuple[TargetedFault, ...] = _sim(
        "fault", (), f"What goes wrong on every call, as [requests:|metrics:|health:]FAULT. Faults: {FAULT_FORMS}."
    )
    max_body: Size = _sim("max-body", 64 * 2**20, "Largest request body; more is answered 413.", default_text="64Mi")

    @property
    def kv_tokens(self) -> int:
        """Tokens that the KV cache holds."""
        return self.num_gpu_blocks * self.block_size

    @property
    def context_tokens(self) -> int:
        """`max_model_len`, or its default for this KV cache."""
        return min(32768, self.kv_tokens) if self.max_model_len is None else self.max_model_len

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        problems = []
        if self.context_tokens > self.kv_tokens:
            problems.append(
                f"--max-model-len {self.context_tokens} does not fit in the KV cache: "
                f"--num-gpu-blocks {self.num_gpu_blocks} x --block-size {self.block_size} = {self.kv_tokens} tokens"
            )
        if self.port and self.port + self.count - 1 > 65535:
            problems.append(f"--port {self.port} and --count {self.count}: the last port would be above 65535")
        if not self.model:
            problems.append("--model: at least one name is needed")
        names = (*self.model, *self.lora)
        twice = sorted({name for name in names if names.count(name) > 1})
        problems += [f"--model and --lora: {name!r} is named twice" for name in twice]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def servers(self) -> list[SimSettings]:
        """The settings of each of the `count` servers."""
        if self.count == 1:
            return [self]
        return [
            self.model_copy(
                update={
                    "count": 1,
                    "port": self.port and self.port + number,
                    "name": self.name and f"{self.name}-{number + 1}",
                }
            )
            for number in range(self.count)
        ]
