"""Predictions that are on disk before the runs that can refute them.

Arms that a study calls `later` wait: the others are trained first, the study predicts from them,
the prediction is appended to `foretold.jsonl`, and only then the later arms are trained. A line is
never changed. It says how many steps of the later arms had been trained when it was written: only
with none is it a prediction.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fits.errors
from lab.errors import Failed, Refused
from lab.spec import canonical
from lab.store import Index
from sweeps.plan import Plan
from sweeps.remaining import Remaining, only, remaining
from sweeps.study import Study
from sweeps.sweep import Sweep

if TYPE_CHECKING:
    import pandas as pd

    from fits.report import Table
    from sweeps.run import Outcome

Hook = Callable[[Plan, Remaining], Remaining]  # what of the missing work is to be done

FILE = "foretold.jsonl"
SCHEMA = 1
COLUMNS = ("name", "predicted", "low", "high", "unit", "how")


@dataclass(frozen=True)
class Foretold:
    """One line: rows of COLUMNS, the digest of the table they came from, and whether no step of a
    later arm had been trained by then."""

    rows: list[dict[str, Any]]
    based_on: str
    beforehand: bool


def without(limit: Hook, later: Iterable[str]) -> Hook:
    """A limit of `run_sweep` that leaves out what only the later arms need."""
    arms = set(later)

    def limited(plan: Plan, todo: Remaining) -> Remaining:
        needed = {k for run in plan.runs if run.arm not in arms for k in run.segments}
        taken = {n for n, work in enumerate(todo.work) if work.segment in needed}
        return limit(plan, Remaining(only(todo.work, taken), todo.done, todo.diverged))

    return limited


def run_in_order(
    study: Study,
    settings: Any,
    sweep: Sweep,
    out: Path,
    run: "Callable[[Hook], Outcome]",
    limit: Hook,
    say: Callable[[str], None],
) -> "Outcome":
    """Run a study's sweep: all at once, or the later arms after a prediction. Raises Refused, ...

    Where too little is there to predict from (a budget, diverged runs), the later arms stay
    untrained and it is said.
    """
    later = study.later(settings, sweep)
    if not later or study.predict is None:
        return run(limit)
    if strangers := [arm for arm in later if arm not in sweep.arms]:
        raise Refused(f"later arm {strangers[0]}: the sweep has {', '.join(sweep.arms)}")
    predict = study.predict
    first = run(without(limit, later))
    from lab import hosts

    if hosts.first():
        try:
            rows = write_down(
                out,
                first.plan,
                first.index,
                first.results,
                later,
                lambda earlier: predict(earlier, settings, sweep),
            )
        except fits.errors.Refused as refusal:
            say(f"nothing foretold, so arms {', '.join(later)} wait: {refusal}")
            hosts.agree(False)
            return first
        for row in rows:
            say(_said(row))
        hosts.agree(True)
    elif not hosts.agree(None):
        return first
    then = run(limit)
    if hosts.first() and remaining(then.plan, then.index).work:
        say("the budget ends before the later arms do")
    return dataclasses.replace(then, trained_tokens=first.trained_tokens + then.trained_tokens)


def write_down(
    out: Path,
    plan: Plan,
    index: Index,
    results: "pd.DataFrame",
    later: Iterable[str],
    predict: "Callable[[pd.DataFrame], pd.DataFrame]",
) -> list[dict[str, Any]]:
    """Predict from the earlier arms, append it, and return its rows. Raises Refused, Failed.

    The same rows from the same table are written once.
    """
    arms = set(later)
    earlier = results[~results["arm"].isin(arms)].reset_index(drop=True)
    frame = predict(earlier)
    if list(frame.columns) != list(COLUMNS):
        raise Refused(
            f"the study predicts {', '.join(frame.columns)}; must be {', '.join(COLUMNS)}"
        )
    rows = json.loads(frame.to_json(orient="records", double_precision=15))
    based_on = sha256(earlier.to_csv(index=False).encode()).hexdigest()
    known = read(out)
    if any(one.rows == rows and one.based_on == based_on for one in known):
        return rows
    needed = {k for run in plan.runs if run.arm in arms for k in run.segments}
    shared = {k for run in plan.runs if run.arm not in arms for k in run.segments}
    left = {work.segment for work in remaining(plan, index).work}
    untouched = needed - shared <= left and not _begun(plan, index, needed - shared)
    line = {"schema": SCHEMA, "beforehand": untouched, "based_on": based_on, "rows": rows}
    _append(out / FILE, canonical(line))
    return rows


def _said(row: dict[str, Any]) -> str:
    """A prediction in a line. One of a single seed has no interval."""
    low, high = row["low"], row["high"]
    interval = "no interval" if low is None or high is None else f"{low:.4g} .. {high:.4g}"
    return f"foretold {row['name']}: {row['predicted']:.4g} ({interval}) {row['unit']}"


def _begun(plan: Plan, index: Index, segments: set[int]) -> bool:
    """Whether anything of these segments was evaluated or stored."""
    evaluated = {state for state, _ in index.evaluations}
    for k in segments:
        inside = {s for step, s in plan.segments[k].stop_ids.items() if step > 0}
        if inside & (evaluated | set(index.states)):
            return True
    return False


def _append(file: Path, line: str) -> None:
    try:
        with file.open("a+b") as opened:
            opened.seek(0)
            opened.truncate(opened.read().rfind(b"\n") + 1)  # a line that was cut off
            opened.write(f"{line}\n".encode())
            opened.flush()
            os.fsync(opened.fileno())
    except OSError as error:
        raise Failed(f"cannot write {file}: {error.strerror}") from error


def read(out: Path) -> list[Foretold]:
    """What was written down; a last line without its end is not read. Raises Refused."""
    try:
        lines = (out / FILE).read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise Refused(f"cannot read {out / FILE}: {error}") from None
    found = []
    for number, line in enumerate(lines[:-1], start=1):  # behind the last end: cut off by a kill
        try:
            tree = json.loads(line)
            if tree["schema"] != SCHEMA:
                raise Refused(f"{out / FILE} has schema {tree['schema']}, this lab {SCHEMA}")
            rows = [{name: row[name] for name in COLUMNS} for row in tree["rows"]]
            found.append(Foretold(rows, str(tree["based_on"]), bool(tree["beforehand"])))
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, Refused):
                raise
            raise Refused(f"{out / FILE}, line {number}, is no prediction: {error}") from None
    return found


def compared(known: Sequence[Foretold], measured: "dict[str, float]") -> "Table | None":
    """The prediction against what came: the last that was made beforehand, else the last."""
    import pandas as pd

    from fits.report import Table

    if not known:
        return None
    before = [one for one in known if one.beforehand]
    chosen = (before or list(known))[-1]
    frame = pd.DataFrame(chosen.rows, columns=list(COLUMNS))
    frame.insert(4, "measured", frame["name"].map(measured).astype(float))
    ends = frame[["low", "high"]] = frame[["low", "high"]].astype(float)
    inside = frame["measured"].between(ends["low"], ends["high"]).astype(object)
    judged = frame["measured"].notna() & ends.notna().all(axis="columns")
    frame.insert(5, "inside", inside.where(judged, None))
    caption = (
        "Written down before the runs that measure it."
        if before
        else "These runs were there already when this was written down: no prediction."
    )
    return Table("foretold", caption, frame)
