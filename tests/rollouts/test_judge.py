from __future__ import annotations

from typing import Any

from extproc.rollouts.judge import Look, Progress, alike, begun, measured
from extproc.rollouts.plan import Metric, read_plan
from extproc.rollouts.samples import ArmSample, Moments, Pair, Times
from tests.rollouts.arms import arm, look

EMPTY = Look(Pair())


def metric(measure: str = "ttft", **more: Any) -> Metric:
    compare = {"measure": measure, **more}
    plan = read_plan(
        {
            "baseline": "a",
            "canary": "b",
            "steps": [{"setWeight": 5}],
            "metrics": [{"name": "m", "interval": 1, "compare": compare}],
        }
    )
    return plan.metrics["m"]


def through(asked: Metric, looks: list[Look], *, novel: bool = False, progress: Progress | None = None) -> Progress:
    progress = begun(asked, 0.0, EMPTY) if progress is None else progress
    for now_s, seen in enumerate(looks):
        progress = measured(asked, progress._replace(next_s=0.0), seen, float(now_s), 0.05, novel=novel)
    return progress


def rising(canary_s: float, to: int = 400, by: int = 40, baseline_s: float = 1.0, cell: str = "") -> list[Look]:
    """Totals as they grow, look by look."""
    return [look(arm(n, mean_s=canary_s, cell=cell), arm(n, mean_s=baseline_s, cell=cell)) for n in range(by, to + 1, by)]


def test_slower_in_words() -> None:
    progress = through(metric(), rising(1.3))
    assert progress.phase == "Failed"
    assert progress.words.startswith("the canary takes +30 % to the first token (+")
    assert "it is slower, evidence " in progress.words
    assert progress.words.endswith("where 20 is enough")


def test_as_fast_ends_as_soon_as_it_is_sure() -> None:
    progress = through(metric(), rising(1.0, to=4000, by=100))
    assert progress.phase == "Successful"
    assert progress.words.endswith("surely not 10 % slower")
    assert progress.measured < 40


def test_nothing_is_said_of_few_samples() -> None:
    progress = through(metric(minimumSamples=200), rising(3.0, to=199, by=33))
    assert (progress.phase, progress.last, progress.measured) == ("", "Pending", 0)
    assert progress.words.startswith("198 requests of the canary and 198 of the baseline to compare, 200 of each")


def test_more_errors_in_words() -> None:
    looks = [look(arm(n, n // 10), arm(n, n // 100)) for n in range(20, 401, 20)]
    progress = through(metric("error_rate"), looks)
    assert progress.phase == "Failed"
    assert "of the baseline (+" in progress.words
    assert "the canary fails more often, evidence" in progress.words


def test_a_new_canary_is_slow_and_that_does_not_count_but_its_errors_do() -> None:
    cold = rising(5.0)
    assert through(metric(), cold, novel=True).last == "Pending"
    progress = through(metric(), cold, novel=True)
    last = cold[-1].totals.canary.ttft.cells[""]
    later = [
        look(
            ArmSample(400 + n, ttft=Times({"": last.plus(Moments(n, 0.0, 0.09 * (n - 1)))})),
            ArmSample(400 + n, ttft=Times({"": arm(400 + n).ttft.cells[""]})),
        )
        for n in range(40, 1000, 40)
    ]
    assert through(metric(), later, progress=progress).phase != "Failed", "what came while it was new is not in it"
    failing = [look(arm(n, n // 2), arm(n)) for n in range(20, 201, 20)]
    assert through(metric("error_rate"), failing, novel=True).phase == "Failed"


def test_what_came_before_it_began_does_not_count() -> None:
    before = rising(5.0)[-1]
    asked = metric()
    progress = measured(asked, begun(asked, 0.0, before), before, 0.0, 0.05)
    assert (progress.times.canary, progress.last) == (0, "Pending")


def test_a_process_that_counts_anew_is_counted_on() -> None:
    once = through(metric(), rising(1.0, to=80, by=40))
    twice = through(metric(), rising(1.0, to=80, by=40), progress=once)
    assert (once.times.canary, twice.times.canary) == (80, 160)


def test_few_requests_wait_for_more_to_make_a_block() -> None:
    progress = through(metric(), [look(arm(n), arm(n)) for n in range(1, 20)])
    assert progress.times.canary == 0
    assert through(metric(), [look(arm(20), arm(20))], progress=progress).times.canary == 20


def test_cells_fall_together_in_what_is_not_held() -> None:
    cells = {"0|0": Moments(1, 0.0, 0.0), "0|1": Moments(1, 2.0, 0.0), "1|1": Moments(1, 5.0, 0.0)}
    assert set(alike(cells, ("hit_fraction", "queue"))) == {"0|0", "0|1", "1|1"}
    assert alike(cells, ("hit_fraction",)) == {"0|": Moments(2, 1.0, 2.0), "1|": Moments(1, 5.0, 0.0)}
    assert alike(cells, ())["|"].n == 3


def test_a_cold_canary_is_for_people_where_requests_are_not_sorted_by_hits() -> None:
    def unlike(seen: Look) -> Look:
        canary = seen.totals.canary._replace(hit_fraction=Moments(100, 0.1, 1.0))
        baseline = seen.totals.baseline._replace(hit_fraction=Moments(100, 0.8, 1.0))
        return Look(Pair(canary, baseline))

    looks = [unlike(each) for each in rising(1.5)]
    progress = through(metric(), looks)
    assert progress.phase == "Inconclusive"
    assert progress.words.endswith("but its prompts were cached to 10 % and the baseline's to 80 %")
    assert through(metric(hold=[]), looks).phase == "Failed"
    sorted_by_hits = [unlike(each) for each in rising(1.5, cell="0|0")]
    assert through(metric(), sorted_by_hits).phase == "Failed"
