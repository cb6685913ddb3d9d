"""All benchmarks in one run: `python -m tests.bench [--rounds N] [--only PARTS] [--strict]`.

Figures are CPU of the server's process, medians; compare ratios, not microseconds of different machines. With `--strict` the
exit code is 1 when something is over its budget.
"""

from __future__ import annotations

import argparse
import sys

from extproc import __version__, compiled
from tests.bench.core import core_rows, pick_rows
from tests.bench.envoy import envoy_rows
from tests.bench.reach import reach_rows
from tests.bench.scrape import scrape_rows
from tests.bench.table import Row, show
from tests.bench.transport import memory_rows, tls_rows, transport_rows

_PARTS = "transport,tls,envoy,core,pick,memory,scrape,reach"


def main() -> int:
    """Run, print, and tell whether all is within budget."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each server under load")
    parser.add_argument("--only", default=_PARTS, help=f"what to run, comma separated: {_PARTS}")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when something is over its budget")
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
    if "tls" in wanted:
        part("TLS, on connections that are kept: CPU per stream", tls_rows(arguments.rounds))
    if "envoy" in wanted:
        part("Through a real Envoy, 1 KB chat requests over HTTP/1.1", envoy_rows(arguments.rounds))
    if "core" in wanted:
        part("The core alone, without a socket: CPU per stream", core_rows(floor_us))
    if "pick" in wanted:
        part("The pick alone", pick_rows())
    if "memory" in wanted:
        part("Memory", memory_rows())
    if "scrape" in wanted:
        part("vLLM pages of 52 KB, each 50 ms: CPU of the reading process in a second", scrape_rows())
    if "reach" in wanted:
        part("A picker with endpoints in the thousands", reach_rows())
    over = [row.name for row in rows if not row.within]
    print(f"\n{'over budget: ' + ', '.join(over) if over else 'all within budget'}")
    return 1 if over and arguments.strict else 0


if __name__ == "__main__":
    sys.exit(main())
