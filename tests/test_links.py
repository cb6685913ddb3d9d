"""Links of the pages lead somewhere: to files, folders and headings of the project."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


links = load("links")


def test_every_link_of_every_page() -> None:
    assert links.problems() == []
    found = [link for page in links.pages() for link in links.links(page.read_text())]
    assert len(found) > 200
    assert sum(bool(link.anchor) for link in found) > 30


def test_every_page_has_its_place_in_the_docs_site() -> None:
    named = re.findall(r"^ +- (\S+\.md)$", (ROOT / "docs/mkdocs.yml").read_text(), re.MULTILINE)
    assert sorted(named) == sorted(page.relative_to(ROOT).as_posix() for page in links.pages())


@pytest.fixture
def project(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/there.md").write_text(
        "# There\n\n## Don't *stop* `now`\n\n## Twice\n\n## Twice\n\n```\n## Not this\n```\n"
    )
    (tmp_path / "docs/data.json").write_text("{}")
    return tmp_path


def told(project: Path, text: str) -> list[str]:
    (project / "README.md").write_text(text)
    links.tracked.cache_clear()
    try:
        return [each.removeprefix("README.md:") for each in links.problems(project)]
    finally:
        links.tracked.cache_clear()


@pytest.mark.parametrize(
    "link",
    [
        *("docs/there.md", "docs", "docs/data.json", "docs/there.md#there", "docs/there.md#dont-stop-now"),
        *("docs/there.md#twice", "docs/there.md#twice-1", "#here", "https://elsewhere.example/x#y", "mailto:a@b.example"),
    ],
)
def test_what_leads_somewhere(project: Path, link: str) -> None:
    assert told(project, f"# Here\n\n[`words` of it]({link})\n") == []


@pytest.mark.parametrize(
    ("link", "why"),
    [
        ("docs/nowhere.md", "there is no such file"),
        ("nowhere", "there is no such file"),
        ("docs/there.md#nowhere", "there is no such heading"),
        ("docs/there.md#not-this", "there is no such heading"),
        ("docs/there.md#twice-2", "there is no such heading"),
        ("#nowhere", "there is no such heading"),
        ("docs/data.json#there", "there is no such heading"),
        ("docs#there", "a folder has no headings"),
        ("../elsewhere.md", "it leads out of the project"),
    ],
)
def test_what_leads_nowhere(project: Path, link: str, why: str) -> None:
    assert told(project, f"# Here\n\nSee [it]({link}).\n") == [f"3: {link}: {why}"]


def test_what_git_leaves_out_is_not_there(project: Path) -> None:
    (project / ".gitignore").write_text("made.json\n")
    (project / "made.json").write_text("{}")
    assert told(project, "[it](made.json)\n") == ["1: made.json: there is no such file"]


def test_a_copy_without_git_has_what_is_there(project: Path) -> None:
    shutil.rmtree(project / ".git")
    (project / ".cache").mkdir()
    (project / ".cache/page.md").write_text("[it](nowhere)")
    assert told(project, "[it](docs/there.md#there) [and](docs/nowhere.md)\n") == ["1: docs/nowhere.md: there is no such file"]


def test_code_has_no_links(project: Path) -> None:
    assert told(project, "`[it](nowhere)`\n\n```\n[it](nowhere)\n```\n\n~~~~\n```\n[it](nowhere)\n~~~~\n") == []


def test_a_picture_that_is_a_link(project: Path) -> None:
    assert told(project, "[![words](docs/no.png)](docs/there.md)\n") == ["1: docs/no.png: there is no such file"]
    assert told(project, "[![words](docs/data.json)](docs/no.md)\n") == ["1: docs/no.md: there is no such file"]
