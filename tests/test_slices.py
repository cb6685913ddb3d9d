"""Turns at the event loop for what takes long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from extproc.slices import Slices


async def test_share() -> None:
    """Behind what took long there is a pause."""
    used_s = 0.0
    slices = Slices(slice_s=1.0, share=0.5, clock=lambda: 0.0, used=lambda: used_s)
    async with slices.turn():
        used_s += 0.02
    began_s = time.perf_counter()
    async with slices.turn():
        pass
    assert time.perf_counter() - began_s >= 0.019


async def test_what_others_took_of_the_core_meanwhile_makes_no_pause() -> None:
    now_s = used_s = 0.0
    slices = Slices(slice_s=1.0, share=0.25, clock=lambda: now_s, used=lambda: used_s)
    async with asyncio.timeout(60):
        async with slices.turn():
            now_s += 3600.0  # a process that had to wait for its turn
            used_s += 0.001
        async with slices.turn():
            pass


async def test_a_slice_is_as_much_as_goes_into_its_time() -> None:
    now_s = 0.0
    slices = Slices(slice_s=1.0, share=1.0, used=lambda: now_s)

    def pieces() -> Iterator[bytes]:
        nonlocal now_s
        for number in range(5):
            now_s += 0.4
            yield b"%d" % number

    made = pieces()
    assert [await slices.next(made) for _ in range(2)] == [(b"012", True), (b"34", False)]
