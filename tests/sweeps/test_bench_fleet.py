"""The simulation of a fleet: against cases that can be reckoned by hand, and its bound."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lab.store import Index
from sweeps.bench import fleet
from sweeps.bench.fleet import START_SECONDS, Pace, Timed, simulate
from sweeps.engines.tasks import make_tasks
from sweeps.plan import make_plan
from sweeps.remaining import remaining
from sweeps.run import open_corpora
from sweeps.speed import Speed

NEVER = math.inf
NOBODY: frozenset[int] = frozenset()


def timed(seconds: float, order: float = 0.0, after: frozenset[int] = NOBODY) -> Timed:
    return Timed(seconds, after, (order,))


def test_without_failures_a_makespan_is_that_of_the_list() -> None:
    lengths = (8.0, 7.0, 6.0, 5.0, 4.0)
    longest = [timed(one, -one) for one in lengths]
    shortest = [timed(one, one) for one in lengths]
    assert simulate(longest, 2, NEVER, 0, start=0.0).makespan_seconds == 17.0  # 8 5 4 and 7 6
    assert simulate(shortest, 2, NEVER, 0, start=0.0).makespan_seconds == 18.0  # 4 6 8 and 5 7
    course = simulate(longest, 2, NEVER, 0)
    assert course.makespan_seconds == 17.0 + 3 * START_SECONDS
    assert course.idle_seconds == 2 * course.makespan_seconds - 30.0 - 5 * START_SECONDS
    assert (course.failures, course.lost_seconds) == (0, 0.0)


def test_a_branch_waits_for_its_trunk() -> None:
    tasks = [timed(10.0), timed(1.0, after=frozenset([0])), timed(2.0)]
    assert simulate(tasks, 8, NEVER, 0, start=0.0).makespan_seconds == 11.0


def test_failures_cost_what_was_not_committed_and_never_more() -> None:
    tasks = [timed(3600.0) for _ in range(200)]
    whole = simulate(tasks, 10, NEVER, 0)
    failing = simulate(tasks, 10, 4 * 3600.0, 0)
    # 200 hours of work, a failure each four hours of it (and of its starts)
    assert 30 <= failing.failures <= 75
    assert 0 < failing.lost_seconds / failing.failures <= fleet.COMMIT_SECONDS + START_SECONDS
    assert failing.makespan_seconds > whole.makespan_seconds
    assert simulate(tasks, 10, 4 * 3600.0, 0) == failing  # the same seed
    assert simulate(tasks, 10, 4 * 3600.0, 1) != failing


def test_no_order_beats_the_bound_and_the_longest_way_first_loses_least() -> None:
    grid = fleet.fleet_grid(200)
    plan = make_plan(grid, open_corpora(grid))
    pace = Pace(Speed("made up", {1: 1e9}), 0.2)
    lengths = fleet.segment_seconds(plan, pace, 2, np.random.default_rng(0))
    assert sum(lengths) == pytest.approx(sum(one.flops for one in plan.segments) * 2 / 1e9, rel=0.2)
    for workers in (3, 12):
        tasks = make_tasks(plan, remaining(plan, Index()), 2, workers)
        bound = fleet.lower_bound(plan, lengths, workers * 2)
        took = {
            name: simulate(
                fleet.timed_tasks(plan, tasks, lengths, 2, order), workers, NEVER, 0
            ).makespan_seconds
            for name, order in fleet.ORDERS.items()
        }
        assert min(took.values()) >= bound
        assert took["longest way first"] == min(took.values())
        lanes = simulate(fleet.timed_lanes(plan, lengths), workers * 2, NEVER, 0, start=0.0)
        assert bound <= lanes.makespan_seconds <= min(took.values())


def test_recorded_speeds_are_those_of_the_notes(smoke: Path) -> None:
    pace = fleet.pace_of(smoke, stack=2)
    assert f"recorded stretches of {smoke}" in pace.speed.source
    assert len(pace.speed.rates) == 2  # the smoke grid has two shapes
    double = fleet.pace_of(smoke, stack=4)
    twice = {k: 2 * one for k, one in pace.speed.rates.items()}
    assert double.speed.rates == pytest.approx(twice, rel=1e-12)  # means of logs round


def test_its_keys_are_those_that_scripts_lean_on(
    told_json: Callable[..., Any], lab_command: Callable[..., tuple[int, str, str]]
) -> None:
    value = told_json("bench", "fleet", "--runs", 100, "--workers", "2,4")
    assert value["runs"] >= 100
    for row, workers in zip(value["rows"], (2, 4), strict=True):
        assert row["workers"] == workers
        assert set(row["orders"]) == {*fleet.ORDERS, fleet.REFILLED}
        assert all(one["over_bound"] >= 1 for one in row["orders"].values())
    for told in (("--workers", "2,x"), ("--workers", "0"), ("--mtbf", "0"), ("--runs", "0")):
        code, _, errors = lab_command("bench", "fleet", *told)
        assert (code, errors.count("\n")) == (2, 1)
