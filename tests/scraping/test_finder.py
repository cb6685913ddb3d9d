"""Pages read one after the other, against the search of each page by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.domain import Load
from extproc.scraping.engines import Engines, PageReader
from extproc.scraping.exposition import Scanner
from extproc.scraping.finder import EVERY, WINDOW_BYTES, Finder
from extproc.settings.engines import CoreMetricsSettings
from tests.fakes.fuzz import examples

PAGE = (Path(__file__).parent / "data" / "vllm-0.32-metrics.txt").read_bytes()
EXTRACTOR = Engines(CoreMetricsSettings()).of({})
WAITING, RUNNING = b"vllm:num_requests_waiting", b"vllm:num_requests_running"


def reader() -> PageReader:
    return PageReader(EXTRACTOR)


class Compared:
    """A reader whose loads are those of each page read by itself."""

    def __init__(self) -> None:
        self.reader = reader()

    def read(self, page: bytes) -> Load:
        load, missing = self.reader.read(page)
        assert (load, missing) == EXTRACTOR.read(page)
        return load


def test_an_unchanged_page_gives_the_very_same_load() -> None:
    one = reader()
    first, _ = one.read(PAGE)
    assert all(one.read(PAGE)[0] is first for _ in range(3 * EVERY))
    assert Finder(EXTRACTOR.scanner).find(PAGE) is not None


def test_what_is_unchanged_is_none_and_what_moved_is_found() -> None:
    finder = Finder(EXTRACTOR.scanner)
    assert finder.find(PAGE) is not None
    assert finder.find(PAGE) is None
    assert finder.find(b"# moved\n" + PAGE) is None
    assert finder.find(b"# " + b"x" * WINDOW_BYTES + b"\n" + PAGE) is not None


def busy(page: bytes, number: int) -> bytes:
    """The page with other values, as wide as they are."""
    return page.replace(b"} 0.0\n", b"} %d.5\n" % (10 ** (number % 7)))


def test_values_that_change() -> None:
    compared = Compared()
    seen = {compared.read(busy(PAGE, number)).waiting for number in range(3 * EVERY)}
    assert len(seen) == 7


def block(family: bytes, *values: int) -> bytes:
    lines = b"".join(b'%s{engine="%d"} %d\n' % (family, rank, value) for rank, value in enumerate(values))
    return b"# HELP %s x\n# TYPE %s gauge\n%s" % (family, family, lines)


FILL = b"# HELP other x\n# TYPE other gauge\n" + b'other{a="b"} 1\n' * 5


@pytest.mark.parametrize("after", [b"", FILL])
def test_ranks_that_come_and_go(after: bytes) -> None:
    compared = Compared()
    for ranks in ([1], [1, 2], [1, 2, 3], [3], [], [4], [4, 5]):
        compared.read(FILL + block(WAITING, *ranks) + FILL + block(RUNNING, *ranks) + after)


def test_a_family_that_comes_is_seen_at_once() -> None:
    compared = Compared()
    compared.read(FILL + block(WAITING, 1) + FILL)
    assert compared.read(FILL + block(WAITING, 1) + FILL + block(RUNNING, 2) + FILL).running == 2


def test_a_family_that_goes() -> None:
    compared = Compared()
    compared.read(FILL + block(WAITING, 1) + block(RUNNING, 2) + FILL)
    assert compared.read(FILL + block(WAITING, 1) + FILL).running is None


def test_a_block_that_moves_far() -> None:
    compared = Compared()
    compared.read(FILL + block(WAITING, 1) + FILL)
    compared.read(FILL + b"# " + b"x" * 3 * WINDOW_BYTES + b"\n" + block(WAITING, 2) + FILL)


def test_lines_of_a_family_that_are_apart_are_found_within_a_few_pages() -> None:
    one = reader()
    one.read(FILL + block(WAITING, 1) + FILL)
    apart = FILL + block(WAITING, 1) + FILL + WAITING + b'{engine="9"} 5\n' + FILL
    loads = [one.read(apart)[0].waiting for _ in range(EVERY + 1)]
    assert loads[-1] == 6.0


def test_a_name_that_another_begins_with() -> None:
    compared = Compared()
    for value in (1, 2, 3):
        other = WAITING + b"_by_reason"
        compared.read(FILL + block(other, 7) + block(WAITING, value) + block(other + b"x", 8) + FILL)


families = st.sampled_from([WAITING, RUNNING, b"vllm:kv_cache_usage_perc", b"vllm:num_requests", b"other"])
pages = st.lists(
    st.tuples(families, st.lists(st.integers(0, 12), max_size=3), st.booleans()), max_size=6, unique_by=lambda x: x[0]
)


def made(parts: list[tuple[bytes, list[int], bool]]) -> bytes:
    """A page as exporters write it: every family is one block, with its comments or without."""
    out = b""
    for family, values, comments in parts:
        text = block(family, *values)
        out += text if comments else text.split(b" gauge\n", 1)[1]
    return out


@examples(200)
@given(st.lists(pages, min_size=1, max_size=6))
def test_any_pages_one_after_the_other(script: list[list[tuple[bytes, list[int], bool]]]) -> None:
    scanner = Scanner([WAITING, RUNNING, b"vllm:kv_cache_usage_perc"])
    finder = Finder(scanner)
    last: object = None
    tail = b""
    for number, parts in enumerate(script):
        if number and {name for name, values, _ in parts if values} != {
            name for name, values, _ in script[number - 1] if values
        }:
            tail += b"#" * 9999 + b"\n"  # never does one family come while another of the same length goes
        page = made(parts) + tail
        found = finder.find(page)
        last = dict(found) if found is not None else last
        assert last == scanner.scan(page)
