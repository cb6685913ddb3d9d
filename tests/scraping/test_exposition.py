from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from extproc.scraping.exposition import MOST_SAMPLES, Sample, Scanner, read_labels
from tests.costs import costs_less

VLLM_PAGE = (Path(__file__).parent / "data" / "vllm-0.32-metrics.txt").read_bytes()
WAITING = b"vllm:num_requests_waiting"


def samples(page: bytes, family: bytes = b"m") -> list[Sample]:
    return Scanner([family]).scan(page)[family]


def values(page: bytes, family: bytes = b"m") -> list[float]:
    return [sample.value for sample in samples(page, family)]


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        pytest.param(b"m 1\n", [1.0], id="start of the page"),
        pytest.param(b"m 1", [1.0], id="no newline at the end"),
        pytest.param(b"m 1\r\nm 2\r\n", [1.0, 2.0], id="CRLF"),
        pytest.param(b"m 1\r", [1.0], id="CR at the end"),
        pytest.param(b"# HELP m m 5\n# TYPE m gauge\nm 1\n", [1.0], id="comments"),
        pytest.param(b"#m 5\n# m 5\n", [], id="only comments"),
        pytest.param(b"m_total 5\nm_ 6\nxm 7\nm:x 8\n", [], id="other names"),
        pytest.param(b"m\n", [], id="name alone"),
        pytest.param(b"m", [], id="name alone at the end"),
        pytest.param(b'm{a="1"} 1\nother 2\nm{a="2"} 3\n', [1.0, 3.0], id="not in one group"),
        pytest.param(b"m\t1\n", [1.0], id="tab"),
        pytest.param(b" \tm  1  \n  m 2\n", [1.0, 2.0], id="indented"),
        pytest.param(b'm {a="1"} 1\n', [1.0], id="blank before the labels"),
        pytest.param(b'm{a="1"}1\n', [1.0], id="no blank after the labels"),
        pytest.param(b"m{} 1\n", [1.0], id="no labels in the braces"),
        pytest.param(b"m 1 1700000000000\nm 2 -5\n", [1.0, 2.0], id="timestamps"),
        pytest.param(b"m 1 1700000000.123\nm 2 1.7e9\n", [1.0, 2.0], id="OpenMetrics timestamps"),
        pytest.param(b'm 1 # {trace_id="a b"} 0.5 17\n# EOF\n', [1.0], id="exemplar"),
        pytest.param(b"m 1 17 # {} 0.5\n# EOF", [1.0], id="timestamp and exemplar"),
        pytest.param(b"m 1e3\nm 1.5E-2\nm +2\nm -0.5\n", [1000.0, 0.015, 2.0, -0.5], id="numbers"),
        pytest.param(b"m +Inf\nm -Inf\nm inf\n", [math.inf, -math.inf, math.inf], id="infinity"),
        pytest.param(b"\n\n\nm 1\n\n", [1.0], id="blank lines"),
        pytest.param(b"", [], id="nothing"),
    ],
)
def test_values(page: bytes, expected: list[float]) -> None:
    assert values(page) == expected


@pytest.mark.parametrize(
    "line",
    [
        b"m NaN",
        b"m nan",
        b"m one",
        b"m 1_000",
        b"m 0x10",
        b"m 1,5",
        b"m 1 2 3",
        b"m 1 today",
        b"m {",
        b'm{a="1} 1',
        b'm{a="1"',
        b'm{a="1"} ',
        b"m{{}} 1",
        b"m " + b"1" * 65,
        b"m \xff",
    ],
)
def test_a_line_that_cannot_be_read_is_a_sample_that_is_no_number(line: bytes) -> None:
    """Leaving it out would make a sum over several engines too small."""
    found = values(line + b"\nm 2\n")

    assert [math.isnan(value) for value in found] == [True, False]


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (b'a="1"', {"a": "1"}),
        (b'a="1",b="2"', {"a": "1", "b": "2"}),
        (b'a="1",', {"a": "1"}),
        (b' a = "1" , b = "2" ', {"a": "1", "b": "2"}),
        (b'a=""', {"a": ""}),
        (rb'a="say \"hi\", {x} \\"', {"a": r'say "hi", {x} ' + "\\"}),
        (rb'a="two\nlines"', {"a": "two\nlines"}),
        (rb'a="C:\\new"', {"a": r"C:\new"}),
        (rb'a="\x"', {"a": r"\x"}),
        ('a="Größe 深"'.encode(), {"a": "Größe 深"}),
        (b'a="\xff"', {"a": "\ufffd"}),
        (b"a", {}),
        (b"a=1", {}),
        (b'="1"', {}),
        (b'a="1"b="2"', {}),
        (b'a="1",,b="2"', {}),
        (b'a="1', {}),
    ],
)
def test_labels(block: bytes, expected: dict[str, str]) -> None:
    assert read_labels(block) == expected
    assert Sample(0.0, block).labels == expected


def test_labels_of_a_sample_with_everything_in_their_values() -> None:
    line = rb'm{model_name="a}, b\"{c",engine="0"} 7 1700000000000'

    (found,) = samples(line)

    assert found.value == 7.0
    assert found.labels == {"model_name": 'a}, b"{c', "engine": "0"}


def test_long_label_blocks_are_read_and_not_kept() -> None:
    block = b'a="' + b"x" * 10_000 + b'"'

    assert Sample(0.0, block).labels == {"a": "x" * 10_000}


def test_labels_cannot_be_changed_by_who_reads_them() -> None:
    labels = Sample(0.0, b'a="1"').labels

    with pytest.raises(TypeError):
        labels["a"] = "2"  # type: ignore[index]


def test_a_name_that_begins_another() -> None:
    assert samples(VLLM_PAGE, WAITING) == [Sample(0.0, b'engine="0",model_name="tiny"')]
    assert [sample.labels["reason"] for sample in samples(VLLM_PAGE, WAITING + b"_by_reason")] == [
        "capacity",
        "deferred",
    ]


def test_several_families_in_one_scan() -> None:
    scanner = Scanner([b"a", b"ab", b"abc"])

    found = scanner.scan(b"ab 2\nabc 3\na 1\nabcd 4\n")

    assert {name: [sample.value for sample in found[name]] for name in found} == {b"a": [1], b"ab": [2], b"abc": [3]}
    assert repr(scanner) == "<Scanner abc, ab, a>"


def test_names_are_not_patterns() -> None:
    assert Scanner([b"a.c"]).scan(b"abc 1\na.c 2\n") == {b"a.c": [Sample(2.0)]}


def test_a_page_with_too_many_samples_is_not_read() -> None:
    page = b"\nm 1" * MOST_SAMPLES

    assert len(values(page)) == MOST_SAMPLES
    assert [math.isnan(value) for value in values(page + b"\nm 1")] == [True]


@pytest.mark.parametrize(
    "page",
    [
        b"\nm" * 400_000,
        b"\nm " * 400_000,
        b"\nm{" * 400_000,
        b'\nm{a="' + b'\\"' * 500_000,
        b"\nm{" + b'""' * 500_000,
        b"\nm " + b" " * 1_000_000,
        b"\n" + b" \t" * 500_000,
        b"\nm 1 " + b"1" * 1_000_000,
        b" m" * 500_000,
    ],
    ids=range(9),
)
def test_no_page_costs_more_than_linear_time(page: bytes) -> None:
    assert costs_less(lambda: samples(page), 5.0)


# -- the parser of prometheus_client is the oracle ---------------------------------------------------------------------

FAMILIES = ("m", "m_by_reason", "vllm:m", "n")
NAMES = st.sampled_from([*FAMILIES, "m_total", "xm", "other"])
LABEL_NAMES = st.sampled_from(["engine", "model_name", "reason", "a"])
LABEL_VALUES = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=12), st.text('"\\{},=# \tmn\n1', max_size=12), st.just("m 1")
)
NUMBERS = st.one_of(
    st.floats().map(repr),
    st.integers(-(10**6), 10**6).map(str),
    st.sampled_from(["NaN", "+Inf", "-Inf", "1e5", "1E-3", "+4", ".5", "5."]),
)
BLANKS = st.sampled_from([" ", "  ", "\t "])


def escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


@st.composite
def sample_lines(draw: st.DrawFn) -> str:
    labels = draw(st.dictionaries(LABEL_NAMES, LABEL_VALUES, max_size=4))
    block = ",".join(f'{name}="{escaped(value)}"' for name, value in labels.items())
    comma, empty = draw(st.sampled_from(["", ","])), draw(st.sampled_from(["", "{}"]))
    braces = f"{{{block}{comma}}}" if labels else empty
    blank = draw(BLANKS)
    timestamp = draw(st.one_of(st.just(""), st.integers(0, 2**41).map(lambda number: f" {number}")))
    return f"{draw(NAMES)}{braces}{blank}{draw(NUMBERS)}{timestamp}"


OTHER_LINES = st.one_of(
    st.just(""),
    st.builds("# HELP {} {}".format, NAMES, st.text("m 1{}=\\", max_size=8).map(lambda text: text.replace("\\", r"\\"))),
    st.builds("# TYPE {} gauge".format, NAMES),
    NAMES.map(lambda name: f"# {name} 5"),
)


@st.composite
def pages(draw: st.DrawFn) -> str:
    lines = draw(st.lists(st.one_of(sample_lines(), OTHER_LINES), max_size=12))
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    return newline.join(lines) + draw(st.sampled_from(["", newline]))


def comparable(found: Iterable[tuple[dict[str, str], float]]) -> list[tuple[dict[str, str], str]]:
    return [(labels, repr(float(value))) for labels, value in found]  # repr: NaN is equal to itself


@given(pages())
@settings(max_examples=200, deadline=None)
def test_finds_what_the_parser_finds(page: str) -> None:
    parsed = [sample for metric in text_string_to_metric_families(page) for sample in metric.samples]
    scanned = Scanner(name.encode() for name in FAMILIES).scan(page.encode())

    for family in FAMILIES:
        expected = comparable((sample.labels, sample.value) for sample in parsed if sample.name == family)
        found = comparable((dict(sample.labels), sample.value) for sample in scanned[family.encode()])
        assert found == expected


def test_finds_what_the_parser_finds_on_a_real_page() -> None:
    parsed = [sample for metric in text_string_to_metric_families(VLLM_PAGE.decode()) for sample in metric.samples]
    names = {sample.name.encode() for sample in parsed if not sample.name.endswith("_total")}
    scanned = Scanner(names).scan(VLLM_PAGE)

    assert len(names) > 100
    for name in names:
        expected = comparable((sample.labels, sample.value) for sample in parsed if sample.name == name.decode())
        assert comparable((dict(sample.labels), sample.value) for sample in scanned[name]) == expected


@given(st.one_of(st.binary(max_size=200), st.text('m{}"\\=, \t\n\r#1.eN', max_size=60).map(str.encode)))
@settings(max_examples=500, deadline=None)
def test_never_raises(page: bytes) -> None:
    for sample in samples(page):
        assert isinstance(sample.value, float)
        assert all(isinstance(text, str) for pair in sample.labels.items() for text in pair)
