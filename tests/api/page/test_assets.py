"""What browsers load: vendored as the script says, little of it, and nothing from elsewhere."""

from __future__ import annotations

import gzip
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from extproc.api.page.assets import FOLDER, assets, url_of
from extproc.api.page.endpoints import PAGE
from extproc.api.page.site import PAGES as PAGES_OF_SITE
from extproc.audit.journal import Journal
from extproc.control.audited import Audited
from extproc.control.changes import Create
from extproc.measures import Measures
from extproc.observability.decisions import DecisionLog
from tests.api.page.test_decisions import decided
from tests.api.page.visitors import Seen, elements, visiting
from tests.api.standing import Standing
from tests.audit.records import change
from tests.control.desks import document
from tests.fakes.clock import FakeClock

NOT_PAGES = {
    *("/ui/live", "/ui/pool/live", "/ui/audit/export"),
    *("/ui/endpoints/{name}/plots", "/ui/pool/plots", "/ui/endpoints/{name}/rollout/plots"),
    *("/ui/audit/check", "/ui/pool/endpoint", "/ui/endpoints/{name}/rollout"),
}
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


ALL_BYTES = 100_000
"""That browsers are sent for a page with nothing kept; 150 KB are promised."""
PAGES = [each.path.format(name="e-00500") for each in PAGES_OF_SITE if each.method == "GET" and each.path not in NOT_PAGES]
QUERIES = {"/ui/pool": "?name=own", "/ui/try": "?endpoint=e-00500"}


def packed_size(got: Seen) -> int:
    """As it is sent."""
    return len(gzip.compress(got.text.encode(), 1)) if got.headers.get("content-encoding") == "gzip" else len(got.text)


async def test_all_that_any_page_loads_is_far_less_than_150_kb_and_its_files_are_kept_by_browsers(
    tmp_path: Path,
) -> None:
    standing = Standing()
    standing.pool("own", 1000)
    log = DecisionLog()
    journal = Journal(tmp_path / "changes.v1.jsonl")
    for number in range(1, 1001):
        decided(log, f"r-{number}")
    journal.append([change(number, endpoint=f"e-{number:05}").to_bytes() for number in range(1, 1001)])
    audited = Audited(None, None, journal)
    sizes = {}
    async with visiting(measures=Measures(FakeClock()), pools=standing.pools, decisions=log, audited=audited) as visitor:
        for number in range(0, 1000, 500 // PAGE):
            await visitor.bench.desk.apply(Create(document(f"e-{number:05}")), "alice")
        for path in PAGES:
            seen = await visitor.look(path + QUERIES.get(path, ""))
            assert seen.status == 200, path
            wanted = {
                attributes.get("src") or attributes.get("href")
                for tag, attributes in elements(seen.text)
                if tag in ("script", "link")
            }
            sizes[path] = packed_size(seen)
            for address in wanted:
                assert address is not None
                got = await visitor.ask("GET", address, {"accept-encoding": "gzip"})
                assert got.status == 200, address
                assert "immutable" in got.headers["cache-control"]
                assert got.headers["content-encoding"] == "gzip"
                sizes[path] += int(got.headers["content-length"])
            assert len(wanted) in (4, 4 + 3), "with what plots need, or without"
    assert len(sizes) > 9
    assert max(sizes.values()) <= ALL_BYTES, sizes


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
