"""Build the docs site with mkdocs-material: `.cache/site/html`, for a web server or from the disk, without a network.

The pages are those of the project where they are (README is the first), so links between them and to files of the project
stay what they are. They are copied to `.cache/site/pages` with what they link to; a link to a folder leads to its README, or to
a list of its files. A link that leads nowhere, a page that is not in the navigation of docs/mkdocs.yml, and whatever would be
loaded from elsewhere are errors. scripts/install-docs is what it needs.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts import links  # noqa: E402

SITE: Final = ROOT / ".cache" / "site"
PAGES: Final = SITE / "pages"
HTML: Final = SITE / "html"
CONFIG: Final = ROOT / "docs" / "mkdocs.yml"
MKDOCS: Final = ROOT / ".cache" / "docs-venv" / "bin" / "mkdocs"
SCRIPTS: Final = ROOT / ".cache" / "docs"
MERMAID: Final = "mermaid.min.js"
WORKER: Final = "iframe-worker.js"
_WORKER_ELSEWHERE: Final = "https://unpkg.com/iframe-worker/shim"
"""Where the theme has the pages take it from."""
_COMMENT = re.compile(r"<!--.*-->\s*$")
_LOADED = re.compile(
    r"""<(?:script|img|iframe|source|video)\b[^>]*\bsrc=["']?(?:https?:)?//[^"'\s>]*"""
    r"""|<link\b(?=[^>]*\brel=["']?(?:stylesheet|preconnect|preload|icon|dns-prefetch))[^>]*\bhref=["']?(?:https?:)?//[^"'\s>]*"""
    r"""|url\(["']?(?:https?:)?//[^)]*\)|@import\s[^;]*//[^;]*"""
)


class Stage:
    """The pages as mkdocs takes them."""

    def __init__(self) -> None:
        self._known = links.tracked(ROOT)
        self._listed: set[Path] = set()

    def make(self) -> None:
        """All of them, and what they link to."""
        shutil.rmtree(PAGES, ignore_errors=True)
        for page in links.pages():
            self._write(page.relative_to(ROOT), self._page(page))
        (PAGES / "assets").mkdir()
        for name in (MERMAID, WORKER):
            shutil.copy(SCRIPTS / name, PAGES / "assets" / name)

    def _write(self, name: Path, text: str) -> None:
        path = PAGES / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def _page(self, page: Path) -> str:
        text = page.read_text()
        lines = text.splitlines()
        for number, line in links.prose(text):
            if _COMMENT.match(line):
                lines[number - 1] = ""  # a table right below it would be a part of it
        for link in reversed([*links.links(text)]):
            if link.elsewhere or not link.path:
                continue
            old = lines[link.line - 1]
            end = link.start + len(link.path)
            lines[link.line - 1] = old[: link.start] + self._path(link.path, links.leads_to(page, link)) + old[end:]
        return "\n".join(lines) + "\n"

    def _path(self, path: str, target: Path) -> str:
        """What the site calls it; the file is there then."""
        name = target.relative_to(ROOT)
        if not target.is_dir():
            return path if target.suffix == ".md" else self._copied(path, name)
        below = path.rstrip("/")
        if (name / "README.md").as_posix() in self._known:
            return f"{below}/README.md"
        if name not in self._listed:
            self._listed.add(name)
            self._write(name / "index.md", "".join(self._list(name)))
        return f"{below}/index.md"

    def _copied(self, path: str, name: Path) -> str:
        """mkdocs leaves out what begins with a dot."""
        shown = Path(*[part.lstrip(".") for part in name.parts])
        (PAGES / shown).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, PAGES / shown)
        return re.sub(r"(^|/)\.(?=[^./])", r"\1", path)

    def _list(self, folder: Path) -> Iterator[str]:
        yield f"# {folder}\n\n"
        for each in sorted(each for each in self._known if each.startswith(f"{folder}/")):
            inside = Path(each).relative_to(folder).as_posix()
            if not each.endswith(".md"):
                self._copied(inside, Path(each))
            yield f"- [{inside}]({inside})\n"


def worker_from_here() -> None:
    """The theme's plugin `offline` asks elsewhere for the script that it needs to be offline."""
    for path in HTML.rglob("*.html"):
        here = "../" * (len(path.relative_to(HTML).parts) - 1) + f"assets/{WORKER}"
        if path.name == "404.html":  # a server shows it at any path
            here = f"/assets/{WORKER}"
        path.write_text(path.read_text().replace(_WORKER_ELSEWHERE, here))


def loaded_from_elsewhere() -> list[str]:
    """Of all that the site has: scripts, styles, pictures and fonts that a browser would ask others for."""
    found = []
    for path in sorted([*HTML.rglob("*.html"), *HTML.rglob("*.css")]):
        found += [f"{path.relative_to(HTML)}: {match[0][:200]}" for match in _LOADED.finditer(path.read_text())]
    return found


def built() -> list[str]:
    """What is wrong with the pages that were staged, where mkdocs has not said so itself."""
    command = [str(MKDOCS), "build", "--quiet", "--strict", "--clean", "--config-file", str(CONFIG)]
    done = subprocess.run(command, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, check=False)
    if done.returncode:
        return ["mkdocs is not content with the pages: see above"]
    worker_from_here()
    return loaded_from_elsewhere()


def main() -> int:
    """Exit code 1 when something is wrong with a page."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(f"usage: .venv/bin/python scripts/docs_site.py\n\n{__doc__}")
        return 0
    if missing := [path for path in (MKDOCS, SCRIPTS / MERMAID, SCRIPTS / WORKER) if not path.exists()]:
        print(f"scripts/docs_site.py: there is no {missing[0].relative_to(ROOT)}: scripts/install-docs", file=sys.stderr)
        return 2
    problems = links.problems()
    if not problems:
        Stage().make()
        problems = built()
    for each in problems:
        print(each, file=sys.stderr)
    if not problems:
        print(f"{(HTML / 'index.html').relative_to(ROOT)}: {len([*HTML.rglob('*.html')])} pages")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
