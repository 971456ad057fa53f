"""Two folders of one study made one: what is finished in the other is copied in, checked.

Nothing of the other folder is believed but its numbers: names of files are those an attempt may
have, sizes and checksums hold for the copy, and records are of this lab's schema. The folder's own
attempts win: what it said before a merge, it says after it. Copies stand in segments of their own,
`<end state>.<key>.merge<n>`, which `lab.store` reads after all others, in the order of n.
Provenance travels in the records.
"""

import secrets
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from lab import checkpoint
from lab.errors import Failed, Refused
from lab.foreign import SMALL, refuse_unsound
from lab.spec import canonical
from lab.store import (
    DROPPED,
    STATE,
    STOP,
    UNREADABLE,
    Attempt,
    Index,
    read_attempt,
    segment_name,
    why_not_written,
)
from sweeps.folder import Folder


@dataclass
class Merged:
    """What a merge did. `damaged` says, a line each, what of the other folder was left there."""

    brought: int = 0  # attempts
    known: int = 0
    bytes: int = 0
    evaluations: int = 0  # that the folder did not have
    damaged: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def merge(folder: Folder, other: Folder) -> Merged:
    """Bring the finished attempts of `other` into `folder`. Raises Refused, Failed.

    `other` is only read. A folder that is empty takes over what the other says it holds.
    """
    if folder.path.resolve() == other.path.resolve():
        raise Refused(f"{folder.path} and {other.path} are one folder")
    theirs = other.held()
    if theirs is None:
        raise Refused(f"{other.path} holds no sweep")
    ours = folder.held()
    out = Merged()
    if ours is not None:
        difference = folder.difference(theirs.sweep, theirs.digests)
        if difference is not None:
            raise Refused(f"{folder.path} and {other.path} hold different sweeps: {difference}")
        if ours.stack != theirs.stack:
            out.notes.append(
                f"{folder.path} was trained with stack {ours.stack}, {other.path} with "
                f"{theirs.stack}: their bits differ by rounding, and the report says so"
            )
    says = ours or theirs
    with folder.locked():
        folder.write(says.sweep, says.settings, theirs.digests, says.stack)
        index = folder.store.load(set_aside=False)
        first = 1 + max((one.order for one in folder.store.committed()), default=0)
        for marker in other.store.committed():
            try:
                one = read_attempt(marker.path, verify_states=False)
                refuse_unsound(one)
            except UNREADABLE as error:
                out.damaged.append(f"segment {marker.path.parent.name[:12]}: {error}")
                continue
            if _known(one, index):
                out.known += 1
                continue
            wrong = _bring(one, folder, first + marker.order, out)
            if wrong is not None:
                out.damaged.append(f"segment {marker.path.parent.name[:12]}: {wrong}")
                continue
            out.evaluations += sum((r.state, r.set) not in index.evaluations for r in one.rows)
            index.add(one.record, one.folder, one.rows, one.held)
    return out


def _known(one: Attempt, index: Index) -> bool:
    """Whether an attempt holds nothing that is not there."""
    record = one.record
    ends = {*index.states, *index.dropped, *index.diverged}
    return (
        all((row.state, row.set) in index.evaluations for row in one.rows)
        and all(held.state in index.states for held in one.held)
        and (record.end in ends or record.start_step == record.end_step)
    )


def _bring(one: Attempt, folder: Folder, order: int, out: Merged) -> str | None:
    """Copy an attempt, check the copy and mark it; what is wrong with it, or None."""
    held = {file.place.name if file.place.suffix == ".npz" else "state" for file in one.held}
    names = [name for name in one.manifest if name in SMALL]
    names += [name for name in one.manifest if name.startswith(STATE) and "state" in held]
    names += [name for name in one.manifest if STOP.fullmatch(name) and Path(name).name in held]
    files = {name: one.manifest[name] for name in names}
    segment = folder.store.folder / f"{segment_name(one.record, one.rows)}.merge{order}"
    attempt = segment / f"attempt-{secrets.token_hex(6)}"
    try:
        attempt.mkdir(parents=True)
        for name in files:
            if (one.folder / name).resolve() != one.folder.resolve() / name:
                shutil.rmtree(attempt)
                return f"{name} is a link"
            (attempt / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(one.folder / name, attempt / name)
        wrong = checkpoint.damage(attempt, files)
        if wrong is not None:
            shutil.rmtree(attempt)
            return wrong
        if one.record.state and "state" not in held:
            (attempt / DROPPED).touch()
        manifest = canonical(one.manifest)
        (attempt / "manifest.json").write_text(manifest, encoding="utf-8")
        folder.store.mark(attempt, manifest, "state" in held)
    except OSError as error:
        shutil.rmtree(attempt, ignore_errors=True)
        raise Failed(why_not_written(segment, error)) from error
    out.brought += 1
    out.bytes += sum(file["bytes"] for file in files.values())
    return None
