"""Cutting a sweep into tasks: each segment once, of one shape, never more than a stack."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from lab.store import Index
from sweeps.engines.tasks import Task, make_tasks
from sweeps.plan import Plan
from sweeps.remaining import remaining
from tests.sweeps.small import few, planned, small_sweep

STACK = 2


def tasks_of(
    plan: Plan, index: Index | None = None, stack: int = STACK, workers: int = 8
) -> list[Task]:
    return make_tasks(plan, remaining(plan, index or Index()), stack, workers)


@given(
    seeds=st.integers(1, 3),
    ratios=st.integers(1, 5),
    widths=st.sampled_from([(8,), (8, 16)]),
    stack=st.integers(1, 4),
)
@few
def test_every_segment_is_in_one_task_of_its_shape_behind_its_parents(
    seeds: int, ratios: int, widths: tuple[int, ...], stack: int
) -> None:
    shares = tuple(k / 8 for k in range(ratios))
    plan = planned(small_sweep(range(seeds), shares, model__width=widths))
    tasks = tasks_of(plan, stack=stack)
    owner = {k: n for n, task in enumerate(tasks) for k in task.segments}
    assert sorted(k for task in tasks for k in task.segments) == list(range(len(plan.segments)))
    for number, task in enumerate(tasks):
        assert len({plan.segments[k].shape for k in task.segments}) == 1
        parents = [plan.segments[k].parent for k in task.segments]
        begins = [p for p in parents if p is None or owner[p] != number]
        assert 1 <= len(begins) <= stack  # chains, each of which takes one lane
        assert task.after == {owner[p] for p in begins if p is not None}
        assert len(task.after) <= 1
        assert all(above < number for above in task.after)
    assert [one.way for one in tasks] == sorted((one.way for one in tasks), reverse=True)


def test_branches_of_one_trunk_wait_for_it_and_share_stacks() -> None:
    plan = planned(small_sweep(ratios=(0.0, 0.25, 0.5, 0.75, 1.0)))
    tasks = tasks_of(plan)
    assert [len(one.segments) for one in tasks] == [1, 2, 2, 1]
    assert [sorted(one.after) for one in tasks] == [[], [0], [0], [0]]
    own = plan.segments[0].flops
    assert tasks[0].way == own + tasks[1].way


def test_an_only_child_goes_on_in_its_parents_task() -> None:
    plan = planned(small_sweep(seeds=(0, 1, 2), ratios=(0.5,)))
    tasks = tasks_of(plan)
    assert [(len(one.segments), one.after) for one in tasks] == [(4, set()), (2, set())]


def test_what_is_handed_over_stays_together_and_its_children_wait_for_it() -> None:
    plan = planned(small_sweep(seeds=(0, 1), ratios=(0.0, 0.5)))
    todo = remaining(plan, Index())
    trunks = [k for k, one in enumerate(plan.segments) if one.parent is None]
    branches = [k for k, one in enumerate(plan.segments) if one.parent == trunks[0]]
    handed = [frozenset([trunks[0]]), frozenset([branches[1]])]
    tasks = make_tasks(plan, todo, STACK, 8, handed)
    place = {frozenset(one.segments): k for k, one in enumerate(tasks)}
    assert set(handed) <= place.keys()
    assert tasks[place[frozenset([branches[0]])]].after == {place[handed[0]]}
    assert tasks[place[handed[1]]].after == {place[handed[0]]}
    assert tasks[place[frozenset([trunks[1]])]].after == set()


def test_done_parents_are_waited_for_by_nobody() -> None:
    plan = planned(small_sweep(ratios=(0.0, 0.5)))
    index = Index()
    trunk = plan.segments[0]
    index.states[trunk.end_id] = Path("there")
    index.state_steps.add(trunk.stop)
    tasks = tasks_of(plan, index)
    branches = [one for one in tasks if 0 not in one.segments]
    assert [one.after for one in branches] == [set()]


def test_many_short_segments_refill_a_stack_and_every_worker_has_a_few_tasks() -> None:
    plan = planned(small_sweep(ratios=tuple(k / 32 for k in range(32))))
    trunk, *branches = tasks_of(plan, workers=2)
    assert len(trunk.segments) == 1
    assert [len(one.segments) for one in branches] == [4] * 8  # two rounds of two lanes
    assert len(tasks_of(plan, workers=8)) == 1 + 16
