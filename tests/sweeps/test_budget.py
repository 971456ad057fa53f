"""A budget is never overspent, cuts whole runs in the stated order, and what is there is free."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab import flops
from lab.errors import Refused
from lab.store import Index
from sweeps.budget import Limit, Spending, choose, flops_limit, hours_limit
from sweeps.plan import Plan
from sweeps.remaining import Remaining, Work, only, remaining
from sweeps.run import Outcome, run_sweep
from tests.sweeps.small import (
    BRANCH,
    STACK,
    TRUNK,
    csv,
    few,
    files_below,
    index_after,
    planned,
    small_run,
    small_sweep,
    study_file,
)

A_STEP = flops.train_flops(small_run(), 1)
SWEEP = small_sweep(seeds=(5, 3), ratios=(0.0, 0.5, 1.0))
PLAN = planned(SWEEP)  # two trunks of TRUNK steps, three branches of BRANCH off each
ALL = 2 * (TRUNK + 3 * BRANCH)


def steps(count: float) -> list[Limit]:
    return [flops_limit(count * A_STEP)]


def named(runs: Any) -> list[tuple[int, float]]:
    return [(run.values["seed"], run.values["cpt.ratio"]) for run in runs]


def todo(plan: Plan, index: Index | None = None) -> Remaining:
    return remaining(plan, index or Index())


def test_the_last_listed_seed_is_cut_first_and_in_it_the_last_listed_run() -> None:
    kept = TRUNK + 3 * BRANCH + TRUNK + BRANCH
    choice = choose(PLAN, todo(PLAN), steps(kept))
    assert named(choice.taken) == [(5, 0.0), (5, 0.5), (5, 1.0), (3, 0.0)]
    assert named(choice.cut) == [(3, 0.5), (3, 1.0)]
    assert choice.costs == {"--budget-flops": kept * A_STEP}
    less = choose(PLAN, todo(PLAN), steps(kept - 0.5))
    assert named(less.cut) == [(3, 0.0), (3, 0.5), (3, 1.0)]
    assert less.lines() == [
        "arm only: cut 3 runs: seed=3 cpt.ratio=0, seed=3 cpt.ratio=0.5, seed=3 cpt.ratio=1"
    ]


def test_all_is_taken_when_it_just_fits() -> None:
    assert choose(PLAN, todo(PLAN), steps(ALL)).cut == []


@few
@given(st.floats(1, 1.2 * ALL), st.lists(st.sampled_from(range(8)), unique=True))
def test_the_work_that_is_taken_costs_no_more_than_the_budget(
    budget: float, done: list[int]
) -> None:
    whole = index_after(PLAN)
    index = Index()
    for k in done:
        segment = PLAN.segments[k]
        index.states[segment.end_id] = whole.states[segment.end_id]
        index.state_steps.add(segment.stop)
        wanted = set(segment.stop_ids.values())
        index.evaluations |= {k: row for k, row in whole.evaluations.items() if k[0] in wanted}
    missing = todo(PLAN, index)
    try:
        choice = choose(PLAN, missing, steps(budget))
    except Refused:
        assert budget < TRUNK + BRANCH
        return
    work = only(missing.work, choice.work)
    assert sum(one.stop - one.start for one in work) <= budget
    for number, one in enumerate(work):
        assert one.after is None or one.after < number
        parent = PLAN.segments[one.segment].parent
        if one.after is not None:
            assert work[one.after].segment == parent
        elif one.start == PLAN.segments[one.segment].start and parent is not None:
            assert PLAN.segments[parent].end_id in index.states
    assert len(choice.taken) + len(choice.cut) == len(PLAN.runs)


def test_a_run_that_a_paid_trunk_brings_within_reach_is_taken() -> None:
    # the longer branch is listed first and does not fit; the shorter one then pays for the trunk
    sweep = small_sweep(ratios=(0.5,), branch=6, horizons=(2,), cpt__tokens=(6 * 64, 3 * 64))
    plan = planned(sweep)
    choice = choose(plan, todo(plan), steps(TRUNK + 3))
    assert [run.values["cpt.tokens"] for run in choice.taken] == [3 * 64]
    choice = choose(plan, todo(plan), steps(TRUNK + 6))
    assert choice.cut == []


def test_what_is_finished_costs_nothing() -> None:
    choice = choose(PLAN, todo(PLAN, index_after(PLAN)), steps(1e-9))
    assert (choice.cut, choice.costs) == ([], {"--budget-flops": 0.0})


def test_every_piece_of_a_segment_with_holes_is_paid_for() -> None:
    plan = planned(small_sweep(ratios=(0.5,)))
    pieces = [Work(1, TRUNK, TRUNK + 2, [TRUNK + 2]), Work(1, TRUNK + 3, TRUNK + BRANCH, [])]
    whole = Remaining(pieces, [0])
    exact = 2 + BRANCH - 3
    assert choose(plan, whole, steps(exact)).work == {0, 1}
    with pytest.raises(Refused, match="too small for one run"):
        choose(plan, whole, steps(exact - 1))


def test_hours_and_flops_hold_both() -> None:
    hours = hours_limit(10 * A_STEP / 3600, lambda segment: 1.0)  # ten steps at a FLOP a second
    choice = choose(PLAN, todo(PLAN), [*steps(ALL), hours])
    assert named(choice.taken) == [(5, 0.0)]
    assert choice.costs["--budget-hours"] == pytest.approx((TRUNK + BRANCH) * A_STEP / 3600)


def test_a_budget_too_small_for_one_run_is_refused() -> None:
    with pytest.raises(Refused, match=r"^the budget is too small for one run: the cheapest left"):
        choose(PLAN, todo(PLAN), steps(TRUNK + BRANCH - 1))


@pytest.mark.parametrize("amount", [0.0, -1.0, float("nan"), float("inf")])
def test_a_budget_that_is_no_positive_number_is_refused(amount: float) -> None:
    with pytest.raises(Refused, match=r"^--budget-flops .*: must be a positive number$"):
        flops_limit(amount)


# While it runs -------------------------------------------------------------------------------


def spent(out: Path, count: float, said: list[str]) -> Outcome:
    limit = Spending(steps(count), said.append)
    return run_sweep(small_sweep(), out, stack=STACK, quiet=True, limit=limit)


def test_a_sweep_in_two_budgets_gives_the_bits_of_one_at_once(
    tmp_path: Path, whole: Outcome
) -> None:
    said: list[str] = []
    first = spent(tmp_path, TRUNK + BRANCH + 1, said)
    assert first.trained_tokens == (TRUNK + BRANCH) * 64
    assert said[0].startswith("budget: 1 of 2 runs for ")
    assert said[1:] == ["arm only: cut 1 runs: seed=0 cpt.ratio=0.5"]
    second = spent(tmp_path, BRANCH, said)
    assert second.trained_tokens == BRANCH * 64
    assert said[-1] == "the budget pays for every run"
    assert csv(second) == csv(whole)
    assert csv(first) != csv(whole)


def test_what_was_damaged_is_trained_again_only_if_it_still_fits() -> None:
    said: list[str] = []
    spending = Spending(steps(TRUNK + 2 * BRANCH), said.append)
    plan = planned(small_sweep())
    given = spending(plan, todo(plan)).work
    assert sum(one.stop - one.start for one in given) == TRUNK + 2 * BRANCH
    assert spending(plan, todo(plan)).work == []  # all of it was lost; nothing is left to spend
    more = Spending(steps(2 * (TRUNK + BRANCH)), said.append)
    more(plan, todo(plan))
    again = more(plan, todo(plan)).work
    assert sum(one.stop - one.start for one in again) <= 2 * (TRUNK + BRANCH) - TRUNK - 2 * BRANCH


def test_a_budget_that_is_refused_leaves_nothing_on_disk(
    lab_command: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    study = study_file(tmp_path)
    before = files_below(tmp_path)
    for told, why in (
        (("--budget-flops", "9"), "too small for one run"),
        (("--budget-flops", "0"), "must be a positive number"),
        (("--budget-hours", "1"), "no speed was measured on this machine"),
    ):
        code, out, err = lab_command("run", study, "--out", "out", *told)
        assert (code, out) == (2, "")
        assert why in err
        assert err.count("\n") == 1
    assert files_below(tmp_path) == before


def test_plan_says_what_run_will_cut_and_counts_what_the_folder_has(
    lab_command: Callable[..., tuple[int, str, str]],
    told_json: Callable[..., Any],
    tmp_path: Path,
) -> None:
    study = study_file(tmp_path)
    budget = ("--budget-flops", (TRUNK + BRANCH) * A_STEP)
    told = (study, "--out", "out", *budget)
    planned_first = told_json("plan", *told)["budget"]
    assert planned_first["taken"] == 1
    assert planned_first["cut"] == [{"arm": "only", "seed": 0, "cpt.ratio": 0.5}]
    assert planned_first["costs"] == {"--budget-flops": (TRUNK + BRANCH) * A_STEP}
    code, _, err = lab_command("run", *told, "--stack", "2")
    assert code == 0
    assert "lab: arm only: cut 1 runs: seed=0 cpt.ratio=0.5\n" in err
    then = told_json("plan", *told)["budget"]
    assert (then["taken"], then["cut"]) == (2, [])
    assert then["costs"] == {"--budget-flops": BRANCH * A_STEP}


def test_no_limit_leaves_the_work_as_it_is() -> None:
    missing = todo(PLAN)
    assert Spending([], print)(PLAN, missing) is missing
