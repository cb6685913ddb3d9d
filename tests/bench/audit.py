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
from typing import Final

from extproc import compiled
from extproc.audit.files import PACKED, PARQUET, decision_files
from extproc.audit.reader import Reading, Wanted, decisions
from extproc.audit.row import Row as Decision
from extproc.audit.writer import DecisionWriter, Limits
from tests.bench.configs import LOAD_ONLY
from tests.bench.processes import replay, server
from tests.bench.recorded import MODEL, STREAMS, frames
from tests.bench.table import Row
from tests.bench.transport import PLAIN

_MORE_PERCENT, _BYTES = 6.0, 250.0
_STREAMS: Final = 6000
_RATE, _SECONDS, _TICK_S = 5000, 4, 0.01
_STOP_S = 60.0


def audit_rows(rounds: int) -> list[Row]:
    """The cost has a bar where the hot path is compiled."""
    return [*_server_rows(rounds), *_writer_rows()]


def _server_rows(rounds: int) -> list[Row]:
    """Two gateways under load in turns, one of which keeps all decisions."""
    recorded = frames(STREAMS["1 KB"])
    with tempfile.TemporaryDirectory() as name, server("tests.bench.pages", "10") as pages:
        folder = Path(name)
        config = folder / "gateway.yaml"
        config.write_text(json.dumps(_config([f"127.0.0.1:{port}" for port in pages.started["ports"]])))
        plain = ("extproc", "gateway", *PLAIN, "--config-file", str(config))
        kept = (*plain, "--audit-dir", str(folder / "audit"))
        with server(*plain, until="ready") as without, server(*kept, until="ready") as audited:
            sent, more, rates, used = 0, [], [], []
            for round_ in range(rounds + 1):
                before, after = (replay(each, recorded, streams=_STREAMS) for each in (without, audited))
                sent += _STREAMS
                if round_:
                    more.append((after.cpu_us / before.cpu_us - 1) * 100)
                    rates.append(after.rate)
                    used.append(before.cpu_us)
            audited.process.send_signal(signal.SIGTERM)
            audited.process.wait(_STOP_S)
        found = sum(1 for _ in decisions(folder / "audit", Wanted(), Reading()))
    return [
        Row("gateway with a serving endpoint, 1 KB", statistics.median(used), "µs"),
        Row("with all decisions kept: more", statistics.median(more), "%", _MORE_PERCENT if compiled() else None),
        Row(f"of {sent:,} at {statistics.median(rates):,.0f} a second: lost", sent - found, "decisions", 0),
    ]


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
    lines = [_decision().line() for _ in range(_RATE * _SECONDS)]
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


def _decision() -> Decision:
    draw = random.Random()
    row = Decision(int(time.time() * 1000), str(uuid.uuid4()))
    row.endpoint, row.entity, row.why = "chat", draw.choice(("current", "challenger")), "sticky: header x-user-id"
    row.bucket, row.version, row.arms = draw.randrange(10_000), draw.randrange(1, 20), ("tone/warm",)
    row.pool, row.server = "llama", f"10.0.0.{draw.randrange(10)}:8000"
    row.score, row.second = draw.random(), draw.random()
    row.status, row.ms, row.ttft_s, row.tpot_s = 200, draw.uniform(100, 9000), draw.uniform(0.05, 2), draw.uniform(0.005, 0.05)
    row.in_tokens, row.out_tokens = draw.randrange(4000), draw.randrange(900)
    return row
