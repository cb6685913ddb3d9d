"""Reading the same endpoint's page again and again: where the samples were on the last one is looked at first. Compiled.

A page of vLLM has 50 KB, and from one to the next its lines hardly move. Exporters write all lines of a family as one block
(the text format asks for it) behind its `# TYPE` line. So a block is looked for within `WINDOW_BYTES` of its last place by
that line, and when its bytes are those of the last page its samples are too. The page as a whole is searched only

- when a block is not where it was, or does not begin behind the line that it did,
- when the page's length has changed so much that a family which was absent may have come,
- on each `EVERY`th page: for exporters that write a family in several places, and for one that comes while as much goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from extproc.scraping.exposition import MOST_SAMPLES, Sample, Scanner

WINDOW_BYTES: Final = 512
EVERY: Final = 20
_ANCHOR_BYTES: Final = 256
"""A line before a block that is longer than this is not remembered."""


class _Block:
    """Where a family's samples were. `anchor`: the line before them, and the family's name behind it."""

    __slots__ = ("anchor", "at", "samples", "skip", "text")

    def __init__(self, anchor: bytes, skip: int, at: int, text: bytes, samples: list[Sample]) -> None:
        self.anchor = anchor
        self.skip = skip
        """From the anchor's begin to the block's."""
        self.at = at
        """Of the anchor, on the last page."""
        self.text = text
        """The samples' lines, and what begins the line after them."""
        self.samples = samples


class Finder:
    """`find` gives the samples of each family, or None when they are those of the last page."""

    __slots__ = ("_absent", "_blocks", "_families", "_found", "_length", "_pages", "_scanner", "_shortest")

    def __init__(self, scanner: Scanner) -> None:
        self._scanner = scanner
        self._families = scanner.families
        self._shortest = min([len(family) for family in self._families]) + 2
        self._blocks: list[tuple[bytes, _Block]] = []
        self._absent = False
        self._found: dict[bytes, list[Sample]] = {}
        self._length = 0
        self._pages = EVERY

    def find(self, page: bytes) -> Mapping[bytes, list[Sample]] | None:
        self._pages += 1
        if self._blocks and self._pages < EVERY and not (self._absent and abs(len(page) - self._length) >= self._shortest):
            changed = self._look(page)
            if changed == 0:
                return None
            if changed > 0:
                return self._found
        return self._search(page)

    def _look(self, page: bytes) -> int:
        """Where they were: 0 when all is as it was, 1 when `_found` is what is now, -1 when a block is elsewhere."""
        changed = 0
        for family, block in self._blocks:
            at = block.at
            if not page.startswith(block.anchor, at):
                at = page.find(block.anchor, max(0, at - WINDOW_BYTES), at + WINDOW_BYTES + len(block.anchor))
                if at < 0:
                    return -1
                block.at = at
            begin = at + block.skip
            if page.startswith(block.text, begin):
                continue
            end = page.find(b"\n#", begin)
            if end < 0:
                return -1
            lines = page[begin : end + 1]
            samples = self._scanner.scan(lines)[family]
            if len(samples) != lines.count(b"\n"):
                return -1
            block.text = page[begin : end + 2]
            self._found[family] = samples
            changed = 1
        return changed

    def _search(self, page: bytes) -> dict[bytes, list[Sample]]:
        """The whole page; remember where all was, when it is as exporters write it."""
        families = dict(self._scanner.scan(page))
        self._found = families
        self._length = len(page)
        self._blocks = []
        self._absent = False
        count = 0
        for family, samples in families.items():
            count += len(samples)
            if not samples:
                self._absent = True
                continue
            block = self._block(page, family, samples)
            if block is None:
                self._pages = EVERY  # the next page too is searched
                return families
            self._blocks.append((family, block))
        self._pages = 0 if count < MOST_SAMPLES else EVERY
        return families

    def _block(self, page: bytes, family: bytes, samples: list[Sample]) -> _Block | None:
        """None: not in one block behind a comment and before another."""
        begin = page.find(b"\n" + family) + 1
        while begin > 0 and page[begin + len(family) : begin + len(family) + 1] not in (b"{", b" ", b"\t"):
            begin = page.find(b"\n" + family, begin) + 1  # the name of another family, that begins with this one
        if begin < 1:
            return None
        end = page.find(b"\n#", begin)
        if end < 0:
            return None
        lines = page[begin : end + 1]
        if lines.count(b"\n") != len(samples) or len(self._scanner.scan(lines)[family]) != len(samples):
            return None
        line = page.rfind(b"\n", 0, begin - 1) + 1
        if page[line : line + 1] != b"#" or begin - line > _ANCHOR_BYTES:
            return None
        # With the newline in front: a comment is anchored at the beginning of its line, as the block is.
        anchor = page[max(0, line - 1) : begin + len(family)]
        return _Block(anchor, begin - max(0, line - 1), max(0, line - 1), page[begin : end + 2], samples)
