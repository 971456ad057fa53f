"""What is left to do follows from the plan and from what is committed, and from nothing else."""

from pathlib import Path
from typing import Any

from lab.store import Index
from sweeps.plan import Plan
from sweeps.remaining import remaining
from tests.sweeps.small import BRANCH, STEP, TRUNK, index_after, planned, small_sweep

PLAN = planned(small_sweep(branch=8, horizons=(8,)))
TRUNK_SEGMENT, CONTROL, HALF = range(3)


def pieces(plan: Plan, index: Index) -> list[tuple[Any, ...]]:
    work = remaining(plan, index).work
    return [(one.segment, one.start, one.stop, one.evaluate, one.after) for one in work]


def forget(index: Index, segment: int, *steps: int, state: bool = True) -> None:
    """Lose the evaluations at these steps of a segment, and its end state."""
    lost = {PLAN.segments[segment].stop_ids[step] for step in steps}
    for key in [key for key in index.evaluations if key[0] in lost]:
        del index.evaluations[key]
    if state:
        del index.states[PLAN.segments[segment].end_id]


def test_everything_is_left_when_nothing_is_stored() -> None:
    branch = [TRUNK + 1, TRUNK + 2, TRUNK + 4, TRUNK + 8]
    assert pieces(PLAN, Index()) == [
        (TRUNK_SEGMENT, 0, TRUNK, [0, 1, 2, TRUNK], None),
        (CONTROL, TRUNK, TRUNK + 8, branch, 0),
        (HALF, TRUNK, TRUNK + 8, branch, 0),
    ]


def test_nothing_is_left_when_every_segment_is_committed() -> None:
    todo = remaining(PLAN, index_after(PLAN))
    assert (todo.work, todo.done, todo.diverged) == ([], [0, 1, 2], {})


def test_a_piece_goes_on_from_the_latest_state_before_what_is_missing() -> None:
    index = index_after(PLAN)
    forget(index, HALF, TRUNK + 8)
    path = PLAN.segments[HALF].path
    for step in (5, 7):
        index.states[path.state_id(step)] = index.states[PLAN.segments[0].end_id]
        index.state_steps.add(step)
    assert pieces(PLAN, index) == [(HALF, 7, TRUNK + 8, [TRUNK + 8], None)]
    forget(index, HALF, TRUNK + 2, state=False)
    assert pieces(PLAN, index) == [
        (HALF, 5, TRUNK + 2, [TRUNK + 2], None),
        (HALF, 7, TRUNK + 8, [TRUNK + 8], None),
    ]


def test_a_stored_end_is_evaluated_where_it_stands() -> None:
    index = index_after(PLAN)
    forget(index, HALF, TRUNK + 8, state=False)
    assert pieces(PLAN, index) == [(HALF, TRUNK + 8, TRUNK + 8, [TRUNK + 8], None)]


def test_an_evaluation_on_the_way_is_trained_up_to_and_no_further() -> None:
    index = index_after(PLAN)
    forget(index, HALF, TRUNK + 2, state=False)
    assert pieces(PLAN, index) == [(HALF, TRUNK, TRUNK + 2, [TRUNK + 2], None)]


def test_a_lost_end_state_is_trained_again_without_evaluating_again() -> None:
    index = index_after(PLAN)
    forget(index, TRUNK_SEGMENT)
    assert pieces(PLAN, index) == [(TRUNK_SEGMENT, 0, TRUNK, [], None)]


def test_another_evaluation_set_asks_for_every_stop_again() -> None:
    wider = planned(small_sweep(branch=8, horizons=(8,)))
    object.__setattr__(wider.sweep.evaluate, "windows", 9)
    asked = [stop for _, _, _, stops, _ in pieces(wider, index_after(PLAN)) for stop in stops]
    assert asked == [stop for segment in PLAN.segments for stop in segment.stops]


def test_a_diverged_trunk_settles_its_branches() -> None:
    index = index_after(PLAN)
    forget(index, TRUNK_SEGMENT, TRUNK)
    index.diverged[PLAN.segments[0].path.state_id(3)] = 2
    todo = remaining(PLAN, index)
    assert todo.diverged == dict.fromkeys(range(3), 2)
    assert todo.work == []


def test_an_evaluation_before_a_divergence_can_still_be_had() -> None:
    index = index_after(PLAN)
    forget(index, HALF, TRUNK + 2, TRUNK + 4, TRUNK + 8)
    path = PLAN.segments[HALF].path
    index.diverged[path.state_id(TRUNK + 6)] = TRUNK + 5
    todo = remaining(PLAN, index)
    assert todo.diverged == {HALF: TRUNK + 5}
    stops = [TRUNK + 2, TRUNK + 4]  # and not TRUNK + 8, which lies behind it
    assert pieces(PLAN, index) == [(HALF, TRUNK, TRUNK + 4, stops, None)]


def test_kept_states_are_evaluated_where_they_stand_and_nothing_is_trained() -> None:
    index = index_after(PLAN)
    stops = [TRUNK + 1, TRUNK + 2, TRUNK + 4, TRUNK + 8]
    forget(index, HALF, *stops, state=False)
    for step in stops:
        index.states[PLAN.segments[HALF].path.state_id(step)] = Path("kept")
        index.state_steps.add(step)
    assert pieces(PLAN, index) == [(HALF, step, step, [step], None) for step in stops]


def test_a_collected_end_is_made_again_only_for_a_branch_that_starts_there() -> None:
    index = index_after(PLAN)
    for segment in PLAN.segments:
        del index.states[segment.end_id]
        index.dropped.add(segment.end_id)
    assert remaining(PLAN, index).done == [TRUNK_SEGMENT, CONTROL, HALF]
    forget(index, HALF, TRUNK + 2, state=False)
    assert pieces(PLAN, index) == [
        (TRUNK_SEGMENT, 0, TRUNK, [], None),
        (HALF, TRUNK, TRUNK + 2, [TRUNK + 2], 0),
    ]


def test_a_diverged_branch_leaves_its_sister_alone() -> None:
    index = index_after(PLAN)
    forget(index, HALF, TRUNK + 8)
    index.diverged[PLAN.segments[HALF].path.state_id(TRUNK + 6)] = TRUNK + 5
    todo = remaining(PLAN, index)
    assert todo.diverged == {HALF: TRUNK + 5}
    assert todo.done == [TRUNK_SEGMENT, CONTROL]


def test_divergence_behind_the_end_of_a_shorter_run_does_not_touch_it() -> None:
    short = planned(small_sweep(branch=BRANCH))
    index = index_after(short)
    long = planned(small_sweep(branch=BRANCH + 4))
    at = TRUNK + BRANCH + 1
    index.diverged[long.segments[HALF].path.state_id(at + 1)] = at
    assert remaining(short, index).work == []
    assert set(remaining(long, index).diverged) == {HALF}
    assert long.segments[HALF].tokens == (BRANCH + 4) * STEP
