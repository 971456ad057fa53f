"""status, merge, gc: what is asked of output folders, or done to them, as a whole."""

import argparse
import sys
from pathlib import Path
from typing import Any

from lab.errors import Refused
from sweeps.commands.reading import open_folder
from sweeps.folder import Folder
from sweeps.gather import merge as bring_in
from sweeps.kept import collect, disk_size, unneeded
from sweeps.notes import read_notes
from sweeps.progress import cost, print_groups
from sweeps.speed import cores, measured
from sweeps.status import status_of
from sweeps.tally import total_left


def status(told: argparse.Namespace) -> Any:
    """How far a sweep is, shape by shape; only reads."""
    folder, held, made = open_folder(told.folder)
    notes = read_notes(folder.path)  # first: what is said to run may be committed by the time
    index = folder.store.load(set_aside=False)
    now = status_of(made, index, notes, measured(folder.path, held.stack, cores()))
    disk_bytes = sum(one.bytes for one in index.held)
    value: dict[str, Any] = {
        name: now.total(name) for name in ("done", "running", "waiting", "diverged")
    }
    value |= {
        "failed": now.failed,
        "segments": now.total("segments"),
        "processes": now.processes,
        "processes_elsewhere": now.elsewhere,
        "workers": [one.row() for one in now.workers],
        "seconds_left": total_left(now.groups),
        "states_kept": len(index.held),
        "disk_bytes": disk_bytes,
        "groups": [one.row() for one in now.groups],
    }
    if not told.json:
        print(
            f"{value['done']} of {value['segments']} segments done, {value['running']} running, "
            f"{value['waiting']} waiting, {value['diverged']} diverged, {value['failed']} damaged"
        )
        print(f"{value['states_kept']} states kept, {disk_size(disk_bytes)}")
        print_groups(now.groups)
        for line in (cost(now.groups), *now.remarks(), *now.worker_lines()):
            print(line)
    return value


def merge(told: argparse.Namespace) -> Any:
    """Bring what is finished in another folder into one."""
    done = bring_in(Folder(Path(told.folder)), Folder(Path(told.other)))
    for line in done.damaged:
        print(f"lab: damaged in {told.other}, left there: {line}", file=sys.stderr)
    for line in done.notes:
        print(f"lab: {line}", file=sys.stderr)
    if not told.json:
        print(
            f"{done.brought} finished pieces ({disk_size(done.bytes)}) brought from {told.other}, "
            f"{done.evaluations} evaluations new, {done.known} pieces known already; "
            f"lab run --out {told.folder} on both sweeps' values trains what neither has"
        )
    return {
        "brought": done.brought,
        "known": done.known,
        "bytes": done.bytes,
        "evaluations": done.evaluations,
        "damaged": done.damaged,
        "notes": done.notes,
    }


def gc(told: argparse.Namespace) -> Any:
    """List what the sweep of a folder needs no more; remove it if told so."""
    folder = Folder(Path(told.folder))
    if folder.held() is None:
        raise Refused(f"{told.folder} holds no sweep")
    if told.delete:
        with folder.locked():
            found = _listed(told.folder)
            collect(folder, found)
    else:
        folder.refuse_busy()
        found = _listed(told.folder)
    size = sum(one.bytes for one in found)
    if not told.json:
        kinds = dict.fromkeys(one.kind for one in found)
        for kind in kinds:
            these = [one for one in found if one.kind == kind]
            print(f"{len(these):>6} {kind}, {disk_size(sum(one.bytes for one in these))}")
        if told.delete:
            print(f"{disk_size(size)} removed")
        elif found:
            print(
                f"{disk_size(size)} could go: --delete removes them. Without its states a sweep "
                "keeps every number, but trains again where it grows"
            )
        else:
            print("nothing could go")
    return {
        "deleted": bool(told.delete),
        "bytes": size,
        "items": [{"path": str(one.path), "bytes": one.bytes, "kind": one.kind} for one in found],
    }


def _listed(path: str) -> Any:
    folder, _, made = open_folder(path)
    index = folder.store.load(verify_states=True, set_aside=False)
    return unneeded(made, index, folder)
