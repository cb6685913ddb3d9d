"""The chain: what was altered, taken out, put in or cut off shows."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from extproc.audit.changes import FIRST, ChangeRecord, Link, UnreadableChange, chained, read_change, verified
from tests.audit.records import change, links

WHOLE = links(change(number) for number in range(1, 6))


def test_a_record_comes_back_as_it_was() -> None:
    record = change(3, diff=(("a.b", None, {"x": [1, "ü"]}), ("c", "\U0001f600", None)), config_version=None)

    assert read_change(record.to_bytes()) == record


def test_a_whole_chain_has_no_faults() -> None:
    verdict = verified(WHOLE, state=5)

    assert verdict.faults == ()
    assert verdict.notes == ()
    assert (verdict.records, verdict.head) == (5, WHOLE[-1].hash)


def test_an_empty_chain_is_whole() -> None:
    assert verified([], state=0) == (0, FIRST, (), (), True)


def test_a_record_that_was_altered_shows() -> None:
    altered = [*WHOLE]
    altered[2] = altered[2]._replace(body=change(3, actor="mallory").to_bytes())

    (fault,) = verified(altered, state=5).faults

    assert fault.startswith("change 3: its hash")


def test_a_record_that_was_altered_with_its_hash_shows_at_the_next() -> None:
    body = change(3, actor="mallory").to_bytes()
    altered = [*WHOLE[:2], Link(3, body, chained(WHOLE[1].hash, body)), *WHOLE[3:]]

    (fault,) = verified(altered, state=5).faults

    assert fault.startswith("change 4: its hash")


def test_a_record_that_was_taken_out_shows() -> None:
    assert any(fault.startswith("change 4") for fault in verified([*WHOLE[:2], *WHOLE[3:]], state=5).faults)


def test_records_that_were_cut_off_the_end_show_by_the_number_of_the_state() -> None:
    (fault,) = verified(WHOLE[:4], state=5).faults

    assert fault == "the state's number is 5 and the last record's 4: records at the end are missing"


def test_a_chain_made_anew_shows_to_who_has_noted_a_hash() -> None:
    anew = links(change(number, actor="mallory") for number in range(1, 6))

    assert verified(anew, state=5).faults == ()
    assert verified(WHOLE, state=5, known=WHOLE[2].hash).faults == ()
    (fault,) = verified(anew, state=5, known=WHOLE[2].hash).faults
    assert "the hash that was noted is not in the chain" in fault


def test_changes_of_an_older_release_are_noted_and_no_fault() -> None:
    verdict = verified(links([change(4), change(6), change(9)]), state=9)

    assert verdict.faults == ()
    assert [note.partition(":")[0] for note in verdict.notes] == ["changes 1 to 3", "change 5", "changes 7 to 8"]


def test_of_several_lives_of_a_state_numbers_begin_again() -> None:
    assert verified(links([change(1), change(2), change(1)])).faults == ()


def test_a_record_under_another_number_shows() -> None:
    body = change(2).to_bytes()

    assert verified([Link(1, body, chained(FIRST, body))], state=1).faults == ("change 1: its record says 2",)


def test_of_many_faults_some_are_told() -> None:
    faults = verified([link._replace(hash=b"") for link in links(change(n) for n in range(1, 100))], state=99).faults

    assert len(faults) == 21
    assert faults[-1] == "... and 79 more"


def test_whose_a_bucket_was_and_is() -> None:
    record = change(moved=((0, 99, "a", "b"), (200, 200, "b", "a")))

    assert [record.owner_moved(bucket) for bucket in (0, 99, 100, 200, 201)] == [("a", "b"), ("a", "b"), None, ("b", "a"), None]


@given(st.integers(0, 4), st.data())
def test_whatever_byte_is_another_one_it_shows(at: int, data: st.DataObject) -> None:
    link = WHOLE[at]
    place = data.draw(st.integers(0, len(link.body) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda each: each != link.body[place]))
    body = link.body[:place] + bytes([byte]) + link.body[place + 1 :]

    assert verified([*WHOLE[:at], link._replace(body=body), *WHOLE[at + 1 :]], state=5).faults


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_a_record_or_refused(data: bytes) -> None:
    with contextlib.suppress(UnreadableChange):
        assert isinstance(read_change(data), ChangeRecord)


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[]",
        b'{"v":2}',
        change().to_bytes().replace(b'"ada"', b"5"),
        change().to_bytes().replace(b'"number":1', b'"number":[]'),
    ],
)
def test_what_is_no_record_is_refused(body: bytes) -> None:
    with pytest.raises(UnreadableChange):
        read_change(body)
