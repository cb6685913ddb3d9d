"""A decision's line: pieces put together by hand are the JSON of its fields."""

from __future__ import annotations

import math

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.audit.row import FIELDS, ids_of, line_of
from tests.audit.rows import Row
from tests.fakes.fuzz import examples

_TEXTS = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(["chat", "draw", "10.0.0.1:8000", 'a"b\\', "é\n"])
_IDS = st.text(st.characters(max_codepoint=255), max_size=12) | st.sampled_from(["r-1", "", 'a"b\\'])
_NUMBERS = (
    st.none() | st.floats(0, 1e6) | st.sampled_from([0.99995, 0.00005, 9.95, -0.5, -1e-9, 1e15, math.inf, math.nan, 1e308])
)


@st.composite
def rows(draw: st.DrawFn) -> Row:
    row = Row(draw(st.integers(0, 2**53)), draw(_IDS), draw(st.integers(-1, 3)))
    row.endpoint, row.entity, row.why, row.rule, row.region, row.spill = [draw(_TEXTS) for _ in range(6)]
    row.model, row.target, row.pool, row.server, row.error = [draw(_TEXTS) for _ in range(5)]
    row.arms = tuple(draw(st.lists(_TEXTS, max_size=2)))
    row.bucket, row.version, row.status = (
        draw(st.integers(-1, 9999)),
        draw(st.integers(0, 99)),
        draw(st.sampled_from([0, 200, 503])),
    )
    row.score, row.second, row.ttft_s, row.tpot_s = [draw(_NUMBERS) for _ in range(4)]
    for name in ("score", "second"):
        if getattr(row, name) is not None and math.isnan(getattr(row, name)):
            setattr(row, name, None)  # which says that there is none
    row.ms, row.spill_cost = draw(st.floats(0, 1e9) | st.sampled_from([-1.0, 1e15])), draw(st.sampled_from([0.0, 2.5]))
    row.complete = draw(st.booleans())
    row.in_tokens, row.out_tokens = [draw(st.none() | st.integers(0, 2**40)) for _ in range(2)]
    return row


def expected(row: Row) -> dict[str, object]:
    """Field by field, as the table of fields has it."""
    said: dict[str, object] = {"at_ms": row.at_ms, "id": row.request_id, "ms": row.ms}
    for name in ("endpoint", "entity", "why", "rule", "region", "spill", "model", "target", "pool", "server", "error"):
        if getattr(row, name):
            said[name] = getattr(row, name)
    optional: dict[str, object] = {
        "attempt": row.attempt if row.attempt > 0 else None,
        "bucket": row.bucket if row.bucket >= 0 else None,
        "arms": list(row.arms) or None,
        "version": row.version or None,
        "status": row.status or None,
        "spill_cost": row.spill_cost or None,
        "cut": None if row.complete else 1,
        "score": row.score,
        "second": row.second,
        "ttft_ms": None if row.ttft_s is None else row.ttft_s * 1000,
        "tpot_ms": None if row.tpot_s is None else row.tpot_s * 1000,
        "in_tokens": row.in_tokens,
        "out_tokens": row.out_tokens,
    }
    return said | {name: value for name, value in optional.items() if value is not None}


@examples(300)
@given(rows())
def test_a_line_is_the_json_of_its_fields(row: Row) -> None:
    line = row.line()
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    found, wanted = orjson.loads(line), expected(row)
    assert found.keys() == wanted.keys() <= {field.name for field in FIELDS}
    for name, value in wanted.items():
        if isinstance(value, float):
            places = {"ms": 1, "ttft_ms": 1, "tpot_ms": 2}.get(name, 4)
            if not math.isfinite(value):
                assert found[name] is None
            else:
                assert found[name] == pytest.approx(value, abs=0.5001 * 10**-places, rel=1e-12)
        else:
            assert found[name] == value, name


@pytest.mark.parametrize(
    ("score", "said"),
    [
        (0.0, "0.0000"),
        (4.71234, "4.7123"),
        (0.99995, "1.0000"),
        (0.5, "0.5000"),
        (7.00096, "7.0010"),
        (998.99996, "999.0000"),
        (12345.6789, "12345.6789"),
        (-0.25, "-0.25"),
        (math.inf, "null"),
    ],
)
@pytest.mark.parametrize("bucket", [7, -1])
def test_points_have_four_places(score: float, said: str, bucket: int) -> None:
    """However the line is put together."""
    line = line_of(1, "r-1", "", "", 0.0, 0, bucket, score, score)
    assert f',"score":{said},"second":{said}}}\n' in line


def test_a_row_that_says_next_to_nothing() -> None:
    assert Row(1, "", ms=12.34).line() == b'{"at_ms":1,"id":"","ms":12.3}\n'


@given(ids=st.lists(st.binary(max_size=12) | st.sampled_from([b'a"b', b"a\\nb", b"\n", b'"', b"\\", b"\xff", b""]), max_size=5))
def test_ids_are_what_headers_say(ids: list[bytes]) -> None:
    """One by one or many at once, whatever stands in them."""
    assert [orjson.loads(f'"{text}"') for text in ids_of(ids)] == [each.decode("latin-1") for each in ids]
