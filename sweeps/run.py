"""Asks for a sweep, trains what is missing, and hands back its table."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lab import flops
from lab.corpora import Corpus, open_corpus
from lab.errors import Damaged, Failed, Refused
from lab.store import Index
from sweeps.folder import Folder
from sweeps.plan import Plan, corpora_of, make_plan
from sweeps.progress import Display
from sweeps.remaining import Remaining, remaining
from sweeps.results import table
from sweeps.sweep import Sweep

REBUILDS = 8  # damaged states found one after another before we stop believing the disk


@dataclass(frozen=True)
class Outcome:
    """What a run of a sweep left behind."""

    plan: Plan
    index: Index
    results: pd.DataFrame
    trained_tokens: int
    stack: int


def open_corpora(sweep: Sweep, verify: bool = False) -> dict[str, Corpus]:
    """Every corpus of a sweep, by name. Raises Refused."""
    return {name: open_corpus(name, verify) for name in corpora_of(sweep)}


def run_sweep(
    sweep: Sweep,
    out: Path,
    settings: Any = None,
    stack: int | None = None,
    quiet: bool = False,
    say: Callable[[str], None] = lambda line: None,
    limit: Callable[[Plan, Remaining], Remaining] = lambda plan, todo: todo,
) -> Outcome:
    """Train what of `sweep` is missing in `out`; safe to repeat, to kill. Raises Refused, Failed.

    `stack` is fixed when the folder is made, and kept; `say` hears of what was found broken.
    `limit` says what of the missing work is to be done (`sweeps.budget`).
    """
    if stack is not None and stack < 1:
        raise Refused(f"stack = {stack}: must be at least 1 lane")
    folder = Folder(out)
    held = folder.held()
    corpora = open_corpora(sweep, verify=True)
    digests = {name: corpus.digest for name, corpus in corpora.items()}
    folder.refuse_another(sweep, digests)
    plan = make_plan(sweep, corpora)
    plan.refuse_repeats()
    for one in plan.evaluation_sets.values():
        one.tokens()  # too few validation windows are refused before anything is written
    if stack is None:
        stack = held.stack if held is not None else fitting_stack(plan)
    trained = 0
    with folder.locked():
        folder.write(sweep, settings, digests, stack)
        if folder.store.sweep_attempts():
            say("left over from a run that was stopped: removed, nothing of it is lost")
        for _ in range(REBUILDS):
            index = folder.store.load(verify_states=True)
            for line in index.broken:
                say(f"damaged, set aside and trained again from its parent: {line}")
            todo = limit(plan, remaining(plan, index))
            if not todo.work:
                break
            try:
                trained += _train(plan, folder, index, todo.work, stack, quiet)
            except Damaged as damage:
                say(f"{damage}; set aside and trained again from its parent")
        else:
            raise Failed(f"states in {out} keep being damaged: check that disk")
    return Outcome(plan, index, table(plan, index), trained, stack)


def _train(
    plan: Plan, folder: Folder, index: Index, work: list[Any], stack: int, quiet: bool
) -> int:
    from sweeps.engines.local import LocalEngine  # jax: only whoever trains pays for it

    tokens = flops = 0
    for piece in work:
        segment = plan.segments[piece.segment]
        steps = piece.stop - piece.start
        tokens += steps * segment.path.run.tokens_per_step
        flops += segment.flops * steps // (segment.stop - segment.start)
    with Display(tokens, flops, len(work), folder.path, quiet) as display:
        LocalEngine(plan, folder.store, stack, display).train(work, dict(index.states))
    return tokens


def fitting_stack(plan: Plan) -> int:
    """Lanes of a stack for this plan on this machine's devices, when nobody says."""
    from lab.mesh import fitting_lanes

    shapes = plan.groups()
    most = max(flops.train_bytes(model, batch) for model, batch in shapes)
    return min(fitting_lanes(most), max(len(members) for members in shapes.values()))


def default_stack() -> int:
    """Lanes of a stack on this machine's cores; touches no device."""
    from lab.mesh import default_lanes

    return default_lanes()
