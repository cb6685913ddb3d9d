"""Cutting bytes anywhere."""

from __future__ import annotations

from hypothesis import strategies as st


@st.composite
def cut(draw: st.DrawFn, data: bytes) -> list[bytes]:
    """The data in pieces, some of them empty; now and then in single bytes."""
    if draw(st.integers(0, 5)) == 0:
        return [data[at : at + 1] for at in range(len(data))]
    places = sorted(draw(st.lists(st.integers(0, len(data)), max_size=8)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]
