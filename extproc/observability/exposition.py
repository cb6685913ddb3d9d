"""/metrics, family by family, and large families in pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from prometheus_client import Metric
from prometheus_client.exposition import choose_encoder

_SAMPLES: Final = 100
"""That are made into text at once: half a millisecond."""
_END: Final = b"# EOF\n"
"""Of OpenMetrics."""


class _Only:
    """A registry of one metric, for the encoders of prometheus_client."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        yield self._metric


def choose(accept: str) -> tuple[Callable[[Any], bytes], str]:
    """How a scraper wants it: an encoder of registries, and the content type."""
    encode, content_type = choose_encoder(accept)
    return encode, content_type


def exposition(metrics: Iterable[Metric | None], encode: Callable[[Any], bytes], wanted: frozenset[str]) -> Iterator[bytes]:
    """The page, in pieces. `wanted` are names of samples, empty for all. Metrics of the same name, one behind the other, are
    told as one. For None there is an empty piece."""
    openmetrics = encode(_Nothing()) == _END
    named = ""
    for metric in metrics:
        if metric is None:
            yield b""
            continue
        samples = [sample for sample in metric.samples if sample.name in wanted] if wanted else metric.samples
        if wanted and not samples:
            continue
        for start in range(0, max(len(samples), 1), _SAMPLES):
            piece = Metric(metric.name, metric.documentation, metric.type, metric.unit)
            piece.samples = samples[start : start + _SAMPLES]
            text = encode(_Only(piece)).removesuffix(_END)
            yield _without_header(text) if named == metric.name else text
            named = metric.name
    if openmetrics:
        yield _END


class _Nothing:
    def collect(self) -> Iterator[Metric]:
        return iter(())


def _without_header(text: bytes) -> bytes:
    while text.startswith(b"#"):
        text = text.partition(b"\n")[2]
    return text
