"""A replica to be killed: a desk with 50 updates of one endpoint under way, and a line for each that was acknowledged.

python -m tests.storage.updater URL PREFIX
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from itertools import count

from extproc.control.changes import Create, UpdateConfig
from extproc.control.errors import AlreadyExists
from extproc.storage.open import open_store
from tests.control.desks import Bench, document, split
from tests.storage.killing import ACK, ALL

UPDATES = 50


async def update_for_ever(bench: Bench, prefix: str, task: int) -> None:
    for turn in count():
        reason, share = f"{prefix}-{task}-{turn}", (task + turn) % 101
        applied = await bench.desk.apply(UpdateConfig("chat", split(a=share, b=100 - share)), "test", reason=reason)
        assert applied.record is not None
        sys.stdout.write(f"{ACK}{applied.record.config_version} {reason}\n")
        sys.stdout.flush()


async def main(url: str, prefix: str) -> None:
    bench = Bench(open_store(url, ALL))
    await bench.desk.open()
    with suppress(AlreadyExists):
        await bench.desk.apply(Create(document()), "test")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(bench.desk.follow())
        for task in range(UPDATES):
            tasks.create_task(update_for_ever(bench, prefix, task))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
