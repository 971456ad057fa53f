"""Attempts that somebody else wrote: a folder that is merged, objects of a bucket.

Nothing of them is believed but their numbers. Names of files are those that an attempt may have,
records are of this lab's schema and name states, steps are counts.
"""

import dataclasses
import re
from pathlib import Path

from lab.checkpoint import Manifest
from lab.errors import Failed
from lab.spec import read
from lab.store import STOP, Attempt, EvaluationRow

SMALL = {"record.json", "steps.jsonl", "evaluations.jsonl"}
IDENTITY = re.compile(r"[0-9a-f]{32}")


def refuse_unsound(one: Attempt) -> None:
    """Raise Failed, Refused where an attempt holds what no attempt of this lab does."""
    record = one.record
    for row in one.rows:
        read(EvaluationRow, dataclasses.asdict(row), "evaluation")
    states = [
        record.end,
        *(row.state for row in one.rows),
        *([record.start] if record.start else []),
    ]
    if not all(isinstance(state, str) and IDENTITY.fullmatch(state) for state in states):
        raise Failed("record names no state")
    steps = [record.start_step, record.end_step, record.diverged_step or 0]
    if not all(type(step) is int and step >= 0 for step in steps):
        raise Failed("record has no steps")
    refuse_names(one.manifest)


def refuse_names(manifest: Manifest) -> None:
    """Raise Failed where a manifest lists a file that an attempt does not have."""
    for name in manifest:
        part = Path(name).parts
        inside = name in SMALL or STOP.fullmatch(name) or part[:1] == ("state",)
        if not inside or ".." in part or "\\" in name:
            raise Failed(f"{name!r} is no file of an attempt")
