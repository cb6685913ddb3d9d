"""Pages of metrics: nothing is raised, and each line is read by itself."""

from __future__ import annotations

import math
from typing import Final

from extproc.scraping.exposition import Sample, Scanner, read_labels
from tests.fuzz.source import Source
from tests.fuzz.target import Target

_MARKS: Final[set[str]] = set()
_FAMILIES: Final = (b"vllm:num_requests_running", b"vllm:num_requests", b"up")
_SCANNER: Final = Scanner(_FAMILIES)
_WORDS: Final = (
    *_FAMILIES,
    *(b"# HELP up x\n", b"# TYPE up gauge\n", b"# EOF\n", b"\n", b"\r\n", b" ", b"\t", b"{", b"}", b",", b'"', b"=", b"\\"),
    *(b'engine="0"', b'model_name="a\\"b\\\\c\\n"', b"1", b"2.5", b"NaN", b"+Inf", b"1e3", b"1_0", b"-", b" 1700000000000"),
    *(b' # {trace_id="x"} 1', b"_total", b"vllm:other 3\n", b"\xff", b"x" * 70, b"0" * 70),
)


def _page(source: Source) -> bytes:
    if source.chance(5):
        return source.rest()
    out: list[bytes] = []
    while source.left and len(out) < 300:
        number = source.below(len(_WORDS) + 3)
        out.append(_WORDS[number] if number < len(_WORDS) else source.piece(6))
    return b"".join(out)


def _same(a: Sample, b: Sample) -> bool:
    return a.label_block == b.label_block and (a.value == b.value or (math.isnan(a.value) and math.isnan(b.value)))


def run(data: bytes) -> None:
    source = Source(data)
    whole = _page(source)
    found = _SCANNER.scan(whole)
    apart: dict[bytes, list[Sample]] = {family: [] for family in _FAMILIES}
    for line in whole.split(b"\n"):
        for family, samples in _SCANNER.scan(line).items():
            apart[family] += samples
    for family in _FAMILIES:
        samples = found[family]
        assert len(samples) == len(apart[family])
        assert all(map(_same, samples, apart[family]))
        for sample in samples:
            assert sample.labels == read_labels(sample.label_block)
            assert sum(len(name) + len(value) for name, value in sample.labels.items()) <= 3 * len(sample.label_block)
        if samples:
            _MARKS.add(f"{family!r} {len(samples)} nan={math.isnan(samples[0].value)} labels={len(samples[0].labels)}")


TARGET: Final = Target(
    run,
    seeds=[
        bytes([0, 3, 4, 0, 10, 17, 12, 18, 11, 8, 19, 6, 1, 8, 20, 6, 5]),
        bytes([0, 2, 8, 21, 7, 2, 10, 17, 11, 22, 25, 26, 6, 2, 8, 23, 6]),
        bytes([4]) + b'up{engine="0",x="y"} 1\nvllm:num_requests_running 2 1700000000000\nup NaN # {a="b"} 1\n',
    ],
    marks=_MARKS,
    modules=["extproc.scraping.exposition"],
    tokens=_WORDS,
)
