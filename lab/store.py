"""Committed segments on disk: append-only, content-addressed, never half-read.

    segments/<end state>.<key>/attempt-<random>/   record.json steps.jsonl evaluations.jsonl state/
                                                   manifest.json
                              /DONE.json           names the attempt that won, and its manifest

An attempt writes into a folder of its own. One marker, made by a link that fails if it exists,
names the winner; without it nothing in the folder is ever read. Every file has a checksum. What is
found broken loses its marker (kept aside as BROKEN-*.json) and is trained again from its parent.
"""

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from lab import checkpoint
from lab.errors import Damaged, Failed
from lab.spec import canonical

SCHEMA = 1
MARKER = "DONE.json"
STATE = "state/"
DROPPED = "STATE-DROPPED"
# What reading files raises that somebody else has changed.
UNREADABLE = (Failed, OSError, ValueError, LookupError, TypeError, AttributeError)


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


@dataclass
class Index:
    """Everything committed, by identity."""

    states: dict[str, Path] = field(default_factory=dict)  # state -> attempt folder
    state_steps: set[int] = field(default_factory=set)
    evaluations: dict[tuple[str, str], EvaluationRow] = field(default_factory=dict)
    diverged: dict[str, int] = field(default_factory=dict)  # bad state -> step of the loss
    step_logs: list[tuple[Record, Path]] = field(default_factory=list)
    provenance: list[dict[str, str | int]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)  # said aloud by whoever loads

    def add(self, record: Record, folder: Path, rows: Iterable[EvaluationRow]) -> None:
        """Take in one committed attempt."""
        for row in rows:
            self.evaluations.setdefault((row.state, row.set), row)
        if record.diverged_step is not None:
            self.diverged[record.end] = record.diverged_step
            self.state_steps.add(record.end_step)
        elif record.state and not (folder / DROPPED).exists():
            self.states.setdefault(record.end, folder)
            self.state_steps.add(record.end_step)
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
    ) -> Path:
        """Write one attempt and mark it done; returns the winner's folder. Raises Failed.

        The caller hears of success only after every byte is on disk.
        """
        asked = sorted((row.state, row.set) for row in evaluations)
        key = sha256(canonical([record.start, record.end, asked]).encode()).hexdigest()[:8]
        segment = self.folder / f"{record.end}.{key}"
        attempt = segment / f"attempt-{secrets.token_hex(6)}"
        try:
            attempt.mkdir(parents=True)
            _write(attempt / "record.json", canonical(asdict(record)))
            _write(attempt / "steps.jsonl", _lines(steps))
            _write(attempt / "evaluations.jsonl", _lines(evaluations))
            if state is not None:
                checkpoint.save(attempt / "state", state)
            manifest = canonical(checkpoint.make_manifest(attempt))
            _write(attempt / "manifest.json", manifest)
            for path in attempt.rglob("*"):
                _sync(path)
            for path in (attempt, segment, self.folder, self.folder.parent):
                _sync(path)
            marker = {"attempt": attempt.name, "manifest": sha256(manifest.encode()).hexdigest()}
            draft = attempt / "marker"
            _write(draft, canonical(marker))
            _sync(draft)
            try:
                os.link(draft, segment / MARKER)
            except FileExistsError:  # another process finished the same segment first
                shutil.rmtree(attempt)
                return segment / json.loads((segment / MARKER).read_text())["attempt"]
            _sync(segment)
            return attempt
        except (OSError, ValueError, RuntimeError) as error:
            shutil.rmtree(attempt, ignore_errors=True)
            raise Failed(_why_not_written(segment, error)) from error

    def load(self, verify_states: bool = False, set_aside: bool = True) -> Index:
        """Read every committed segment; what is damaged is named in `broken` and not used.

        Small files are always checked against their checksums, arrays when `verify_states`.
        `set_aside`: damaged segments lose their marker, to be trained again; else only read.
        """
        index = Index()
        if not self.folder.is_dir():
            return index
        for marker in sorted(self.folder.glob(f"*/{MARKER}")):
            try:
                record, folder, rows = _read_attempt(marker, verify_states)
            except UNREADABLE as error:
                if set_aside:
                    self._set_aside(marker)
                index.broken.append(f"segment {marker.parent.name[:12]}: {error}")
                continue
            index.add(record, folder, rows)
        return index

    def _set_aside(self, marker: Path) -> None:
        with contextlib.suppress(FileNotFoundError):  # set aside already
            os.replace(marker, marker.with_name(f"BROKEN-{secrets.token_hex(4)}.json"))

    def restore(self, folder: Path, abstract: Any) -> Any:
        """The state that an attempt committed, checked. On damage it loses its marker: Damaged."""
        try:
            named = json.loads((folder.parent / MARKER).read_text())
            wrong = checkpoint.damage(folder, _part(_read_manifest(folder, named), STATE))
            if wrong is None:
                return checkpoint.restore(folder / "state", abstract)
        except UNREADABLE as error:
            wrong = str(error)
        self._set_aside(folder.parent / MARKER)
        raise Damaged(f"state {folder.parent.name[:12]} is damaged: {wrong}")

    def drop_state(self, folder: Path) -> None:
        """Remove the arrays of an attempt whose state nobody will continue; its logs stay."""
        # The note comes first: a state half removed is never taken for a whole one.
        _write(folder / DROPPED, "")
        shutil.rmtree(folder / "state", ignore_errors=True)

    def sweep_attempts(self) -> int:
        """Remove attempts that no marker names (of killed processes). Returns how many."""
        removed = 0
        for segment in self.folder.glob("*/") if self.folder.is_dir() else ():
            winner = None
            try:
                winner = json.loads((segment / MARKER).read_text())["attempt"]
            except FileNotFoundError:
                pass
            except UNREADABLE:
                continue  # `load` says what is wrong with it
            for attempt in segment.glob("attempt-*"):
                if attempt.name != winner:
                    shutil.rmtree(attempt, ignore_errors=True)
                    removed += 1
        return removed

    def read_steps(self, folder: Path) -> Iterator[StepRow]:
        """Per-step log of one committed attempt."""
        for line in (folder / "steps.jsonl").read_text().splitlines():
            yield StepRow(**json.loads(line))


def _read_attempt(marker: Path, verify_states: bool) -> tuple[Record, Path, list[EvaluationRow]]:
    named = json.loads(marker.read_text())
    name = str(named["attempt"])
    if "/" in name or "\\" in name or not name.startswith("attempt-"):
        raise Failed("marker names no attempt")
    folder = marker.parent / name
    manifest = _read_manifest(folder, named)
    wrong = checkpoint.damage(folder, _part(manifest))
    if wrong is None and not (folder / DROPPED).exists():
        wrong = checkpoint.damage(folder, _part(manifest, STATE), checksums=verify_states)
    if wrong is not None:
        raise Failed(wrong)
    record = Record(**json.loads((folder / "record.json").read_text()))
    lines = (folder / "evaluations.jsonl").read_text().splitlines()
    return record, folder, [EvaluationRow(**json.loads(line)) for line in lines]


def _read_manifest(folder: Path, named: dict[str, str]) -> checkpoint.Manifest:
    """The manifest of an attempt, held against the checksum that its marker names."""
    text = (folder / "manifest.json").read_text()
    if sha256(text.encode()).hexdigest() != named["manifest"]:
        raise Failed("manifest.json is not what was written (checksum)")
    manifest: checkpoint.Manifest = json.loads(text)
    return manifest


def _part(manifest: checkpoint.Manifest, prefix: str = "") -> checkpoint.Manifest:
    """Files of the state (`prefix` given), or all the others."""
    return {k: v for k, v in manifest.items() if k.startswith(STATE) == (prefix == STATE)}


def _lines(rows: Iterable[Any]) -> str:
    return "".join(canonical(asdict(row)) + "\n" for row in rows)


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _why_not_written(segment: Path, error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if "No space left" in str(error) or getattr(error, "errno", None) == 28:
        return f"disk full while writing to {segment.parent}: free space and run again"
    return f"cannot write to {segment.parent}: {text}"
