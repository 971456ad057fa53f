"""States on disk: which are kept, what they take, and which nobody needs any more.

Kept is every state that the sweep evaluates, whole: another corpus is evaluated on it, another
horizon starts from it, and neither trains what is there. That takes 12 bytes a parameter and state.
Once a sweep is not to grow any more, only the states that its unfinished branches start from are
needed, and those that are still to be averaged; `lab gc` lists the others, and removes them if it
is told so.
"""

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lab import flops
from lab.store import Index
from sweeps.averaging import left_to_average
from sweeps.folder import Folder
from sweeps.plan import Plan
from sweeps.remaining import remaining

STORED_BYTES = 12  # a parameter: itself and two moments of the optimizer, float32

LOSING = "attempts of runs that were stopped"
PARTIAL = "files that were never finished"
STATE = "states that no unfinished branch starts from"


@dataclass(frozen=True)
class Unneeded:
    """Something in a folder that can go: how many bytes, and which of the kinds above."""

    path: Path
    bytes: int
    kind: str


def to_keep(plan: Plan) -> tuple[int, int]:
    """States that a sweep will keep, and the bytes they take on disk. Touches nothing."""
    states = size = 0
    for segment in plan.segments:
        count = len({*segment.stops, segment.stop} - {0})  # what is drawn is not kept
        states += count
        size += count * STORED_BYTES * flops.parameters(segment.path.run.model).total
    return states, size


def unneeded(plan: Plan, index: Index, folder: Folder) -> list[Unneeded]:
    """What the sweep of a folder can do without. Only reads; ask while nobody trains into it."""
    found = [Unneeded(one, _size(one), LOSING) for one in folder.store.losing_attempts()]
    found += [Unneeded(one, _size(one), PARTIAL) for one in _partial(folder)]
    needed = {
        index.states[state]
        for work in remaining(plan, index).work
        if (state := plan.segments[work.segment].path.state_id(work.start)) in index.states
    }
    needed |= {
        index.states[state]
        for one in left_to_average(plan, index)
        for state in one.members
        if state in index.states
    }
    found += [
        Unneeded(one.place, one.bytes, STATE) for one in index.held if one.place not in needed
    ]
    return found


def collect(folder: Folder, which: Iterable[Unneeded]) -> None:
    """Remove what `unneeded` found. Hold the folder's lock."""
    for one in which:
        if one.kind == STATE:
            folder.store.drop_state(one.path)
        elif one.path.is_dir():
            shutil.rmtree(one.path, ignore_errors=True)
        else:
            one.path.unlink(missing_ok=True)


def disk_size(size: int) -> str:
    """Bytes as people read them: 950 B, 41.6 kB, 1.2 TB."""
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:,.1f} TB"


def _partial(folder: Folder) -> list[Path]:
    """What `fits.files.write_whole` was killed over."""
    return sorted(
        path
        for place in (folder.path, folder.path / "tables", folder.path / "figures")
        for path in place.glob(".*.partial")
    )


def _size(path: Path) -> int:
    if path.is_file():
        return path.lstat().st_size
    return sum(
        (Path(place) / name).lstat().st_size for place, _, names in os.walk(path) for name in names
    )
