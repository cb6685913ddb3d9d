"""Segments of a gateway: their lists from files, and what rules make of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from extproc.app.build import build
from extproc.app.checking import check_file
from extproc.app.endpoints import ServingEndpoints
from extproc.app.segments import WatchedSegments, keys_of
from extproc.app.service import Service
from extproc.files import watch
from extproc.settings.base import SettingsError
from extproc.settings.commands import GatewaySettings
from tests.app.running import chat, exchange, headers_of, part, running, until
from tests.control.desks import document
from tests.fakes.page import read_page

HERE: dict[str, Any] = {"host": "127.0.0.1", "grpc_port": 0, "grpc_health_port": 0, "metrics_port": 0, "secure_serving": False}
BODY = b'{"model":"chat","messages":[]}'
RULE = {"name": "vip", "match": {"segments": ["vip", "gold"]}, "entity": "b"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are looked at more often than by default."""
    defaults = dict(watch.FileWatcher.__init__.__kwdefaults__ or {})
    monkeypatch.setattr(watch.FileWatcher.__init__, "__kwdefaults__", {**defaults, "interval_s": 0.01, "settle_s": 0.02})


def written(folder: Path, segments: list[dict[str, Any]], *rules: dict[str, Any]) -> str:
    """A gateway's file whose endpoint `chat` has entities `a` and `b` in pools of their own."""
    config = {
        "apiVersion": "extproc.dev/v1alpha1",
        "kind": "Gateway",
        "pools": [{"name": name, "endpoints": {"static": [f"127.0.0.1:{port}"]}} for name, port in (("one", 1), ("two", 2))],
        "routes": [{"models": ["model-A"], "pool": "one"}, {"models": ["model-B"], "pool": "two"}],
        "segments": segments,
        "servingEndpoints": [{**document(a=100, b=0), "rules": list(rules)}],
    }
    path = folder / "gateway.yaml"
    path.write_text(json.dumps(config))
    return str(path)


def gateway(path: str) -> Service:
    service = build(GatewaySettings(**HERE, config_file=path))
    part(service, ServingEndpoints)._look_s = 0.01
    return service


async def served(port: int, **headers: str) -> str:
    answers = await exchange(port, chat(BODY, **headers))
    return headers_of(answers[0])["x-gateway-destination-endpoint"]


async def test_a_list_is_followed(tmp_path: Path) -> None:
    (tmp_path / "vip.txt").write_text("# who pays\nann\n")
    gold = {"name": "gold", "header": {"name": "x-tier", "exact": "gold"}}
    service = gateway(written(tmp_path, [{"name": "vip", "file": "vip.txt"}, gold], RULE))
    async with running(service) as ports:
        assert await served(ports.grpc, x_user_id="ann") == "127.0.0.1:2"
        assert await served(ports.grpc, x_user_id="bob") == "127.0.0.1:1"
        assert await served(ports.grpc, x_user_id="bob", x_tier="gold") == "127.0.0.1:2"
        (tmp_path / "vip.txt").write_text("bob\n")

        async def changed() -> bool:
            return await served(ports.grpc, x_user_id="bob") == "127.0.0.1:2"

        await until(changed)
        assert await served(ports.grpc, x_user_id="ann") == "127.0.0.1:1"
        (tmp_path / "vip.txt").unlink()  # the last list stays

        async def said() -> bool:
            return 1.0 in read_page(service.telemetry.instruments, "extproc_file_errors").values()

        await until(said)
        assert await served(ports.grpc, x_user_id="bob") == "127.0.0.1:2"


async def test_definitions_are_followed_with_what_goes_by_them(tmp_path: Path) -> None:
    """In place, as an editor does it: a segment that is new, one that means others, and one that goes."""
    (tmp_path / "vip.txt").write_text("ann\n")
    (tmp_path / "more.txt").write_text("bob\n")
    gold = {"name": "gold", "header": {"name": "x-tier", "exact": "gold"}}
    service = gateway(written(tmp_path, [gold, {"name": "vip", "file": "vip.txt"}], RULE))
    async with running(service) as ports:
        assert await served(ports.grpc, x_user_id="ann") == "127.0.0.1:2"
        assert await served(ports.grpc, x_user_id="bob") == "127.0.0.1:1"
        platinum = {"name": "gold", "header": {"name": "x-tier", "exact": "platinum"}}
        written(tmp_path, [platinum, {"name": "vip", "file": "more.txt"}, {"name": "new", "keys": ["cy"]}], RULE)

        async def moved() -> bool:
            return await served(ports.grpc, x_user_id="bob") == "127.0.0.1:2"

        await until(moved)
        assert await served(ports.grpc, x_user_id="ann") == "127.0.0.1:1"
        assert await served(ports.grpc, x_user_id="dan", x_tier="gold") == "127.0.0.1:1"
        assert await served(ports.grpc, x_user_id="dan", x_tier="platinum") == "127.0.0.1:2"
        (tmp_path / "more.txt").write_text("eve\n")

        async def listed() -> bool:
            return await served(ports.grpc, x_user_id="eve") == "127.0.0.1:2"

        await until(listed)
        (tmp_path / "vip.txt").write_text("eve\nann\n")  # nobody's list any more
        written(tmp_path, [platinum, {"name": "vip", "keys": ["zoe"]}], RULE)

        async def named() -> bool:
            return await served(ports.grpc, x_user_id="zoe") == "127.0.0.1:2"

        await until(named)
        assert await served(ports.grpc, x_user_id="ann") == "127.0.0.1:1"


async def test_definitions_that_are_no_good_change_nothing(tmp_path: Path) -> None:
    (tmp_path / "vip.txt").write_text("ann\n")
    gold: dict[str, Any] = {"name": "gold", "keys": ["g"]}
    first: list[dict[str, Any]] = [{"name": "vip", "file": "vip.txt"}, gold]
    service = gateway(written(tmp_path, first, RULE))
    part(service, WatchedSegments)._again_s = 0.01

    async def broken() -> bool:
        return 1.0 in read_page(service.telemetry.instruments, "extproc_file_errors").values()

    async def healed() -> bool:
        return not await broken()

    async with running(service) as ports:
        for bad in ({"name": "vip", "file": "none.txt"}, {"name": "vip"}):
            written(tmp_path, [bad, gold], RULE)
            await until(broken)
            assert await served(ports.grpc, x_user_id="ann") == "127.0.0.1:2"
            written(tmp_path, first, RULE)
            await until(healed)
        written(tmp_path, [{"name": "vip", "file": "late.txt"}, gold], RULE)
        await until(broken)
        (tmp_path / "late.txt").write_text("bob\n")
        await until(healed)
        assert await served(ports.grpc, x_user_id="bob") == "127.0.0.1:2"


async def test_segments_and_rules_that_name_them_come_in_one_edit(tmp_path: Path) -> None:
    service = gateway(written(tmp_path, []))
    async with running(service) as ports:
        assert await served(ports.grpc, x_user_id="ann") == "127.0.0.1:1"
        written(tmp_path, [{"name": "vip", "keys": ["ann"]}, {"name": "gold", "keys": ["g"]}], RULE)

        async def moved() -> bool:
            return await served(ports.grpc, x_user_id="ann") == "127.0.0.1:2"

        await until(moved, 20)


def test_a_list_that_is_not_there_is_said_with_its_place(tmp_path: Path) -> None:
    path = written(tmp_path, [{"name": "vip", "file": "vip.txt"}])
    with pytest.raises(SettingsError) as raised:
        build(GatewaySettings(**HERE, config_file=path))
    assert any("segments[0].file: " in problem for problem in raised.value.problems), raised.value.problems


async def test_a_segment_that_the_gateway_has_not_keeps_it_from_starting(tmp_path: Path) -> None:
    path = written(tmp_path, [], {**RULE, "match": {"segments": ["vip"]}})
    with pytest.raises(SettingsError, match=r"rules\[0\].match\[0\].segments: got 'vip'; expected one of the gateway's"):
        async with running(gateway(path)):
            pass


def test_keys_are_lines() -> None:
    assert keys_of(b"\xef\xbb\xbfann\r\n  bob \n\n# a word about it\n#hash\n\xc3\xa9\n") == {
        b"ann",
        b"bob",
        b"#hash",
        b"\xc3\xa9",
    }
    with pytest.raises(SettingsError, match="line 2: got a key of 5000 bytes"):
        keys_of(b"a\n" + b"x" * 5000)


class TestCheck:
    def test_says_what_is_wrong_and_what_never_gets_a_request(self, tmp_path: Path) -> None:
        rules: list[dict[str, Any]] = [
            {"name": "all", "entity": "a"},
            {**RULE, "match": {"segments": ["vip", "nobody"]}},
            {"name": "z", "entity": "z"},
        ]
        report = check_file(written(tmp_path, [{"name": "vip", "file": "vip.txt"}, {"name": "vip", "keys": ["a"]}], *rules))
        assert [problem.partition(": ")[2] for each in report.parts for problem in each.problems] == [
            "segments: 'vip' is there 2 times; expected a name of its own for each",
            "servingEndpoints[0].rules[2].entity: got 'z'; expected one of the endpoint's served entities: a, b",
            "servingEndpoints[0].rules[1].match[0].segments: got 'nobody'; expected one of the gateway's segments: vip, vip",
        ]
        warnings = [warning for each in report.parts for warning in each.warnings]
        assert any("rules[1]: 'vip' never matches, as rules[0], 'all', has all of its requests" in each for each in warnings)

    def test_of_endpoints_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "endpoints.yaml"
        rules = [{"name": "all", "entity": "a"}, {"name": "late", "match": {"path": "/x"}, "entity": "b"}]
        path.write_text(json.dumps({"servingEndpoints": [{**document(), "rules": rules}]}))
        (found,) = check_file(str(path)).parts
        assert found.problems == ()
        assert found.warnings == (
            "line 1: servingEndpoints[0].rules[1]: 'late' never matches, as rules[0], 'all', has all of its requests",
        )
