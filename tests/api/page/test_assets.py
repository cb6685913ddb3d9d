"""What browsers load: vendored as the script says, little of it, and nothing from elsewhere."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from extproc.api.page.assets import FOLDER, assets, url_of
from extproc.control.changes import Create
from extproc.measures import Measures
from tests.api.page.visitors import elements, visiting
from tests.api.standing import Standing
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


@pytest.mark.parametrize("path", ["/ui/endpoints/chat", "/ui/pool?name=own"])
async def test_all_that_a_page_loads_is_at_most_150_kb_and_kept_by_browsers(path: str) -> None:
    standing = Standing()
    standing.pool("own", 1000)
    async with visiting(measures=Measures(FakeClock()), pools=standing.pools) as visitor:
        await visitor.bench.desk.apply(Create(document()), "alice")
        seen = await visitor.look(path)
        wanted = {
            attributes.get("src") or attributes.get("href")
            for tag, attributes in elements(seen.text)
            if tag in ("script", "link")
        }
        size = len(seen.text)
        for address in wanted:
            assert address is not None
            got = await visitor.ask("GET", address, {"accept-encoding": "gzip"})
            assert got.status == 200, address
            assert "immutable" in got.headers["cache-control"]
            assert got.headers["content-encoding"] == "gzip"
            size += int(got.headers["content-length"])
        assert len(wanted) == 4 + 3, "with what plots need"
        assert size <= 150_000, size


@pytest.mark.parametrize(
    ("accepts", "packed"), [("", False), ("br, gzip;q=0", False), ("br, gzip;q=0.5", True), ("gzip", True)]
)
async def test_files_are_packed_for_who_takes_that(accepts: str, packed: bool) -> None:
    async with visiting() as visitor:
        got = await visitor.ask("GET", url_of("page.js"), {"accept-encoding": accepts})
        assert (got.headers.get("content-encoding") == "gzip") is packed
        assert got.headers["vary"] == "Accept-Encoding"
        assert got.text == assets()["page.js"].content.decode()


@pytest.mark.parametrize("name", ["page.css", "page.js", "plot.js", "icon.svg"])
def test_our_own_files_ask_nobody_else(name: str) -> None:
    text = assets()[name].content.decode().replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|@import|url\((?!#)", text)
    assert "eval(" not in text
    assert "innerHTML" not in text.replace('"outerHTML"', ""), "texts are set as texts"
