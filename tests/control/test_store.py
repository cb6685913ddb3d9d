from __future__ import annotations

from extproc.control.store import SchemaTooNew, StoreError, StoreUnavailable, Superseded


def test_who_was_overtaken_is_told_by_which_number() -> None:
    error = Superseded(7)
    assert error.current == 7
    assert str(error) == "the state has changed meanwhile, its number is 7 now"


def test_one_family_for_whoever_asks_a_store() -> None:
    assert {each.__mro__[1] for each in (StoreUnavailable, Superseded, SchemaTooNew)} == {StoreError}
