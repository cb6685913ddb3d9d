"""What browsers load: vendored as the script says, little of it, and nothing from elsewhere."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from extproc.api.page.assets import FOLDER, assets
from extproc.measures import Measures
from tests.api.page.visitors import elements, visiting
from tests.control.desks import document
from tests.fakes.clock import FakeClock

SCRIPT = Path(__file__).resolve().parents[3] / "scripts/vendor.py"


@pytest.fixture(scope="module")
def vendor() -> ModuleType:
    spec = importlib.util.spec_from_file_location("vendor", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_vendored_files_are_what_the_script_says(vendor: ModuleType) -> None:
    assert vendor.problems() == []


def test_a_file_that_was_changed_is_missing_or_is_from_nowhere_is_told(vendor: ModuleType, tmp_path: Path) -> None:
    for path in FOLDER.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "htmx.min.js").write_bytes(b"changed")
    (tmp_path / "htmx.LICENSE.txt").unlink()
    (tmp_path / "more.js").write_bytes(b"more")
    told = [line.partition(":")[0] for line in vendor.problems(tmp_path)]
    assert told == ["htmx.LICENSE.txt", "more.js", "htmx.min.js"]


def test_each_package_has_its_licence(vendor: ModuleType) -> None:
    for package in vendor.PACKAGES:
        assert any(name.endswith(".LICENSE.txt") for name in package.files), package.name


async def test_all_that_a_page_loads_is_at_most_150_kb_and_kept_by_browsers() -> None:
    async with visiting(measures=Measures(FakeClock())) as visitor:
        from extproc.control.changes import Create

        await visitor.bench.desk.apply(Create(document()), "alice")
        seen = await visitor.look("/ui/endpoints/chat")
        wanted = {
            attributes.get("src") or attributes.get("href")
            for tag, attributes in elements(seen.text)
            if tag in ("script", "link")
        }
        size = len(seen.text)
        for address in wanted:
            assert address is not None
            got = await visitor.ask("GET", address)
            assert got.status == 200, address
            assert "immutable" in got.headers["cache-control"]
            size += len(got.text.encode())
        assert len(wanted) == 4 + 3, "with what plots need"
        assert size <= 150_000, size


@pytest.mark.parametrize("name", ["page.css", "page.js", "plot.js", "icon.svg"])
def test_our_own_files_ask_nobody_else(name: str) -> None:
    text = assets()[name].content.decode().replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|@import|url\((?!#)", text)
    assert "eval(" not in text
    assert "innerHTML" not in text.replace('"outerHTML"', ""), "texts are set as texts"
