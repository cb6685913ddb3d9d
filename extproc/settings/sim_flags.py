"""Command lines of upstream's simulator (llm-d-inference-sim), as what they come to here.

Its flags are taken beside ours, and its `--config` file. What has no meaning here is said in a warning; what would leave the
server another than was asked for (TLS, say) is a problem. Its defaults are not taken over: ours are a server's that is alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from extproc.files.problems import Unusable
from extproc.files.read import read_file
from extproc.settings.base import SettingsError, parse_duration_s, shown
from extproc.settings.document import load_document

Values = list[str]

NO_EFFECT: Final[Mapping[str, str]] = {
    **dict.fromkeys(("enable-kvcache", "hash-seed"), "the KV cache is always modelled, and its hashes need no seed"),
    **dict.fromkeys(
        (
            *("zmq-endpoint", "zmq-max-connect-attempts", "event-batch-size", "use-vllm-map-event-format"),
            *("kv-events-replay-endpoint", "kv-events-replay-queue-size"),
        ),
        "no KV events are published",
    ),
    **dict.fromkeys(
        (
            *("time-to-first-token-std-dev", "inter-token-latency-std-dev", "prefill-time-std-dev"),
            *("kv-cache-transfer-latency-std-dev", "kv-cache-transfer-time-std-dev"),
        ),
        "times don't scatter",
    ),
    **dict.fromkeys(("kv-cache-transfer-latency", "kv-cache-transfer-time-per-token"), "no cache comes from elsewhere"),
    **dict.fromkeys(("failure-injection-rate", "failure-types"), "nothing fails by chance; see --fault"),
    **dict.fromkeys(("fake-metrics", "fake-metrics-refresh-interval"), "metrics are true; POST /sim/load adds to them"),
    **dict.fromkeys(
        ("dataset-path", "dataset-url", "dataset-in-memory", "dataset-table-name"), "answers are not taken from a dataset"
    ),
    **dict.fromkeys(
        ("render-url", "render-timeout", "mm-render-timeout", "uds-socket-path", "force-dummy-tokenizer"),
        "four bytes are a token",
    ),
    **dict.fromkeys(
        (
            *("max-tool-call-integer-param", "min-tool-call-integer-param", "max-tool-call-number-param"),
            *("min-tool-call-number-param", "max-tool-call-array-param-length", "min-tool-call-array-param-length"),
            *("tool-call-not-required-param-probability", "object-tool-call-not-required-field-probability"),
            *("skip-tool-validation", "tool-call-extra-call-probability"),
        ),
        "no tool is called",
    ),
    **dict.fromkeys(("max-cpu-loras", "max-waiting-queue-length"), "is not bounded"),
    **dict.fromkeys(
        (
            *("tensor-parallel-size", "enforce-eager", "no-enforce-eager", "mm-processor-kwargs", "ec-transfer-config"),
            *("mm-encoder-only", "no-mm-encoder-only", "latency-calculator", "global-cache-hit-threshold", "strict"),
            *("enable-sleep-mode", "no-enable-sleep-mode", "enable-request-id-headers", "log-http", "startup-duration"),
            *("omni", "no-omni", "image-emission-rate", "time-to-generate-image", "time-to-generate-image-std-dev"),
            *("data-parallel-rank", "v", "vmodule", "logtostderr", "alsologtostderr", "stderrthreshold"),
        ),
        "has no counterpart",
    ),
}
REFUSED: Final = ("ssl-certfile", "ssl-keyfile", "self-signed-certs")
"""Who asks for HTTPS would talk to a server that has none."""

_SWITCHES: Final = frozenset(
    {
        *("enable-prefix-caching", "no-enable-prefix-caching", "enable-kvcache", "strict", "skip-tool-validation", "log-http"),
        *("enforce-eager", "no-enforce-eager", "mm-encoder-only", "no-mm-encoder-only", "enable-sleep-mode"),
        *("no-enable-sleep-mode", "enable-request-id-headers", "omni", "no-omni", "dataset-in-memory", "self-signed-certs"),
        *("force-dummy-tokenizer", "use-vllm-map-event-format", "logtostderr", "alsologtostderr"),
    }
)
_LISTS: Final = frozenset({"served-model-name", "lora-modules", "failure-types", "fake-metrics"})
"""Values are all that follows, up to the next flag."""
_NESTED: Final = ("latencies", "kvcache")


class Translated(NamedTuple):
    """Our own arguments, and what is to be said."""

    arguments: list[str]
    warnings: list[str]


def translate(arguments: Sequence[str], environ: Mapping[str, str]) -> Translated:
    """Raises SettingsError with every problem. Reads the file of `--config`."""
    found, rest = _take(list(arguments))
    config = found.pop("config", None)
    given = {**(_read_config(config[-1]) if config else {}), **found}
    model, rest = _without("--model", rest)
    if model is not None:
        given["model"] = [model]
    elif environ.get("SIM_MODEL"):
        given["model"] = [environ["SIM_MODEL"]]
    if given.get("served-model-name"):
        given.pop("model", None)  # the name of its files, which nobody asks for
    out: list[str] = []
    warnings: list[str] = []
    problems: list[str] = []
    for flag, values in given.items():
        if flag in NO_EFFECT:
            warnings.append(f"--{flag} has no effect: {NO_EFFECT[flag]}")
        elif flag in REFUSED:
            problems.append(f"--{flag}: this simulator speaks HTTP only")
        elif flag not in _INTO:
            out.append(f"--{flag}={','.join(values)}")  # ours, out of the file
        else:
            try:
                out += _INTO[flag](values)
            except ValueError as error:
                problems.append(f"--{flag}: {error}")
    factor = given.get("time-factor-under-load")
    if factor:
        most = _without("--max-num-seqs", rest)[0] or given.get("max-num-seqs", ["256"])[-1]
        out += _slower(given.get("inter-token-latency", ["0"])[-1], most, factor[-1], problems)
    if problems:
        raise SettingsError(problems)
    return Translated([*out, *rest], warnings)


def _take(arguments: list[str]) -> tuple[dict[str, Values], list[str]]:
    """Upstream's flags by name, and the other arguments."""
    known = {*_INTO, *NO_EFFECT, *REFUSED, "config"}
    found: dict[str, Values] = {}
    rest: list[str] = []
    while arguments:
        argument = arguments.pop(0)
        name, equals, value = argument[2:].partition("=")
        if not argument.startswith("--") or name not in known:
            rest.append(argument)
        elif equals:
            found[name] = [value]
        elif name in _SWITCHES:
            found[name] = ["true"]
        elif name in _LISTS:
            found[name] = []
            while arguments and not arguments[0].startswith("--"):
                found[name] += filter(None, [arguments.pop(0)])
        else:
            found[name] = [arguments.pop(0)] if arguments else [""]
    return found, rest


def _without(flag: str, arguments: Sequence[str]) -> tuple[str | None, list[str]]:
    """What a flag of ours says, None when it is not there, and the other arguments."""
    left = list(arguments)
    value: str | None = None
    rest: list[str] = []
    while left:
        argument = left.pop(0)
        if argument == flag and left:
            value = left.pop(0)
        elif argument.startswith(f"{flag}="):
            value = argument.removeprefix(f"{flag}=")
        else:
            rest.append(argument)
    return value, rest


def _read_config(path: str) -> dict[str, Values]:
    try:
        value = load_document(read_file(path)).value
    except Unusable as error:
        raise SettingsError([f"--config {path}: {problem}" for problem in error.problems]) from None
    if not isinstance(value, dict):
        raise SettingsError([f"--config {path}: expected a map of flags, got {shown(value)}"])
    flat: dict[str, Any] = {}
    for key, content in value.items():
        flat.update(content if key in _NESTED and isinstance(content, dict) else {key: content})
    return {str(key).replace("_", "-"): _texts(content) for key, content in flat.items() if content is not None}


def _texts(content: Any) -> Values:
    many = content if isinstance(content, list) else [content]
    return [one if isinstance(one, str) else orjson.dumps(one).decode() for one in many]


def _duration(text: str) -> float:
    """As upstream writes them: `100ms`, and a plain number is milliseconds."""
    return int(text) / 1000 if text.isascii() and text.isdigit() else parse_duration_s(text)


def _seconds(values: Values) -> str:
    return f"{_duration(values[-1]) * 1e6:.0f}us"


def _lora(text: str) -> str:
    """The name of an adapter: JSON with a `name`, or vLLM's `name=path`."""
    if not text.lstrip().startswith("{"):
        name, _, _ = text.partition("=")
        return name
    try:
        found = orjson.loads(text).get("name")
    except ValueError:
        found = None
    if not isinstance(found, str) or not found:
        raise ValueError(f'expected JSON with a name such as {{"name": "sql", "path": "/sql"}}, got {shown(text)}')
    return found


def _loras(values: Values) -> list[str]:
    return [f"--lora={','.join(map(_lora, values))}"]


def _first_token(values: Values) -> list[str]:
    return [f"--time-to-first-token={_seconds(values)}", "--prefill-tokens-per-second=1e12"]


def _per_token(values: Values) -> list[str]:
    each_s = _duration(values[-1])
    return [f"--prefill-tokens-per-second={1 / each_s if each_s else 1e12:.6g}"]


def _slower(latency: str, most: str, factor: str, problems: list[str]) -> list[str]:
    """A server with `most` sequences takes `factor` times as long for a token as an idle one."""
    try:
        each_s = _duration(latency) * (float(factor) - 1) / int(most)
        return [f"--decode-step-per-sequence={each_s * 1e9:.0f}ns"]
    except (ValueError, ZeroDivisionError) as error:
        problems.append(f"--time-factor-under-load: {error}")
        return []


def _switch(ours: str, negative: bool = False) -> Callable[[Values], list[str]]:
    def into(values: Values) -> list[str]:
        on = values[-1].lower() not in ("false", "0")
        return [f"--{ours}={str(on is not negative).lower()}"]

    return into


def _renamed(ours: str) -> Callable[[Values], list[str]]:
    return lambda values: [f"--{ours}={values[-1]}"]


_INTO: Final[Mapping[str, Callable[[Values], list[str]]]] = {
    "served-model-name": lambda values: [f"--model={','.join(values)}"],
    "lora-modules": _loras,
    "kv-cache-size": _renamed("num-gpu-blocks"),
    "data-parallel-size": _renamed("count"),
    "default-embedding-dimensions": _renamed("embedding-dimensions"),
    "max-request-body-size-mb": lambda values: [f"--max-body={values[-1]}Mi"],
    "enable-prefix-caching": _switch("prefix-caching"),
    "no-enable-prefix-caching": _switch("prefix-caching", negative=True),
    "time-to-first-token": _first_token,
    "prefill-overhead": lambda values: [f"--time-to-first-token={_seconds(values)}"],
    "prefill-time-per-token": _per_token,
    "inter-token-latency": lambda values: [f"--decode-step={_seconds(values)}", "--decode-step-per-sequence=0"],
    "time-factor-under-load": lambda values: [],
}
"""Upstream's flag, and ours that it comes to."""
