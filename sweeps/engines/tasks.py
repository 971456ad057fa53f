"""What an engine is given of a sweep: tasks, each a stack of segments, and who waits for whom.

A task is a stack of lanes of one shape, which its worker fills once; or refills, where there are so
many segments that each worker would be started again and again (to start takes longer than a short
segment: `lab bench fleet`). Every worker can have a few, so that the last ones even out.

Segments whose parents are trained by one task share tasks, so that each waits for that one alone; a
segment that is its parent's only child goes on in its parent's task. What another task should have
trained and did not, a worker trains itself (`sweeps.run.join_sweep`): the order here saves waiting,
and no result rests on it.
"""

from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass

from lab.spec import Shape
from sweeps.engines.pieces import flops_behind
from sweeps.plan import Plan
from sweeps.remaining import Remaining

TASKS_A_WORKER = 4  # of the segments of one shape that could begin together


@dataclass(frozen=True)
class Task:
    """`segments` by their numbers in the plan, parents first; `after`: numbers of tasks whose
    segments these start from. `way`: FLOPs of the longest chain of segments that starts here."""

    segments: tuple[int, ...]
    after: frozenset[int]
    way: float


def make_tasks(
    plan: Plan,
    todo: Remaining,
    stack: int,
    workers: int,
    handed: Collection[frozenset[int]] = (),
) -> list[Task]:
    """Cut what is to be done into tasks for `workers` of `stack` lanes, the longest way first.

    Tasks whose segments are `handed` over already stay as they are.
    """
    ways = _ways(plan, todo)
    parent = _parents(plan, todo)
    children: dict[int, list[int]] = defaultdict(list)
    for k, above in parent.items():
        if above is not None:
            children[above].append(k)
    owner: dict[int, int] = {}
    cut: list[list[int]] = []

    def own(segments: list[int]) -> None:
        owner.update(dict.fromkeys(segments, len(cut)))
        cut.append(segments)

    for known in handed:
        if left := sorted(known & ways.keys() - owner.keys()):
            own(left)
    level = [k for k, above in parent.items() if above is None]
    while level:
        stacks: dict[tuple[Shape, int | None], list[list[int]]] = defaultdict(list)
        following: list[int] = []
        for k in level:
            chain = [k]
            if k not in owner:
                while len(children[chain[-1]]) == 1 and children[chain[-1]][0] not in owner:
                    chain.append(children[chain[-1]][0])
                above = parent[k]
                key = plan.segments[k].shape, None if above is None else owner[above]
                stacks[key].append(chain)
            following += children[chain[-1]]
        count: Counter[Shape] = Counter()
        for (shape, _), chains in stacks.items():
            count[shape] += len(chains)
        for (shape, _), chains in stacks.items():
            chains.sort(key=lambda chain: -ways[chain[0]])
            size = stack * max(1, -(-count[shape] // (TASKS_A_WORKER * workers * stack)))
            for first in range(0, len(chains), size):
                own([k for chain in chains[first : first + size] for k in chain])
        level = following
    return _ordered(cut, owner, parent, ways)


def _ways(plan: Plan, todo: Remaining) -> dict[int, float]:
    """FLOPs of the longest chain of missing pieces that starts in each segment with some."""
    found: dict[int, float] = {}
    for piece, way in zip(todo.work, flops_behind(plan, todo.work), strict=True):
        found[piece.segment] = max(way, found.get(piece.segment, 0.0))
    return found


def _parents(plan: Plan, todo: Remaining) -> dict[int, int | None]:
    """Of each segment with something missing: the one whose missing end it starts from."""
    found: dict[int, int | None] = {}
    for piece in todo.work:
        found.setdefault(piece.segment, None)
        if piece.after is not None and todo.work[piece.after].segment != piece.segment:
            found[piece.segment] = todo.work[piece.after].segment
    return found


def _ordered(
    cut: list[list[int]],
    owner: dict[int, int],
    parent: dict[int, int | None],
    ways: dict[int, float],
) -> list[Task]:
    """Tasks, the longest way first; a way that starts in a parent is longer than its children's."""
    way = [max(ways[k] for k in segments) for segments in cut]
    order = sorted(range(len(cut)), key=lambda number: (-way[number], number))
    place = {number: k for k, number in enumerate(order)}
    tasks = []
    for number in order:
        above = {parent[k] for k in cut[number]} - {None}
        after = {place[owner[k]] for k in above if k is not None} - {place[number]}
        tasks.append(Task(tuple(sorted(cut[number])), frozenset(after), way[number]))
    return tasks
