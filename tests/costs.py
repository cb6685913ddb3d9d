"""What tests hold to a bound of CPU: only work that would cost minutes if it were done wrongly."""

import time
from collections.abc import Callable

RUNS = 3


def costs_less(work: Callable[[], object], than_s: float) -> bool:
    """Whether one of up to three runs of `work` takes less CPU than `than_s` seconds.

    A busy or slow machine makes any single run dearer, so the bound has to be ten times what the work is and a tenth of what it
    guards against; how fast something is, is for `tests/bench`.
    """
    for _ in range(RUNS):
        began_s = time.process_time()
        work()
        if time.process_time() - began_s < than_s:
            return True
    return False
