"""What a process holds: bodies while they are collected, and answers that their peers have not taken. One bound for all.

Three steps, so that large bodies wait for each other before anything is refused, and small ones for nobody:

- Up to a quarter of the bound every stream's window opens again as it is used.
- Above, a stream that holds much gets more only if what its body may still bring fits the bound beside what the others were
  promised; else it waits for its turn, first come, first served. So whoever was let go on can be whole, and the bodies never
  wait for each other in a circle.
- Above the bound whoever holds most is given up, at once, those first to whom nothing was promised: a peer may open many
  streams, and use the first window of each.
"""

from __future__ import annotations

from typing import Final

from extproc.errors import Overloaded

MOST: Final = 512 * 2**20
SMALL: Final = 64 * 2**10
"""A stream that holds less is not made to wait."""

TOO_MUCH: Final = "too much is held at once, try again later"


def overloaded() -> Overloaded:
    """The answer to who is given up. A new one for each, as it remembers whose answer it is."""
    return Overloaded(TOO_MUCH)


class Waits:
    """A stream whose window stays shut until there is room."""

    __slots__ = ()

    def go_on(self) -> bool:
        """It is its turn: open the window if there is room, and tell whether it was."""
        raise NotImplementedError


class Holder:
    """A connection, to whom what is held belongs."""

    def most_held(self, all_of_them: bool) -> int:
        """Bytes of the stream that holds most; unless `all_of_them`, of those that hold more than a little and were promised
        nothing."""
        raise NotImplementedError

    def give_up(self, all_of_them: bool) -> None:
        """End that stream; what it holds is given back before this returns."""
        raise NotImplementedError


class Held:
    """The count, and who waits for it to sink. All who add to `bytes` give the same back."""

    __slots__ = ("_easing", "_free", "_full", "bytes", "given_up", "holders", "let_on", "most", "promised", "waiting")

    def __init__(self, most: int = MOST) -> None:
        self.most = most
        self._free = most // 4
        self._full = most - most // 8
        """The rest is for what may come unasked: the first windows of streams."""
        self.bytes = 0
        self.promised = 0
        """Bytes that may still come on streams that were let go on."""
        self.waiting: dict[Waits, None] = {}
        """In the order of their turns."""
        self.holders: dict[Holder, None] = {}
        self.let_on = 0
        """Counts up with each stream that waited and goes on."""
        self.given_up = 0
        """Streams that were given up."""
        self._easing = False

    def __repr__(self) -> str:
        return f"<Held {self.bytes} of {self.most} promised={self.promised} waiting={len(self.waiting)}>"

    @property
    def is_free(self) -> bool:
        """There is room for everybody."""
        return self.bytes <= self._free

    def has_room(self, promised: int, more: int) -> bool:
        """Whether a stream to which `promised` bytes were promised may have `more` in their place. One may always."""
        others = self.promised - promised
        return others == 0 or self.bytes + others + more <= self._full

    def release(self, size: int) -> None:
        """So many bytes are no longer held."""
        self.bytes -= size
        if self.waiting:
            self.ease()

    def ease(self) -> None:
        """Let go on who may, in turn."""
        if self._easing:
            return
        self._easing = True
        waiting = self.waiting
        try:
            while waiting:
                first = next(iter(waiting))
                if not first.go_on():
                    break
                waiting.pop(first, None)
                self.let_on += 1
        finally:
            self._easing = False

    def relieve(self) -> None:
        """Give up whoever holds most, until all is within the bound."""
        while self.bytes > self.most and (self.give_up_most(False) or self.give_up_most(True)):
            pass

    def give_up_most(self, all_of_them: bool) -> bool:
        """Give up the stream that holds most, as `Holder.most_held`; False when there is none."""
        most, whose = 0, None
        for holder in self.holders:
            size = holder.most_held(all_of_them)
            if size > most:
                most, whose = size, holder
        if whose is None:
            return False
        self.given_up += 1
        whose.give_up(all_of_them)
        return True
