"""`extproc top` where there is no terminal, and what it draws where there is one."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from extproc.cli import main
from extproc.cli.top.live import Screen
from extproc.cli.top.page import MetricsPage, Seen, Watcher
from extproc.cli.top.readings import Reading
from extproc.cli.top.shown import ORDERS, Choice
from tests.cli.top.pages import BEGIN, Served, pool, served


@pytest.fixture
def page() -> Iterator[Served]:
    with served() as made:
        yield made


def top(page: Served, *flags: str, **environ: str) -> Result:
    arguments = ["top", "--interval", "0.5", "--metrics", page.url, *flags]
    return CliRunner().invoke(main, arguments, env=environ)


def shown(page: Served, *flags: str) -> dict[str, Any]:
    got = top(page, "--json", *flags)
    assert got.exit_code == 0, got.output
    found: dict[str, Any] = json.loads(got.output)
    return found


def test_the_worst_of_ten_thousand_endpoints(page: Served) -> None:
    page.text = pool(10_000)
    got = top(page, "--once")
    assert got.exit_code == 0, got.output
    lines = got.output.splitlines()
    assert lines[-1] == "... and 9,980 more"
    at = next(number for number, line in enumerate(lines) if line.split()[:3] == ["pool", "endpoint", "state"])
    names = [line.split()[1] for line in lines[at + 1 : -1]]
    assert names == ["pod-2", "pod-1", *[f"pod-{9_999 - number}" for number in range(18)]], "down, stale, then most waiting"
    assert all("name%5B%5D=extproc_endpoint_up" in path for path, _ in page.asked), "the page is not sent whole"


def test_as_json(page: Served) -> None:
    page.text = pool(30)
    found = shown(page, "--rows", "2", "--sort", "waiting")
    assert [each["name"] for each in found["endpoints"]] == ["pod-29", "pod-28"]
    assert found["endpoints_left_out"] == 28
    assert found["pools"][0]["endpoints"] == 30
    assert found["source"] == page.url
    assert len(shown(page, "--rows", "0")["endpoints"]) == 30


def test_a_filter(page: Served) -> None:
    page.text = pool(30)
    found = shown(page, "--filter", "POD-1", "--sort", "name")
    assert [each["name"] for each in found["endpoints"]] == ["pod-1", *[f"pod-{number}" for number in range(10, 20)]]
    assert found["pools"], "a pool with such endpoints stays"
    assert shown(page, "--filter", "nobody")["endpoints"] == []


@pytest.mark.parametrize("order", ORDERS)
def test_every_order_has_all(order: str, page: Served) -> None:
    page.text = pool(5)
    assert len(shown(page, "--sort", order)["endpoints"]) == 5


def test_the_token(page: Served, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-a-file\n")
    assert top(page, "--once", "--token-file", str(tmp_path / "token"), EXTPROC_METRICS_TOKEN="other").exit_code == 0
    assert top(page, "--once", EXTPROC_METRICS_TOKEN="of-the-environment").exit_code == 0
    assert top(page, "--once").exit_code == 0
    given = [authorization for _, authorization in page.asked]
    assert given == ["Bearer from-a-file"] * 2 + ["Bearer of-the-environment"] * 2 + [""] * 2


def test_what_is_wrong_is_said(page: Served) -> None:
    page.status = 401
    assert "answers 401; it wants a token that may read /metrics: --token-file" in top(page, "--once").output
    page.status = 200
    page.cut = True
    assert top(page, "--once").exit_code == 1, "it went in the middle of an answer"
    page.cut = False
    page.text = "vllm:num_requests_running 1.0\n"
    got = top(page, "--once")
    assert (got.exit_code, "this is no metrics page of extproc" in got.output) == (1, True)
    nowhere = CliRunner().invoke(main, ["top", "--once", "--metrics", "localhost:9090"])
    assert nowhere.exit_code == 2
    assert "--metrics: got 'localhost:9090'; expected an address such as http://127.0.0.1:9090" in nowhere.output
    gone = CliRunner().invoke(main, ["top", "--once", "--metrics", "http://127.0.0.1:1"])
    assert gone.exit_code == 1
    assert "expected the metrics port of an extproc there, --metrics-port" in gone.output


def seen(text: str, problem: str = "", number: int = 1) -> Seen:
    before = Reading(text, 1.0)
    return Seen(Reading(text, 3.0, before), before, problem, number)


def drawn(screen: Screen, width: int = 120, height: int = 40) -> list[str]:
    console = Console(width=width, height=height, file=io.StringIO(), force_terminal=False)
    console.print(screen.picture(width, height))
    file = console.file
    assert isinstance(file, io.StringIO)
    return [line.rstrip() for line in file.getvalue().splitlines()]


@pytest.mark.parametrize(("width", "height"), [(200, 60), (120, 40), (80, 24), (60, 14)])
@pytest.mark.parametrize("endpoints", [1, 10, 1_000])
def test_it_fits_the_terminal(width: int, height: int, endpoints: int) -> None:
    screen = Screen(Choice(), "http://gateway:9090")
    assert screen.see(seen(pool(endpoints)))
    lines = drawn(screen, width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    many = endpoints + 8 > height  # three lines on top, three of the pool, two above the endpoints
    assert any(line.endswith("more") for line in lines) == many
    if many:
        assert len(lines) >= height - 2, "there is as much of it as fits"
    rows = sum(line.startswith("p ") and "pod-" in line for line in lines)
    left = next((int(line.split()[2].replace(",", "")) for line in lines if line.endswith("more")), 0)
    assert rows + left == endpoints


def everything() -> str:
    shares = "".join(
        f'extproc_serving_traffic_percentage{{served_entity="e{n}",serving_endpoint="chat"}} 5.0\n' for n in range(20)
    )
    weights = "".join(
        f'extproc_rollout_weight_percentage{{served_entity="new",serving_endpoint="r{number}"}} 5.0\n' for number in range(20)
    )
    return pool(50) + shares + weights


@pytest.mark.parametrize("height", range(5, 70))
def test_tables_share_the_room(height: int) -> None:
    screen = Screen(Choice(), "http://gateway:9090")
    screen.see(seen(everything()))
    lines = drawn(screen, 120, height)
    assert len(lines) <= height
    if height >= 10:
        assert any("pod-2" in line for line in lines), "the worst endpoint is seen on any terminal"
    if height >= 20:
        assert len(lines) == height
        assert {"e0", "new"} <= {line.split()[1] for line in lines if len(line.split()) > 2}


def test_keys() -> None:
    screen = Screen(Choice(), "http://gateway:9090")
    screen.see(seen(pool(5)))
    assert not screen.press("x")
    screen.press("s")
    assert "endpoints by waiting" in drawn(screen)[2]
    for key in "/pox\x7fd-3":
        screen.press(key)
    assert "filter: pod-3_" in drawn(screen)[2]
    screen.press("\n")
    assert [line.split()[1] for line in drawn(screen) if "pod-" in line and "filter" not in line] == ["pod-3"]
    screen.press("/")
    screen.press("q")
    assert not screen.over, "it is a part of the filter"
    screen.press("\x1b")
    assert screen.choice.text == ""
    screen.press("q")
    assert screen.over


def test_away_and_back() -> None:
    screen = Screen(Choice(), "http://gateway:9090")
    screen.see(Seen(problem="http://gateway:9090: refused", number=1))
    assert drawn(screen) == ["extproc top  http://gateway:9090", "http://gateway:9090: refused; asked again all the time"]
    screen.see(seen(pool(2), number=2))
    assert not any("refused" in line for line in drawn(screen))
    screen.see(seen(pool(2), "http://gateway:9090: refused", 3))
    assert "refused; asked again all the time; this is " in drawn(screen)[1]
    assert any("pod-1" in line for line in drawn(screen)), "the last that was seen stays"
    assert not screen.see(seen(pool(2), number=3)), "nothing new"


def test_names_say_nothing_to_the_terminal() -> None:
    hostile = BEGIN + 'extproc_serving_traffic_percentage{served_entity="\x1b[2J[red]x",serving_endpoint="a\\nb"} 1.0\n'
    screen = Screen(Choice(), "http://gateway:9090")
    screen.see(seen(hostile))
    text = "\n".join(drawn(screen))
    assert "\x1b" not in text
    assert "[2J[red]x" in text
    assert "a\N{REPLACEMENT CHARACTER}b" in text


def test_a_watcher_goes_on_after_everything(page: Served) -> None:
    watcher = Watcher(MetricsPage(page.url), 60.0)
    for status, cut, problem in ((200, False, False), (503, False, True), (200, True, True), (200, False, False)):
        page.status, page.cut = status, cut
        watcher.look()
        assert bool(watcher.seen.problem) == problem
        assert watcher.seen.latest is not None
    assert watcher.seen.number == 4
    assert watcher.seen.before is not None
