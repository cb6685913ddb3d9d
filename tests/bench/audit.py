"""The audit: what keeping every decision costs the server, whether any is lost, and what each takes of the disk."""

from __future__ import annotations

import json
import random
import signal
import statistics
import tempfile
import time
import uuid
from pathlib import Path
from typing import Final, NamedTuple

import zstandard

from extproc import compiled
from extproc.audit.closing import close_as
from extproc.audit.files import PACKED, PARQUET, decision_files
from extproc.audit.reader import Reading, Wanted, decisions
from extproc.audit.row import Words, answer_of, line_of, said, served_by
from extproc.audit.writer import DecisionWriter, Limits
from tests.bench.configs import LOAD_ONLY
from tests.bench.processes import Load, replay, server
from tests.bench.recorded import MODEL, STREAMS, frames
from tests.bench.table import Row
from tests.bench.transport import PLAIN

_MORE_PERCENT, _BYTES = 6.0, 250.0
_STREAMS: Final = 6000
_STARTS: Final = 6
_RATE, _SECONDS, _TICK_S = 5000, 4, 0.01
_STOP_S = 60.0


class _Turn(NamedTuple):
    """The same streams through each gateway."""

    without: Load
    alike: Load
    audited: Load


def audit_rows(rounds: int) -> list[Row]:
    """The cost has a bar where the hot path is compiled."""
    return [*_server_rows(rounds), *_writer_rows()]


def _server_rows(rounds: int) -> list[Row]:
    """Gateways under load in turns, one of which keeps all decisions; two are alike, to tell what the figure is worth. All are
    started several times: where a process has its memory makes some percent."""
    recorded = frames(STREAMS["1 KB"])
    seen: list[_Turn] = []
    sent = found = 0
    packing_us = []
    with tempfile.TemporaryDirectory() as name, server("tests.bench.pages", "10") as pages:
        config = Path(name) / "gateway.yaml"
        config.write_text(json.dumps(_config([f"127.0.0.1:{port}" for port in pages.started["ports"]])))
        plain = ("extproc", "gateway", *PLAIN, "--config-file", str(config))
        for start in range(_STARTS):
            folder = Path(name) / f"audit-{start}"
            with (
                server(*plain, until="ready") as without,
                server(*plain, until="ready") as alike,
                server(*plain, "--audit-dir", str(folder), until="ready") as audited,
            ):
                servers = (without, alike, audited)
                order = [0, 2, 1]
                for round_ in range(rounds + 1):
                    turn = {each: replay(servers[each], recorded, streams=_STREAMS) for each in order}
                    sent += _STREAMS
                    if round_:  # the first one warms up
                        seen.append(_Turn(*(turn[each] for each in range(len(servers)))))
                    order = order[1:] + order[:1]
                audited.process.send_signal(signal.SIGTERM)
                audited.process.wait(_STOP_S)
            found += sum(1 for _ in decisions(folder, Wanted(), Reading()))
            packing_us.append(_packing_us(folder))
    request_us = statistics.median(each for turn in seen for each in (turn.without.cpu_us, turn.alike.cpu_us))
    more = statistics.median(2 * turn.audited.cpu_us / (turn.without.cpu_us + turn.alike.cpu_us) - 1 for turn in seen) * 100
    apart = statistics.median(turn.alike.cpu_us / turn.without.cpu_us - 1 for turn in seen) * 100
    packed = min(packing_us) / request_us * 100
    rate = statistics.median(turn.audited.rate for turn in seen)
    return [
        Row("gateway with a serving endpoint, 1 KB", request_us, "µs"),
        Row("to pack a row when its file is closed", min(packing_us), "µs"),
        Row("two such gateways that are alike: apart", apart, "%"),
        Row("with all decisions kept and packed: more", more + packed, "%", _MORE_PERCENT if compiled() else None),
        Row(f"of {sent:,} at {rate:,.0f} a second: lost", sent - found, "decisions", 0),
    ]


def _packing_us(folder: Path) -> float:
    """What it takes of CPU to pack a row: files are closed too rarely for rounds to show it. The least of five."""
    lines = b"".join(zstandard.ZstdDecompressor().stream_reader(each.path.open("rb")).read() for each in decision_files(folder))
    took_s = []
    for number in range(5):
        path = folder / f"again-{number}.jsonl"
        path.write_bytes(lines)
        began_s = time.process_time()
        close_as(path, PACKED)
        took_s.append(time.process_time() - began_s)
    return min(took_s) / max(1, lines.count(b"\n")) * 1e6


def _config(endpoints: list[str]) -> dict[str, object]:
    entity = {"name": "current", "entity_name": MODEL}
    routes = [{"served_entity_name": "current", "traffic_percentage": 100}]
    return {
        "apiVersion": "extproc.dev/v1alpha1",
        "kind": "Gateway",
        "pools": [{"name": "bench", "endpoints": {"static": endpoints}}],
        "routes": [{"models": [MODEL], "pool": "bench"}],
        "scheduling": LOAD_ONLY,
        "servingEndpoints": [{"name": "chat", "config": {"served_entities": [entity], "traffic_config": {"routes": routes}}}],
    }


def _writer_rows() -> list[Row]:
    """A writer by itself, with decisions that have all there is to say."""
    rows = []
    lines = [_line() for _ in range(_RATE * _SECONDS)]
    for suffix in (PACKED, PARQUET):
        with tempfile.TemporaryDirectory() as name:
            writer = DecisionWriter(Path(name), "bench-1", suffix, Limits(file_bytes=2 * 2**20))
            writer.start()
            began_s = time.monotonic()
            for at in range(0, len(lines), int(_RATE * _TICK_S)):
                for line in lines[at : at + int(_RATE * _TICK_S)]:
                    writer.waiting.add(line)
                time.sleep(max(0.0, began_s + (at / _RATE) + _TICK_S - time.monotonic()))
            writer.stop()
            size = sum(file.path.stat().st_size for file in decision_files(Path(name)))
            lost = len(lines) - writer.counts.written
            rows += [
                Row(f"{suffix}: at {_RATE:,} a second for {_SECONDS} s: lost", lost, "decisions", 0),
                Row(f"{suffix}: on disk, each", size / len(lines), "bytes", _BYTES),
            ]
    return [*rows, Row("before a file is packed, each", sum(map(len, lines)) / len(lines), "bytes")]


def _line() -> str:
    draw = random.Random()
    words = Words(
        "chat",
        draw.choice(("current", "challenger")),
        "sticky: header x-user-id",
        arms=("tone/warm",),
        version=draw.randrange(1, 20),
        pool="llama",
    )
    server = served_by(f"10.0.0.{draw.randrange(10)}:8000", 200)
    answer = answer_of(draw.uniform(0.05, 2), draw.uniform(0.005, 0.05), draw.randrange(4000), draw.randrange(900))
    numbers = (draw.uniform(100, 9000), 0, draw.randrange(10_000), draw.random(), draw.random())
    return line_of(int(time.time() * 1000), str(uuid.uuid4()), said(words), server, *numbers, answer)
