"""Check the links of all pages: README and its like, docs/, the charts' and this folder's README.

A link within the project leads to a file that git has, to a folder, or to a heading, by GitHub's names of headings; `make docs`
checks the same for the site. What is elsewhere is left alone, as CI has no network: `--web` asks for each such address, once,
and says which do not answer.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parent.parent
_LINK = re.compile(r"\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)")
_CODE = re.compile(r"(`+)(?!`).*?(?<!`)\1(?!`)")
_HEADING = re.compile(r"#{1,6}\s+(.*?)\s*#*\s*$")
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)
_NOBODY: Final = ("localhost", "127.0.0.1", "example.com", "example.org")
_TIMEOUT_S: Final = 20.0


class Link(NamedTuple):
    """One of a page: where it stands, and where it leads."""

    line: int
    start: int
    """Of the target, in its line."""
    target: str

    @property
    def path(self) -> str:
        """Without the heading."""
        return self.target.partition("#")[0]

    @property
    def anchor(self) -> str:
        """The heading; '' for none."""
        return self.target.partition("#")[2]

    @property
    def elsewhere(self) -> bool:
        """It leads out of the project."""
        return bool(_ELSEWHERE.match(self.target))


@cache
def tracked(root: Path) -> frozenset[str]:
    """Files that git has, or will have with the next commit of all there is; in a copy without git, those that are there."""
    if not (root / ".git").exists():
        return frozenset(_files(root))
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    return frozenset(line for line in done.stdout.splitlines() if (root / line).is_file())


def _files(root: Path) -> Iterator[str]:
    for folder, below, names in os.walk(root):
        below[:] = [name for name in below if name == ".ci" or not name.startswith((".", "__pycache__"))]
        yield from ((Path(folder) / name).relative_to(root).as_posix() for name in names)


def pages(root: Path = ROOT) -> list[Path]:
    """Every page of the project, README first."""
    found = [name for name in tracked(root) if name.endswith(".md") and not name.startswith(("tests/", "extproc/", "protos/"))]
    return [root / name for name in sorted(found, key=lambda name: (name != "README.md", name))]


def prose(text: str) -> Iterator[tuple[int, str]]:
    """Its lines without those of code blocks, numbered from 1; code within a line is blanked out."""
    fence = ""
    for number, line in enumerate(text.splitlines(), start=1):
        mark = re.match(r"\s*(```+|~~~+)", line)
        if fence:
            if mark and mark[1].startswith(fence):
                fence = ""
        elif mark:
            fence = mark[1]
        else:
            yield number, _CODE.sub(lambda match: " " * len(match[0]), line)


def links(text: str) -> Iterator[Link]:
    """Of a page. One whose words are code is a link too."""
    for number, line in prose(text):
        for match in _LINK.finditer(line):
            yield Link(number, match.start(1), match[1])


def anchors(text: str) -> frozenset[str]:
    """The names that GitHub gives the page's headings."""
    seen: dict[str, int] = {}
    found = set()
    shown = dict(prose(text))
    for number, line in enumerate(text.splitlines(), start=1):
        match = _HEADING.match(line) if number in shown else None
        if match is None:
            continue
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", match[1]).replace("`", "").replace("*", "")
        name = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        again = seen.get(name, 0)
        seen[name] = again + 1
        found.add(f"{name}-{again}" if again else name)
    return frozenset(found)


def leads_to(page: Path, link: Link) -> Path:
    """The file or folder of a link within the project."""
    return (page.parent / link.path).resolve() if link.path else page


def problems(root: Path = ROOT) -> list[str]:
    """What leads nowhere: page, line, target and why."""
    known = tracked(root)
    found = []
    for page in pages(root):
        for link in links(page.read_text()):
            why = None if link.elsewhere else _problem(root, known, page, link)
            if why is not None:
                found.append(f"{page.relative_to(root)}:{link.line}: {link.target}: {why}")
    return found


def _problem(root: Path, known: frozenset[str], page: Path, link: Link) -> str | None:
    target = leads_to(page, link)
    if not target.is_relative_to(root):
        return "it leads out of the project"
    name = target.relative_to(root).as_posix()
    if target.is_dir():
        if not any(each.startswith(f"{name}/") for each in known):
            return "there is nothing in that folder"
        return "a folder has no headings" if link.anchor else None
    if name not in known:
        return "there is no such file"
    if link.anchor and (target.suffix != ".md" or link.anchor not in anchors(target.read_text())):
        return "there is no such heading"
    return None


def unanswered(root: Path = ROOT) -> list[str]:
    """Addresses elsewhere that do not answer, and why."""
    asked: dict[str, str] = {}
    for page in pages(root):
        for link in links(page.read_text()):
            address = link.target.partition("#")[0]
            if address.startswith(("http://", "https://")) and not any(name in address for name in _NOBODY):
                asked.setdefault(address, f"{page.relative_to(root)}:{link.line}")
    return [f"{where}: {address}: {why}" for address, where in sorted(asked.items()) if (why := _answer(address))]


def _answer(address: str) -> str | None:
    """Why there is none; None when there is one. Who refuses programs (403, 429) is there."""
    request = urllib.request.Request(address, headers={"User-Agent": "Mozilla/5.0 (scripts/links.py)"})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S):
            return None
    except urllib.error.HTTPError as error:
        with error:
            return None if error.code in (403, 429) else f"{error.code}"
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))


def main() -> int:
    """Exit code 1 when a link leads nowhere."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(f"usage: .venv/bin/python scripts/links.py [--web]\n\n{__doc__}")
        return 0
    found = unanswered() if "--web" in sys.argv else problems()
    for each in found:
        print(each, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
