"""Turns at the event loop for what takes long."""

from __future__ import annotations

import time
from collections.abc import Iterator

from extproc.slices import Slices


async def test_share() -> None:
    """Behind what took long there is a pause."""
    now_s = 0.0
    slices = Slices(slice_s=1.0, share=0.5, clock=lambda: now_s)
    async with slices.turn():
        now_s += 0.02
    began_s = time.perf_counter()
    async with slices.turn():
        pass
    assert time.perf_counter() - began_s >= 0.019


async def test_a_slice_is_as_much_as_goes_into_its_time() -> None:
    now_s = 0.0
    slices = Slices(slice_s=1.0, share=1.0, clock=lambda: now_s)

    def pieces() -> Iterator[bytes]:
        nonlocal now_s
        for number in range(5):
            now_s += 0.4
            yield b"%d" % number

    made = pieces()
    assert [await slices.next(made) for _ in range(2)] == [(b"012", True), (b"34", False)]
