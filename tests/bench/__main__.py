"""All benchmarks in one run: `python -m tests.bench [--rounds N] [--only PARTS]`.

Figures are CPU of the server's process, medians; compare ratios, not microseconds of different machines. A row has a bar
that it must meet, or is an observation. The exit code is 1 when a bar is missed.
"""

from __future__ import annotations

import argparse
import sys

from extproc import __version__, compiled
from tests.bench.attack import attack_rows
from tests.bench.audit import audit_rows
from tests.bench.bodies import bodies_rows
from tests.bench.control import control_rows
from tests.bench.core import core_rows, pick_rows
from tests.bench.envoy import envoy_rows
from tests.bench.external import external_rows
from tests.bench.flow import flow_rows
from tests.bench.prefix import prefix_rows
from tests.bench.reach import reach_rows
from tests.bench.rust import rust_rows
from tests.bench.scrape import scrape_rows
from tests.bench.serving import serving_rows
from tests.bench.shadow import shadow_rows
from tests.bench.table import Row, show, verdict
from tests.bench.transport import memory_rows, tls_rows, transport_rows

_PARTS = (
    "transport,rust,tls,envoy,core,pick,prefix,external,flow,memory,serving,audit,control,scrape,reach,attack,bodies,shadow"
)


def main() -> int:
    """Run, print, and tell whether all bars are met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each server under load")
    parser.add_argument("--only", default=_PARTS, help=f"what to run, comma separated: {_PARTS}")
    arguments = parser.parse_args()
    wanted = set(arguments.only.split(","))
    print(f"extproc {__version__}, {'compiled' if compiled() else 'the sources, not compiled'}")
    rows: list[Row] = []
    floor_us: dict[str, float] = {}

    def part(title: str, found: list[Row]) -> None:
        show(title, found)
        rows.extend(found)

    if "transport" in wanted:
        found, floor_us = transport_rows(arguments.rounds)
        part("With the transport, h2load, 4 connections of 8 streams: CPU per stream; floor: an empty grpc.aio handler", found)
    if "rust" in wanted:
        part("The router against one in Rust (tonic), on plaintext: CPU per stream", rust_rows(arguments.rounds))
    if "tls" in wanted:
        part("TLS, on connections that are kept: CPU per stream", tls_rows(arguments.rounds))
    if "envoy" in wanted:
        part("Through a real Envoy, 1 KB chat requests over HTTP/1.1", envoy_rows(arguments.rounds))
    if "core" in wanted:
        part("The core alone, without a socket: CPU per stream", core_rows(floor_us))
    if "pick" in wanted:
        part("The pick alone", pick_rows())
    if "prefix" in wanted:
        part("The approximate prefix cache", prefix_rows())
    if "external" in wanted:
        part("External models: requests, and chunks of streamed answers", external_rows())
    if "flow" in wanted:
        part("Flow control: 10,000 waiting requests", flow_rows())
    if "memory" in wanted:
        part("Memory", memory_rows())
    if "serving" in wanted:
        part("Serving endpoints: CPU per stream, without a socket", serving_rows())
    if "audit" in wanted:
        part("The audit: all decisions kept", audit_rows(arguments.rounds))
    if "control" in wanted:
        part("Changes of serving endpoints, on a store in memory", control_rows())
    if "scrape" in wanted:
        part("vLLM pages of 52 KB, each 50 ms: CPU of the reading process in a second", scrape_rows())
    if "reach" in wanted:
        part("A picker with endpoints in the thousands", reach_rows())
    if "attack" in wanted:
        part("A picker of 10,000 endpoints while four strangers are at its metrics port: best of three", attack_rows())
    if "bodies" in wanted:
        part("50 bodies of 64 MiB at once over 4 connections", bodies_rows())
    if "shadow" in wanted:
        part("A shadow at 10 %, through an Envoy that sends every answer to us: live requests", shadow_rows(arguments.rounds))
    print(f"\n{verdict(rows)}")
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
