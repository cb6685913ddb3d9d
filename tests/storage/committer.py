"""A process to be killed: 50 tasks that commit as fast as they can, and a line on stdout for each commit that was acknowledged.

    python -m tests.storage.committer URL PREFIX

A commit has two or three changes whose documents say which commit they are of, so that half of one would be seen.
"""

from __future__ import annotations

import asyncio
import sys
from itertools import count

from extproc.control.store import Change, RevisionStore, StoreUnavailable, Superseded
from extproc.storage.open import open_store
from tests.storage.killing import ACK, ALL

TASKS = 50
AT_THE_STORE = 8
"""As many are overtaken, or do overtake, at a time; all fifty would do little else."""


async def commit_for_ever(store: RevisionStore, prefix: str, task: int, room: asyncio.Semaphore, latest: list[int]) -> None:
    for turn in count():
        name = f"{prefix}-{task}-{turn}"
        changes = [Change(f"{part}{task}", f"{name} of {2 + task % 2}".encode(), "update") for part in "abc"[: 2 + task % 2]]
        while True:
            try:
                async with room:
                    number = await store.commit(latest[0], changes, "test", name, 0)
            except Superseded as error:
                latest[0] = error.current
            except StoreUnavailable:  # not acknowledged, and maybe there; the next one has another name
                await asyncio.sleep(0.05)
                break
            else:
                sys.stdout.write(f"{ACK}{number} {name}\n")
                sys.stdout.flush()
                latest[0] = number
                break


async def main(url: str, prefix: str) -> None:
    store = open_store(url, ALL)
    await store.open()
    latest = [0]
    room = asyncio.Semaphore(AT_THE_STORE)
    async with asyncio.TaskGroup() as tasks:
        for task in range(TASKS):
            tasks.create_task(commit_for_ever(store, prefix, task, room, latest))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
