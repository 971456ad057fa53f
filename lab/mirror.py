"""A store that shares what it holds through a bucket. The folder is the working copy.

    PREFIX/segments/<end state>.<key>/attempt-<random>/...    as in the folder, name by name
                                     /DONE.json               put if absent, when all else is there

The store on disk stays as it is. What is committed goes up, its marker last; the first marker of a
segment wins, and who comes second takes over what it names. What others committed comes down when
the store is read: records, logs and evaluations at once, arrays when somebody starts from them.
Until then their attempt is noted DROPPED here, with the word AWAY in the note. A folder into which
the prefix is copied by any tool is a sweep's folder.

What comes down is believed no more than what a disk gives back: checksums of the marker and of its
manifest, sizes against the listing, names of files that an attempt may have. An attempt that is
damaged there loses its marker there (BROKEN-*.json), and is trained again, or goes up once more
from a working copy that has it whole.
"""

import fcntl
import json
import os
import re
import secrets
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lab import checkpoint
from lab.brought import (
    ATTEMPT,
    AWAY,
    FILE,
    MANIFEST,
    MARKER_BYTES,
    SEGMENTS,
    Files,
    Unwritable,
    bring_down,
    write_whole,
)  # fmt: skip
from lab.bucket import Away, Bucket, all_at_once
from lab.errors import Damaged, Failed, Gone
from lab.store import (
    DROPPED,
    MARKER,
    STATE,
    STOP,
    TRIES,
    UNREADABLE,
    EvaluationRow,
    Held,
    Index,
    Record,
    StepRow,
    Store,
    why_not_written,
)

LOCK_FILE = ".mirror.lock"
SEGMENT = re.compile(r"[0-9a-f]{32}\.[0-9a-f]{8}(\.merge[0-9]{1,9})?")
SLACK_BYTES = 2**24  # of what stands around a state's arrays on disk


class MirroredStore(Store):
    """The segments of a sweep whose truth is in a bucket."""

    def __init__(self, folder: Path, bucket: Bucket) -> None:
        super().__init__(folder)
        self.bucket = bucket
        self._seen: dict[str, str] = {}  # segment -> version of the marker that was compared
        self._listed: dict[str, Files] = {}
        self._strangers = 0

    # Up --------------------------------------------------------------------------------------

    def commit(
        self,
        record: Record,
        steps: list[StepRow],
        evaluations: list[EvaluationRow],
        state: Any | None,
        stops: Mapping[int, Any] | None = None,
        tries: int = TRIES,
    ) -> Path:
        """As the store does, here first and then in the bucket. Raises Failed."""
        here = Store(self.folder.parent)
        return self._push(here.commit(record, steps, evaluations, state, stops, tries))

    def _push(self, attempt: Path) -> Path:
        """Bring an attempt up and mark it there; the folder of the one that counts."""
        segment = attempt.parent.name
        marker = (attempt.parent / MARKER).read_bytes()
        place = f"{SEGMENTS}/{segment}/{attempt.name}"
        manifest = json.loads((attempt / MANIFEST).read_bytes())
        names = [one for one in (*manifest, MANIFEST, DROPPED) if (attempt / one).is_file()]

        def up(name: str) -> None:
            self.bucket.put_file(f"{place}/{name}", attempt / name)

        all_at_once(up, names)
        at = f"{SEGMENTS}/{segment}/{MARKER}"
        if self.bucket.put_new(at, marker):
            return attempt
        theirs = self._listed_segment(segment)
        winner = self._winner_there(segment)
        stateless = winner is None or f"{winner}/{DROPPED}" in theirs
        if stateless and not (attempt / DROPPED).exists():
            self.bucket.put(at, marker)
            return attempt
        with self._locked():
            content = self.bucket.get(at, MARKER_BYTES)
            if content is None:
                raise Failed(f"{at} in {self.bucket.url} was removed meanwhile: run again")
            try:
                taken = bring_down(self.bucket, self.folder / segment, theirs, content)
            except (Away, Unwritable):
                raise
            except UNREADABLE as error:
                raise Failed(f"{at} in {self.bucket.url} is damaged: {error}") from error
        all_at_once(lambda name: self.bucket.delete(f"{place}/{name}"), names)
        return taken

    # Down ------------------------------------------------------------------------------------

    def load(self, verify_states: bool = False, set_aside: bool = True) -> Index:
        """As the store does, after what the bucket has more was brought down, and the other way.

        Neither the bucket nor what was committed here is changed unless `set_aside`.
        """
        wrong = self._sync(set_aside)
        index = super().load(verify_states, set_aside)
        if index.broken and set_aside:
            for line in index.broken:
                self.bucket.say(f"damaged here, looked for in {self.bucket.url}: {line}")
            self._seen.clear()
            wrong |= self._sync(set_aside)
            spoilt, index = index.spoilt, super().load(verify_states, set_aside)
            index.spoilt += spoilt
        for segment, why in wrong.items():
            index.broken.append(f"segment {segment[:12]} in {self.bucket.url}: {why}")
            index.damaged.add(segment.partition(".")[0])
        self._add_away(index)
        return index

    def _sync(self, up: bool) -> dict[str, str]:
        """Make both sides hold what either does; segments that are damaged there, and how."""
        self._listed = self._list()
        wrong: dict[str, str] = {}
        marked = [segment for segment, files in self._listed.items() if MARKER in files]
        fresh = [one for one in marked if self._seen.get(one) != self._listed[one][MARKER].version]
        markers = all_at_once(self._marker, fresh)
        with self._locked():
            for segment, content in zip(fresh, markers, strict=True):
                files = self._listed[segment]
                if content is None:
                    continue  # set aside meanwhile
                try:
                    if not self._is_here(segment, content):
                        bring_down(self.bucket, self.folder / segment, files, content)
                    self._seen[segment] = files[MARKER].version
                except (Away, Unwritable):
                    raise  # nothing is damaged by it
                except UNREADABLE as error:
                    wrong[segment] = str(error)
                    if up:
                        self._set_aside_there(segment, content)
            for segment in marked:
                self._note_dropped(segment)
        if up:
            self._bring_up(set(marked), wrong)
        return wrong

    def _bring_up(self, marked: set[str], wrong: dict[str, str]) -> None:
        """Bring up what the bucket lacks, or has damaged; what cannot be is no more held here."""
        for marker in (one.path for one in self.committed()):
            segment = marker.parent.name
            if segment in marked and segment not in wrong:
                continue
            attempt = _winner_here(marker)
            if attempt is None:
                continue  # `load` says what is wrong with it
            if not _is_away(attempt):
                self._push(attempt)
                if segment in wrong:
                    why = wrong.pop(segment)
                    self.bucket.say(f"damaged in {self.bucket.url}, brought up again: {why}")
                continue
            wrong.setdefault(segment, "its marker is gone, and with it its arrays")
            self._set_aside(marker)

    def _list(self) -> dict[str, Files]:
        """What is below every segment in the bucket; names that are no store's are not read."""
        found: dict[str, Files] = defaultdict(dict)
        strangers = 0
        for entry in self.bucket.list(SEGMENTS):
            parts = entry.name.split("/", 2)
            if len(parts) == 3 and SEGMENT.fullmatch(parts[1]) and FILE.fullmatch(parts[2]):
                found[parts[1]][parts[2]] = entry
            else:
                strangers += 1
        if strangers > self._strangers:  # said once
            self.bucket.say(f"{strangers} objects in {self.bucket.url} are no store's: not read")
        self._strangers = max(strangers, self._strangers)
        return dict(found)

    def _listed_segment(self, segment: str) -> Files:
        """What is below one segment now."""
        below = f"{SEGMENTS}/{segment}/"
        entries = self.bucket.list(below.rstrip("/"))
        return {one.name.removeprefix(below): one for one in entries}

    def _marker(self, segment: str) -> bytes | None:
        try:
            return self.bucket.get(f"{SEGMENTS}/{segment}/{MARKER}", MARKER_BYTES)
        except Away:
            raise
        except Failed:
            return b"too large"

    def _winner_there(self, segment: str) -> str | None:
        marker = self._marker(segment) or b""
        with suppress(*UNREADABLE):
            return str(json.loads(marker)["attempt"])
        return None

    def _is_here(self, segment: str, marker: bytes) -> bool:
        with suppress(OSError):
            return (self.folder / segment / MARKER).read_bytes() == marker
        return False

    # Arrays ----------------------------------------------------------------------------------

    def _add_away(self, index: Index) -> None:
        """States whose arrays are in the bucket alone are held too."""
        for record, folder in index.step_logs:
            segment = folder.parent.name
            files = self._listed.get(segment, {})
            arrays = sum(
                one.bytes
                for name, one in files.items()
                if name.startswith(f"{folder.name}/{STATE}")
            )
            if _is_away(folder) and arrays and f"{folder.name}/{DROPPED}" not in files:
                _hold(index, Held(record.end, record.end_step, folder, arrays))
                index.dropped.discard(record.end)
            for name, one in files.items():
                matched = STOP.fullmatch(name.removeprefix(f"{folder.name}/"))
                place = folder / name.removeprefix(f"{folder.name}/")
                if matched and not place.exists():
                    _hold(index, Held(matched[2], int(matched[1]), place, one.bytes))

    def restore(self, place: Path, abstract: Any, set_aside: bool = True) -> Any:
        """As the store does; arrays that are away are brought here first, and checked."""
        at_stop = place.suffix == ".npz"
        segment = (place.parent.parent if at_stop else place).parent
        wrong = self._fetch(segment, place.name if at_stop else None, abstract)
        if wrong is None:
            return super().restore(place, abstract, set_aside)
        files = self._listed_segment(segment.name)
        if not at_stop and f"{place.name}/{DROPPED}" in files:
            raise Gone(f"state {segment.name[:12]} was removed since")
        if set_aside and at_stop:
            self.bucket.delete(f"{SEGMENTS}/{segment.name}/{place.parent.parent.name}/"
                               f"stops/{place.name}")  # fmt: skip
        elif set_aside:
            marker = (segment / MARKER).read_bytes()
            self._set_aside_there(segment.name, marker)
            self._set_aside(segment / MARKER)
        raise Damaged(f"state {segment.name[:12]} is damaged in {self.bucket.url}: {wrong}")

    def _fetch(self, segment: Path, stop: str | None, abstract: Any) -> str | None:
        """Bring arrays of the attempt that counts here; what is wrong with them, or None."""
        try:
            named = json.loads((segment / MARKER).read_bytes())
            attempt = segment / str(named["attempt"])
            manifest = json.loads((attempt / MANIFEST).read_bytes())
        except UNREADABLE:
            return None  # of this disk: the store itself says so
        if stop is None:
            names = [name for name in manifest if name.startswith(STATE)]
            if not _is_away(attempt):
                return None
        else:
            names = [f"stops/{stop}"]
            if (attempt / names[0]).exists() or names[0] not in manifest:
                return None
        import jax  # whoever only reads a folder needs none

        most = 2 * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(abstract))
        if sum(manifest[name]["bytes"] for name in names) > most + SLACK_BYTES:
            return f"{len(names)} files are larger than the state could be"
        files = self._listed_segment(segment.name)

        def down(name: str) -> str | None:
            entry = files.get(f"{attempt.name}/{name}")
            if entry is None:
                return f"{name} is not there"
            if entry.bytes != manifest[name]["bytes"]:
                return f"{name} has {entry.bytes} bytes, not {manifest[name]['bytes']}"
            draft = attempt / f"{secrets.token_hex(6)}.partial"
            try:
                self.bucket.get_file(entry.name, draft)
                if checkpoint.file_digest(draft) != manifest[name]["sha256"]:
                    return f"{name} is not what was written (checksum)"
                (attempt / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(draft, attempt / name)
            except OSError as error:
                raise Unwritable(why_not_written(attempt, error)) from error
            finally:
                draft.unlink(missing_ok=True)
            return None

        wrong = next((one for one in all_at_once(down, names) if one is not None), None)
        if wrong is None and stop is None:
            (attempt / DROPPED).unlink(missing_ok=True)
        return wrong

    def drop_state(self, place: Path) -> None:
        """As the store does, on both sides."""
        super().drop_state(place)
        attempt = place.parent.parent if place.suffix == ".npz" else place
        there = f"{SEGMENTS}/{attempt.parent.name}/{attempt.name}"
        if place.suffix == ".npz":
            self.bucket.delete(f"{there}/stops/{place.name}")
            return
        self.bucket.put(f"{there}/{DROPPED}", b"")
        names = [one.name for one in self.bucket.list(f"{there}/state")]
        all_at_once(self.bucket.delete, names)

    # What is broken, dropped, or left over ---------------------------------------------------

    def _set_aside_there(self, segment: str, marker: bytes) -> None:
        """Take the marker of a damaged attempt away in the bucket, if it is still that one."""
        at = f"{SEGMENTS}/{segment}/{MARKER}"
        if self._marker(segment) in (marker, b"too large"):
            self.bucket.put(f"{SEGMENTS}/{segment}/BROKEN-{secrets.token_hex(4)}.json", marker)
            self.bucket.delete(at)
        self._seen.pop(segment, None)

    def _note_dropped(self, segment: str) -> None:
        """Arrays that were away and have been removed there are dropped here too."""
        for name in self._listed[segment]:
            attempt, _, file = name.partition("/")
            folder = self.folder / segment / attempt
            if file == DROPPED and ATTEMPT.fullmatch(attempt) and _is_away(folder):
                write_whole(folder / DROPPED, b"")

    def sweep_attempts(self) -> int:
        """Remove the attempts of this working copy that no marker names. Returns how many."""
        with self._locked():
            return super().sweep_attempts()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Nobody else brings anything into this working copy, in any process or thread."""
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.folder.parent / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _hold(index: Index, one: Held) -> None:
    index.held.append(one)
    index.states.setdefault(one.state, one.place)
    index.state_steps.add(one.step)


def _is_away(attempt: Path) -> bool:
    with suppress(OSError):
        return (attempt / DROPPED).read_text(errors="replace") == AWAY
    return False


def _winner_here(marker: Path) -> Path | None:
    with suppress(*UNREADABLE):
        attempt = marker.parent / str(json.loads(marker.read_bytes())["attempt"])
        return attempt if ATTEMPT.fullmatch(attempt.name) and attempt.is_dir() else None
    return None
