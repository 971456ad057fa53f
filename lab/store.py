"""Committed segments on disk: append-only, content-addressed, never half-read.

    segments/<end state>.<key>/attempt-<random>/   record.json steps.jsonl evaluations.jsonl state/
                                                   stops/<step>.<state>.npz manifest.json
                              /DONE.json           names the attempt that won, and its manifest

An attempt writes into a folder of its own. One marker, made by a link that fails if it exists,
names the winner; without it nothing in the folder is ever read. Every file has a checksum. What is
found broken loses its marker (kept aside as BROKEN-*.json) and is trained again from its parent.

`state/` is the end of the stretch, `stops/` the states that were evaluated on the way: another
corpus is evaluated on them, another horizon starts from them. They only save work. Nothing is
undone without them, and one that is damaged is removed alone.
"""

import contextlib
import gc
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from lab import checkpoint
from lab.errors import Damaged, Failed, Gone
from lab.spec import canonical

SCHEMA = 1
MARKER = "DONE.json"
STATE = "state/"
STOP = re.compile(r"stops/([0-9]{1,12})\.([0-9a-f]{32})\.npz")  # step, state
DROPPED = "STATE-DROPPED"
TRIES = 3  # to write an attempt that was given up for the time it took
MERGED = re.compile(r"\.merge([0-9]{1,9})$")  # of a segment's name: which merge brought it here
# What reading files raises that somebody else has changed.
UNREADABLE = (
    Failed, OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError
)  # fmt: skip


@dataclass(frozen=True)
class StepRow:
    """One training step: the loss of its batch before the step, its rate and gradient norm."""

    step: int
    loss_nats: float
    lr: float
    grad_norm: float
    tokens: int


@dataclass(frozen=True)
class EvaluationRow:
    """One state on one evaluation set."""

    state: str
    step: int
    set: str
    loss_nats: float
    bits_per_byte: float
    accuracy: float


@dataclass(frozen=True)
class Record:
    """A trained stretch from `start` to `end`. `diverged_step` is the first non-finite loss.

    A diverged record ends in the state after that step (its identity; no arrays are kept). `state`
    says whether the attempt holds the arrays of the end state.
    """

    start: str | None
    start_step: int
    end: str
    end_step: int
    diverged_step: int | None
    state: bool
    provenance: dict[str, str | int]
    schema: int = SCHEMA


@dataclass(frozen=True)
class Held:
    """Arrays of a state on disk. `place` is the attempt whose end it is, or a file of `stops/`."""

    state: str
    step: int
    place: Path
    bytes: int


@dataclass(frozen=True)
class Marker:
    """A segment that is done. `order` is 0, or counts the merges that brought it here."""

    order: int
    path: Path


@dataclass(frozen=True)
class Attempt:
    """What one marker stands for. `spoilt` maps damaged files of `stops/` to what is wrong."""

    record: Record
    folder: Path
    rows: list[EvaluationRow]
    held: list[Held]
    spoilt: dict[Path, str]
    manifest: checkpoint.Manifest


@dataclass
class Index:
    """Everything committed, by identity."""

    states: dict[str, Path] = field(default_factory=dict)  # state -> where its arrays are
    state_steps: set[int] = field(default_factory=set)
    held: list[Held] = field(default_factory=list)  # all arrays, those of one state twice too
    dropped: set[str] = field(default_factory=set)  # ends that were committed and removed since
    evaluations: dict[tuple[str, str], EvaluationRow] = field(default_factory=dict)
    diverged: dict[str, int] = field(default_factory=dict)  # bad state -> step of the loss
    step_logs: list[tuple[Record, Path]] = field(default_factory=list)
    provenance: list[dict[str, str | int]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)  # said aloud by whoever loads
    damaged: set[str] = field(default_factory=set)  # ends of the stretches that are broken
    spoilt: list[str] = field(default_factory=list)  # stops that are damaged: removed, said aloud

    def add(
        self,
        record: Record,
        folder: Path,
        rows: Iterable[EvaluationRow],
        held: Iterable[Held] = (),
    ) -> None:
        """Take in one committed attempt."""
        for row in rows:
            self.evaluations.setdefault((row.state, row.set), row)
        if record.diverged_step is not None:
            self.diverged[record.end] = record.diverged_step
            self.state_steps.add(record.end_step)
        elif record.state and (folder / DROPPED).exists():
            self.dropped.add(record.end)
        for one in held:
            self.held.append(one)
            self.states.setdefault(one.state, one.place)
            self.state_steps.add(one.step)
        if record.end_step > record.start_step:
            self.step_logs.append((record, folder))
        if record.provenance not in self.provenance:
            self.provenance.append(record.provenance)


class Store:
    """The segments of one output folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "segments"

    def commit(
        self,
        record: Record,
        steps: list[StepRow],
        evaluations: list[EvaluationRow],
        state: Any | None,
        stops: Mapping[int, Any] | None = None,
        tries: int = TRIES,
    ) -> Path:
        """Write one attempt and mark it done; returns the winner's folder. Raises Failed.

        `stops` are states on the way, by step; those with a row in `evaluations` are kept. The
        caller hears of success only after every byte is on disk.
        """
        segment = self.folder / segment_name(record, evaluations)
        attempt = segment / f"attempt-{secrets.token_hex(6)}"
        try:
            attempt.mkdir(parents=True)
            _write(attempt / "record.json", canonical(asdict(record)))
            _write(attempt / "steps.jsonl", _lines(steps))
            _write(attempt / "evaluations.jsonl", _lines(evaluations))
            if state is not None:
                checkpoint.save(attempt / "state", state)
            at = {row.step: row.state for row in evaluations}
            for step in sorted(at.keys() & (stops or {}).keys()):
                assert stops is not None
                checkpoint.save_file(attempt / "stops" / f"{step}.{at[step]}.npz", stops[step])
            manifest = canonical(checkpoint.make_manifest(attempt))
            _write(attempt / "manifest.json", manifest)
            return self.mark(attempt, manifest, state is not None)
        except TimeoutError as error:
            # orbax waits by the wall clock: one that jumps ahead ends the wait, not the writing,
            # so this attempt's folder is left to what still writes there
            if tries > 1:
                return self.commit(record, steps, evaluations, state, stops, tries - 1)
            raise Failed(why_not_written(segment, error)) from error
        except (OSError, ValueError, RuntimeError) as error:
            shutil.rmtree(attempt, ignore_errors=True)
            raise Failed(why_not_written(segment, error)) from error

    def mark(self, attempt: Path, manifest: str, state: bool) -> Path:
        """Put an attempt on disk and name it the winner; returns who is. Raises OSError.

        The first attempt wins, unless its arrays were dropped since and this one has them.
        """
        segment = attempt.parent
        for path in attempt.rglob("*"):
            _sync(path)
        for path in (attempt, segment, self.folder, self.folder.parent):
            _sync(path)
        draft = attempt / "marker"
        named = {"attempt": attempt.name, "manifest": sha256(manifest.encode()).hexdigest()}
        _write(draft, canonical(named))
        _sync(draft)
        try:
            os.link(draft, segment / MARKER)
        except FileExistsError:
            winner = _winner(segment / MARKER)
            if winner is not None and not (state and (winner / DROPPED).exists()):
                shutil.rmtree(attempt)
                return winner
            os.replace(draft, segment / MARKER)
        _sync(segment)
        return attempt

    def load(self, verify_states: bool = False, set_aside: bool = True) -> Index:
        """Read every committed segment; what is damaged is named in `broken` and not used.

        Small files are always checked against their checksums, arrays when `verify_states`.
        `set_aside`: damaged segments lose their marker, to be trained again; else only read.
        """
        index = Index()
        with no_cycles_sought():
            for marker in (one.path for one in self.committed()):
                try:
                    one = read_attempt(marker, verify_states)
                except UNREADABLE as error:
                    if set_aside:
                        self._set_aside(marker)
                    index.broken.append(f"segment {marker.parent.name[:12]}: {error}")
                    index.damaged.add(marker.parent.name.partition(".")[0])
                    continue
                index.add(one.record, one.folder, one.rows, one.held)
                for file, wrong in one.spoilt.items():
                    if set_aside:
                        file.unlink(missing_ok=True)
                    index.spoilt.append(f"segment {marker.parent.name[:12]}: {wrong}")
        return index

    def committed(self) -> list[Marker]:
        """Markers in the order in which they are read: of two values of one thing, the first."""
        found = []
        for segment in os.listdir(self.folder) if self.folder.is_dir() else ():
            marker = f"{os.fspath(self.folder)}/{segment}/{MARKER}"
            if os.path.exists(marker):
                brought = MERGED.search(segment)
                found.append(Marker(int(brought[1]) if brought else 0, Path(marker)))
        return sorted(found, key=lambda one: (one.order, str(one.path)))

    def _set_aside(self, marker: Path) -> None:
        with contextlib.suppress(FileNotFoundError):  # set aside already
            os.replace(marker, marker.with_name(f"BROKEN-{secrets.token_hex(4)}.json"))

    def restore(self, place: Path, abstract: Any, set_aside: bool = True) -> Any:
        """The state that is held at a place, checked. On damage it is held no more: Damaged.

        Raises Gone where another process has removed it since it was found here. The folder is
        only read unless `set_aside`.
        """
        at_stop = place.suffix == ".npz"
        segment = (place.parent.parent if at_stop else place).parent
        try:
            folder, manifest = _named(segment / MARKER)
            if at_stop:
                # by name: another attempt may have won since, with the same states
                name = f"stops/{place.name}"
                wrong = checkpoint.damage(folder, {name: manifest[name]})
                if wrong is None:
                    return checkpoint.restore_file(folder / name, abstract)
            else:
                wrong = checkpoint.damage(folder, _arrays(manifest))
                if wrong is None:
                    return checkpoint.restore(folder / "state", abstract)
        except UNREADABLE as error:
            wrong = str(error)
        if not at_stop and (place / DROPPED).exists():
            raise Gone(f"state {segment.name[:12]} was removed since")
        if set_aside and at_stop:
            place.unlink(missing_ok=True)
        elif set_aside:
            self._set_aside(segment / MARKER)
        raise Damaged(f"state {segment.name[:12]} is damaged: {wrong}")

    def drop_state(self, place: Path) -> None:
        """Remove arrays that nobody will continue; the logs of their attempt stay."""
        if place.suffix == ".npz":
            place.unlink(missing_ok=True)
            return
        # The note comes first: a state half removed is never taken for a whole one.
        _write(place / DROPPED, "")
        shutil.rmtree(place / "state", ignore_errors=True)

    def losing_attempts(self) -> list[Path]:
        """Attempts that no marker names (of killed processes), but for those it cannot tell."""
        losing: list[Path] = []
        for segment in sorted(self.folder.glob("*/")) if self.folder.is_dir() else ():
            winner = _winner(segment / MARKER)
            if winner is None and (segment / MARKER).exists():
                continue  # `load` says what is wrong with it
            losing += [one for one in sorted(segment.glob("attempt-*")) if one != winner]
        return losing

    def sweep_attempts(self) -> int:
        """Remove the attempts that no marker names. Returns how many."""
        losing = self.losing_attempts()
        for attempt in losing:
            shutil.rmtree(attempt, ignore_errors=True)
        return len(losing)

    def read_steps(self, folder: Path) -> Iterator[StepRow]:
        """Per-step log of one committed attempt."""
        for line in (folder / "steps.jsonl").read_text().splitlines():
            yield StepRow(**json.loads(line))


@contextlib.contextmanager
def no_cycles_sought() -> Iterator[None]:
    """Without the search for cycles: a fifth of the time of loading rows, which have none."""
    searching = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if searching:
            gc.enable()


def segment_name(record: Record, rows: Iterable[EvaluationRow]) -> str:
    """Name of a segment's folder: where it ends, and a key of its start and of what it asked."""
    asked = sorted((row.state, row.set) for row in rows)
    key = sha256(canonical([record.start, record.end, asked]).encode()).hexdigest()[:8]
    return f"{record.end}.{key}"


def read_attempt(marker: Path, verify_states: bool) -> Attempt:
    """The attempt that a marker names, checked. Raises one of UNREADABLE."""
    folder, manifest = _named(marker)
    dropped = os.path.exists(f"{os.fspath(folder)}/{DROPPED}")
    record = Record(**json.loads(checkpoint.read_checked(folder, "record.json", manifest)))
    lines = checkpoint.read_checked(folder, "evaluations.jsonl", manifest).splitlines()
    rows = [EvaluationRow(**row) for row in json.loads(b"[%s]" % b",".join(lines))]
    arrays = _arrays(manifest)
    stops = {name: file for name, file in manifest.items() if STOP.fullmatch(name)}
    others = manifest.keys() - {"record.json", "evaluations.jsonl", *arrays, *stops}
    wrong = checkpoint.damage(folder, {name: manifest[name] for name in sorted(others)})
    if wrong is None and not dropped:
        wrong = checkpoint.damage(folder, arrays, checksums=verify_states)
        if wrong is not None and (folder / DROPPED).exists():  # while it was looked at
            wrong, dropped = None, True
    if wrong is not None:
        raise Failed(wrong)
    if record.schema != SCHEMA:
        raise Failed(f"record has schema {record.schema}, this lab {SCHEMA}")
    held: list[Held] = []
    if record.state and not dropped:
        size = sum(file["bytes"] for file in arrays.values())
        held.append(Held(record.end, record.end_step, folder, size))
    spoilt: dict[Path, str] = {}
    for name, file in stops.items():
        wrong = checkpoint.damage(folder, {name: file}, checksums=verify_states)
        if wrong is None and (matched := STOP.fullmatch(name)):
            held.append(Held(matched[2], int(matched[1]), folder / name, file["bytes"]))
        elif wrong is not None and (folder / name).exists():  # else it was collected
            spoilt[folder / name] = wrong
    return Attempt(record, folder, rows, held, spoilt, manifest)


def _named(marker: Path) -> tuple[Path, checkpoint.Manifest]:
    """The attempt that a marker names, and its manifest held against the marker's checksum."""
    named = json.loads(_read(os.fspath(marker)))
    name = str(named["attempt"])
    if "/" in name or "\\" in name or not name.startswith("attempt-"):
        raise Failed("marker names no attempt")
    folder = marker.parent / name
    text = _read(f"{os.fspath(folder)}/manifest.json")
    if sha256(text).hexdigest() != named["manifest"]:
        raise Failed("manifest.json is not what was written (checksum)")
    manifest: checkpoint.Manifest = json.loads(text)
    return folder, manifest


def _winner(marker: Path) -> Path | None:
    """The attempt that a marker names, whole or not; None if there is no marker to be read."""
    try:
        return marker.parent / str(json.loads(marker.read_text())["attempt"])
    except UNREADABLE:
        return None


def _arrays(manifest: checkpoint.Manifest) -> checkpoint.Manifest:
    """Files of the end state."""
    return {name: file for name, file in manifest.items() if name.startswith(STATE)}


def _lines(rows: Iterable[Any]) -> str:
    return "".join(canonical(asdict(row)) + "\n" for row in rows)


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read()


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def why_not_written(segment: Path, error: Exception) -> str:
    """One line about a commit that failed."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if "No space left" in str(error) or getattr(error, "errno", None) == 28:
        return f"disk full while writing to {segment.parent}: free space and run again"
    return f"cannot write to {segment.parent}: {text}"
