"""The words of each engine, and reading a page in them: `Extractor.read(page)` gives the `Load` and what it lacks.

Several engines behind one port (data parallel ranks) give several series of a metric. The endpoint is then all of them:
what waits and runs is added up, and so are blocks. Of the use of KV caches the largest counts, for a request that lands on
a full rank waits however empty the others are; the mean is kept beside it, to be shown. Of LoRA series the newest counts,
which is the one of the largest value, as the value is the time. An engine that publishes the same scheduler
more than once (SGLang's tensor parallel ranks, with metrics of all schedulers) needs a spec that takes one of them:
`{tp_rank=0}`.

A signal is unknown (None) when any of its series is: half a sum would look like less load than there is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Final, NamedTuple, TypeAlias

from extproc.domain import Endpoint, Load
from extproc.scraping.exposition import Sample, Scanner
from extproc.scraping.finder import Finder
from extproc.settings.base import SettingsError
from extproc.settings.engines import CoreMetricsSettings, EngineConfig, MetricSpec

NOTHING: Final = Load()

_MOST: Final = 1e9
"""No engine has more requests or blocks than this; a larger number is a mistake."""
_ROUNDING: Final = 1e-6
"""A share this little over 1 is 1."""
_NUMBER: Final = re.compile(r"[0-9]{1,10}")


class Why(StrEnum):
    """Why a signal is not known."""

    ABSENT = "absent"
    UNREADABLE = "unreadable"
    """NaN, or not a number at all."""
    OUT_OF_RANGE = "out_of_range"
    """Negative, infinite, absurdly large, or a share over 1."""
    DIFFERENT = "different"
    """Engines behind one endpoint disagree on what must be the same."""


class Missing(NamedTuple):
    """A signal the engine should give and this page does not. `signal` is a field of `Load`, or an attribute's name."""

    signal: str
    why: Why


_Problems: TypeAlias = list[Missing]


def _engine(name: str, **specs: str) -> EngineConfig:
    return EngineConfig.model_validate({"name": name, **specs})


BUILT_IN: Final[tuple[EngineConfig, ...]] = (
    _engine(
        "vllm",
        queuedRequestsSpec="vllm:num_requests_waiting",
        runningRequestsSpec="vllm:num_requests_running",
        kvUsageSpec="vllm:kv_cache_usage_perc",
        loraSpec="vllm:lora_requests_info",
        cacheInfoSpec="vllm:cache_config_info",
    ),
    _engine(
        "sglang",
        queuedRequestsSpec="sglang:num_queue_reqs",
        runningRequestsSpec="sglang:num_running_reqs",
        kvUsageSpec="sglang:token_usage",
        cacheInfoSpec="sglang:cache_config_info",
        cacheBlockSizeLabelName="page_size",
        cacheNumBlocksLabelName="num_pages",
    ),
    _engine(
        "trtllm-serve",
        queuedRequestsSpec="trtllm_num_requests_waiting",
        runningRequestsSpec="trtllm_num_requests_running",
        kvUsageSpec="trtllm_kv_cache_utilization",
        cacheBlockSizeSpec="trtllm_kv_cache_tokens_per_block",
        cacheNumBlocksSpec="trtllm_kv_cache_max_blocks",
    ),
    _engine(
        "triton-tensorrt-llm",
        queuedRequestsSpec="nv_trt_llm_request_metrics{request_type=waiting}",
        runningRequestsSpec="nv_trt_llm_request_metrics{request_type=scheduled}",
        kvUsageSpec="nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=fraction}",
        cacheBlockSizeSpec="nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=tokens_per}",
        cacheNumBlocksSpec="nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=max}",
    ),
    _engine(
        "triton",
        queuedRequestsSpec="nv_inference_pending_request_count",
        runningRequestsSpec="nv_inference_exec_count",
    ),
)
"""The engines known by name, in upstream's words. Triton's are those of models that are no language models."""


OLDER_NAMES: Final[Mapping[str, str]] = {"vllm:kv_cache_usage_perc": "vllm:gpu_cache_usage_perc"}
"""What metrics were called before: read where the page has none of the newer name (older vLLM)."""
STARTED: Final = MetricSpec("process_start_time_seconds")
"""On the page of everybody who uses one of Prometheus' client libraries, unless in the multiprocess mode of Python's."""


class Engines:
    """The engines by name. Raises SettingsError when `defaultEngine` is none of them."""

    def __init__(self, settings: CoreMetricsSettings, *, path: str = "", wanted: Collection[str] = ()) -> None:
        """`wanted` are the attributes that anybody reads; no others are looked for."""
        self._settings = settings
        configs = {config.name: config for config in (*BUILT_IN, *settings.engine_configs)}
        if settings.default_engine not in configs:
            known = ", ".join(configs)
            raise SettingsError([f"{path}defaultEngine: expected one of {known} (got {settings.default_engine!r})"])
        self._extractors = {name: Extractor(config, wanted) for name, config in configs.items()}
        self.attributes = frozenset(custom.attribute_key for config in configs.values() for custom in config.custom_metrics)
        """Those that any engine's pages have."""
        self._default = self._extractors[settings.default_engine]

    def of(self, labels: Mapping[str, str]) -> Extractor:
        """The extractor for an endpoint with these labels; the default engine's when they name none that is known."""
        return self._extractors.get(self._settings.engine_label(labels), self._default)

    def reader(self, endpoint: Endpoint, last: object = None) -> PageReader:
        """As a scraper's Readers."""
        extractor = self.of(endpoint.labels)
        return last if isinstance(last, PageReader) and last.extractor is extractor else PageReader(extractor)


_Page: TypeAlias = Mapping[bytes, list[Sample]]
_Loras: TypeAlias = tuple[tuple[str, ...] | None, tuple[str, ...] | None, int | None]


class _Signal:
    """A metric spec, ready to be looked up in a scanned page, and the field of `Load` it is for."""

    __slots__ = ("_labels", "family", "field", "older")

    def __init__(self, field: str, spec: MetricSpec) -> None:
        self.field = field
        self.family = spec.name.encode("ascii")
        older = OLDER_NAMES.get(spec.name)
        self.older = None if older is None else _Signal(field, MetricSpec(older, spec.labels))
        self._labels = spec.labels

    def samples(self, page: _Page) -> list[Sample]:
        samples = page[self.family]
        if not samples and self.older is not None:
            return self.older.samples(page)
        return [sample for sample in samples if self._means(sample.labels)] if self._labels else samples

    def _means(self, labels: Mapping[str, str]) -> bool:
        return all(labels.get(name) == value for name, value in self._labels)


class PageReader:
    """Reads the pages of one endpoint: a page that says what the last one said gives the very same load, and costs little."""

    __slots__ = ("_finder", "_last", "extractor")

    def __init__(self, extractor: Extractor) -> None:
        self.extractor = extractor
        self._finder = Finder(extractor.scanner)
        self._last: tuple[Load, tuple[Missing, ...]] = (NOTHING, ())

    @property
    def wants(self) -> str:
        """What it looks for."""
        return f"metric of engine {self.extractor.engine}"

    def read(self, page: bytes) -> tuple[Load, tuple[Missing, ...]]:
        """As Extractor.read."""
        families = self._finder.find(page)
        if families is not None:
            last = self.extractor.load_of(families)
            if last != self._last:
                self._last = last
        return self._last


class Extractor:
    """Reads the pages of one engine. Keeps nothing between pages."""

    __slots__ = ("_block_size_label", "_blocks_label", "_custom", "_signals", "_started", "engine", "scanner")

    def __init__(self, config: EngineConfig, wanted: Collection[str] = ()) -> None:
        """`wanted` as for Engines."""
        self.engine = config.name
        specs = {
            "waiting": config.queued_requests_spec,
            "running": config.running_requests_spec,
            "kv_usage": config.kv_usage_spec,
            "running_loras": config.lora_spec,
            "cache_info": config.cache_info_spec,
            "kv_block_size": config.cache_block_size_spec,
            "kv_blocks": config.cache_num_blocks_spec,
        }
        self._signals = {field: _Signal(field, spec) for field, spec in specs.items() if spec is not None}
        self._started = _Signal("started_s", STARTED)
        self._block_size_label = config.cache_block_size_label_name
        self._blocks_label = config.cache_num_blocks_label_name
        self._custom = [
            (_Signal(each.attribute_key, each.metric_spec), each.optional)
            for each in config.custom_metrics
            if each.attribute_key in wanted
        ]
        signals = [*self._signals.values(), *(signal for signal, _ in self._custom)]
        older = [signal.older.family for signal in signals if signal.older is not None]
        self.scanner = Scanner([*(signal.family for signal in signals), *older, self._started.family])

    def __repr__(self) -> str:
        return f"<Extractor {self.engine}>"

    def read(self, page: bytes) -> tuple[Load, tuple[Missing, ...]]:
        """The load, and the signals it lacks; the load equals `NOTHING` when this is no page of the engine."""
        return self.load_of(self.scanner.scan(page))

    def load_of(self, found: _Page) -> tuple[Load, tuple[Missing, ...]]:
        """As `read`, of the samples of each family."""
        problems: _Problems = []
        waiting = self._numbers(found, "waiting", _MOST, problems)
        running = self._numbers(found, "running", _MOST, problems)
        shares = self._numbers(found, "kv_usage", 1.0 + _ROUNDING, problems)
        sizes = self._whole_numbers(found, "kv_block_size", self._block_size_label, problems)
        blocks = self._whole_numbers(found, "kv_blocks", self._blocks_label, problems)
        if any(size != sizes[0] for size in sizes):
            problems.append(Missing("kv_block_size", Why.DIFFERENT))
            sizes = []
        running_loras, waiting_loras, max_loras = self._loras(found, problems)
        load = Load(
            waiting=sum(waiting) if waiting else None,
            running=sum(running) if running else None,
            kv_usage=min(max(shares), 1.0) if shares else None,
            kv_block_size=sizes[0] if sizes else None,
            kv_blocks=sum(blocks) if blocks else None,
            running_loras=running_loras,
            waiting_loras=waiting_loras,
            max_loras=max_loras,
            kv_usage_mean=min(sum(shares) / len(shares), 1.0) if shares else None,
            attributes=self._attributes(found, problems) if self._custom else None,
        )
        if load != NOTHING:
            load = load._replace(started_s=self._newest_start(found))
        return load, tuple(problems)

    def _newest_start(self, page: _Page) -> float | None:
        """Absent is no problem, and neither is nonsense."""
        starts = [sample.value for sample in self._started.samples(page)]
        return max(starts) if starts and all(0.0 < start < float("inf") for start in starts) else None

    def _attributes(self, page: _Page, problems: _Problems) -> Mapping[str, float] | None:
        """Of several series the first: what they mean together nobody says."""
        read: dict[str, float] = {}
        for signal, optional in self._custom:
            samples = signal.samples(page)
            if samples and math.isfinite(samples[0].value):
                read[signal.field] = samples[0].value
            elif samples or not optional:
                problems.append(Missing(signal.field, Why.UNREADABLE if samples else Why.ABSENT))
        return read or None

    def _numbers(self, page: _Page, field: str, most: float, problems: _Problems) -> list[float]:
        """The values of all series, or none at all when one of them can't be: then a problem says why."""
        signal = self._signals.get(field)
        if signal is None:
            return []
        values = [sample.value for sample in signal.samples(page)]
        if not values:
            problems.append(Missing(field, Why.ABSENT))
        for value in values:
            if not 0.0 <= value <= most:
                problems.append(Missing(field, Why.UNREADABLE if value != value else Why.OUT_OF_RANGE))
                return []
        return values

    def _whole_numbers(self, page: _Page, field: str, label: str, problems: _Problems) -> list[int]:
        """The same for numbers of 1 and up: values of a metric of their own, or of `label` of the cache info metric."""
        if field in self._signals:
            values = self._numbers(page, field, _MOST, problems)
            if any(value < 1 or value != int(value) for value in values):
                problems.append(Missing(field, Why.OUT_OF_RANGE))
                return []
            return [int(value) for value in values]
        info = self._signals.get("cache_info")
        if info is None:
            return []
        texts = [sample.labels.get(label) for sample in info.samples(page)]
        numbers = [number for text in texts if (number := _number(text))]
        if len(numbers) < len(texts) or not texts:
            absent = all(text is None for text in texts)
            problems.append(Missing(field, Why.ABSENT if absent else Why.UNREADABLE))
            return []
        return numbers

    def _loras(self, page: _Page, problems: _Problems) -> _Loras:
        """Absent is no problem: without LoRA there is no such metric, with LoRA there is from the first request on."""
        signal = self._signals.get("running_loras")
        samples = signal.samples(page) if signal else []
        if not samples:
            return None, None, None
        newest = max(samples, key=lambda sample: sample.value if sample.value == sample.value else -1.0)
        labels = newest.labels if newest.value == newest.value else {}
        running = _names(labels.get("running_lora_adapters"))
        waiting = _names(labels.get("waiting_lora_adapters"))
        most = _number(labels.get("max_lora"))
        if running is None or waiting is None:
            problems.append(Missing("running_loras", Why.UNREADABLE))
        if most is None and "max_lora" in labels:
            problems.append(Missing("max_loras", Why.UNREADABLE))
        return running, waiting, most


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and _NUMBER.fullmatch(text) else None


def _names(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    return tuple(name for part in text.split(",") if (name := part.strip()))
