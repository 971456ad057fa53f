"""Plan against actual, and a row for every planned run."""

from typing import TYPE_CHECKING, Any

from lab.flops import parameters
from lab.store import Index
from sweeps.plan import Plan
from sweeps.progress import count
from sweeps.remaining import remaining
from sweeps.results import axis_columns
from sweeps.tally import tokens_before

if TYPE_CHECKING:
    import pandas as pd

    from fits.report import Table

LONGEST = 40  # letters of a swept value that are shown: a schedule stands in the specification


def planned_and_there(plan: Plan, index: Index, results: "pd.DataFrame") -> "Table":
    """What was planned against what the folder holds."""
    import pandas as pd

    from fits.report import Table

    todo = remaining(plan, index)
    missing: dict[int, int] = {}  # segment -> steps that are not committed
    for work in todo.work:
        missing[work.segment] = missing.get(work.segment, 0) + work.stop - work.start
    tokens = [0, 0]
    flops = [0, 0]
    evaluations = [0, 0]
    for k, segment in enumerate(plan.segments):
        step = segment.path.run.tokens_per_step
        if k in todo.diverged:
            there = tokens_before(segment, todo.diverged[k])
        else:
            there = segment.tokens - missing.get(k, 0) * step
        sets = [one.set_id for one in plan.sets_for(segment.path.run)]
        wanted = [(state, one) for state in segment.stop_ids.values() for one in sets]
        for kind, planned, actual in (
            (tokens, segment.tokens, there),
            (flops, segment.flops, segment.flops * there // segment.tokens),
            (evaluations, len(wanted), sum(one in index.evaluations for one in wanted)),
        ):
            kind[0] += planned
            kind[1] += actual
    states: dict[Any, int] = {}
    if len(results):
        states = dict(results.drop_duplicates(["arm", "run"])["status"].value_counts())
    ill = ", ".join(f"{number} {name}" for name, number in states.items() if name != "done")
    ended = len(todo.diverged)
    rows = [
        ("runs", str(len(plan.runs)), str(states.get("done", 0)), ill),
        (
            "segments",
            str(len(plan.segments)),
            str(len(todo.done)),
            f"{ended} ended by divergence" if ended else "",
        ),
        ("training tokens", count(tokens[0]), count(tokens[1]), _share(tokens)),
        ("training FLOPs", f"{flops[0]:.3g}", f"{flops[1]:.3g}", _share(flops)),
        ("evaluations", f"{evaluations[0]:,}", f"{evaluations[1]:,}", _share(evaluations)),
    ]
    frame = pd.DataFrame(rows, columns=["what", "planned", "there", "note"])
    caption = "What the plan asks for, prefixes that runs share counted once, and what is there."
    return Table("plan and actual", caption, frame)


def _share(kind: list[int]) -> str:
    planned, there = kind
    return "all" if planned == there else f"{100 * there / max(planned, 1):.3g} % of it"


def runs_table(plan: Plan, results: "pd.DataFrame") -> "Table":
    """A row for each planned run: arm, seed, swept values, cost, status, losses at its end.

    A run that several arms ask for is one row. `run` is its name in the results.
    """
    import pandas as pd

    from fits.report import Table

    rows: dict[str, dict[str, Any]] = {}
    for run in plan.runs:
        spec = run.path.run
        name = plan.segments[run.segments[-1]].end_id[:12]
        if name in rows:
            rows[name]["arm"] += f", {run.arm}"
            continue
        rows[name] = {
            "run": name,
            "arm": run.arm,
            "seed": spec.seed,
            **{key: one for key, one in axis_columns(run.values).items() if key != "seed"},
            "parameters": parameters(spec.model).total,
            "tokens": spec.steps * spec.tokens_per_step,
            "status": "not trained",
        }
    frame = pd.DataFrame(list(rows.values()))
    dull = [
        name
        for name in frame.columns[3:-3]
        if frame[name].astype(str).nunique() == 1
        or frame[name].astype(str).str.len().max() > LONGEST
    ]
    frame = frame.drop(columns=dull)
    if len(results):
        own = results if "average" not in results else results[results["average"] == ""]
        known = own.drop_duplicates("run").set_index("run")["status"]
        frame["status"] = frame["run"].map(known).fillna(frame["status"])
        last = own.sort_values("step", kind="stable").drop_duplicates(
            ["run", "corpus"], keep="last"
        )
        for corpus in plan.sweep.evaluate.corpora:
            losses = last[last["corpus"] == corpus].set_index("run")["loss_nats"]
            frame[f"loss {corpus}"] = frame["run"].map(losses)
    caption = (
        "Every planned run, with its losses (nats/token) at its last evaluated state. What all "
        "runs share and whole schedules stand in the specification."
    )
    return Table("runs", caption, frame)
