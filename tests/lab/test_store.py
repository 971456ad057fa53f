"""What was committed is whole or is named as broken; what was not is never read."""

import json
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from lab import checkpoint, store
from lab.errors import Damaged, Failed
from lab.store import MARKER, EvaluationRow, Index, Record, StepRow, Store

START, END, LATER = "a" * 32, "b" * 32, "c" * 32
STATE = {"params": {"w": np.linspace(0, 1, 99, dtype=np.float32)}, "count": np.int32(3)}
ABSTRACT = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), STATE)
STEPS = [StepRow(k, 0.1 + k / 3, 1e-3, 1e-30 * k, 16 * (k + 1)) for k in range(3, 6)]
ROWS = [EvaluationRow(END, 6, name, 2 / 3, 1.1, 0.25) for name in ("set1", "set2")]
SMALL = ("record.json", "steps.jsonl", "evaluations.jsonl", "manifest.json")


def record(**changes: Any) -> Record:
    fields: dict[str, Any] = {
        "start": START,
        "start_step": 3,
        "end": END,
        "end_step": 6,
        "diverged_step": None,
        "state": True,
        "provenance": {"jax": "0", "stack": 2},
    }
    return Record(**(fields | changes))


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    Store(folder).commit(record(), STEPS, ROWS, STATE)
    return folder


@pytest.fixture
def one(committed: Path, tmp_path: Path) -> Store:
    """A store of its own with one committed segment."""
    return Store(Path(shutil.copytree(committed, tmp_path / "out")))


def attempt_of(one: Store) -> Path:
    (attempt,) = one.folder.glob("*/attempt-*")
    return attempt


def marker_of(one: Store) -> Path:
    (marker,) = one.folder.glob(f"*/{MARKER}")
    return marker


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def flip(path: Path, place: int = -2) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def assert_empty(index: Index) -> None:
    assert not index.states
    assert not index.evaluations
    assert not index.step_logs
    assert not index.diverged


# Committing ----------------------------------------------------------------------------------


def test_what_was_committed_is_read_back(one: Store) -> None:
    index = one.load(verify_states=True)
    folder = attempt_of(one)
    assert index.states == {END: folder}
    assert index.state_steps == {6}
    assert index.evaluations == {(END, row.set): row for row in ROWS}
    assert index.step_logs == [(record(), folder)]
    assert list(one.read_steps(folder)) == STEPS
    assert index.provenance == [{"jax": "0", "stack": 2}]
    assert index.broken == []
    back = one.restore(folder, ABSTRACT)
    assert back["params"]["w"].tobytes() == STATE["params"]["w"].tobytes()
    assert int(back["count"]) == 3


def test_an_empty_store_holds_nothing(tmp_path: Path) -> None:
    empty = Store(tmp_path)
    assert_empty(empty.load())
    assert empty.sweep_attempts() == 0
    assert list(tmp_path.iterdir()) == []


def test_the_second_commit_of_a_segment_yields_to_the_first(one: Store) -> None:
    first = attempt_of(one)
    before = contents(one.folder)
    assert one.commit(record(), STEPS[:1], ROWS, STATE) == first
    assert contents(one.folder) == before


def test_other_evaluations_of_a_state_are_another_segment(one: Store) -> None:
    extra = EvaluationRow(END, 6, "set3", 1.0, 1.0, 0.5)
    only = record(start=END, start_step=6, state=False)
    one.commit(only, [], [extra], None)
    index = one.load()
    assert len(index.evaluations) == 3
    assert index.states == {END: next(one.folder.glob("*/attempt-*/state")).parent}
    assert len(index.step_logs) == 1


def test_a_diverged_segment_has_logs_and_no_state(tmp_path: Path) -> None:
    one = Store(tmp_path)
    one.commit(record(diverged_step=5, state=False), STEPS, ROWS[:1], None)
    index = one.load()
    assert (index.states, index.diverged, index.state_steps) == ({}, {END: 5}, {6})
    assert len(index.evaluations) == 1


def test_the_marker_is_made_when_every_byte_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[Path] = set()
    link = store.os.link

    def checked_link(draft: Path, marker: Path) -> None:
        attempt = Path(draft).parent
        assert {attempt, *attempt.rglob("*")} <= synced
        assert {attempt.parent, attempt.parent.parent} <= synced
        link(draft, marker)

    monkeypatch.setattr(store, "_sync", synced.add)
    monkeypatch.setattr(store.os, "link", checked_link)
    attempt = Store(tmp_path).commit(record(), STEPS, ROWS, STATE)
    assert (attempt.parent / MARKER).exists()


def test_an_attempt_with_arrays_takes_the_place_of_one_whose_arrays_were_dropped(
    one: Store,
) -> None:
    first = attempt_of(one)
    one.drop_state(first)
    assert one.load().dropped == {END}
    second = one.commit(record(), STEPS, ROWS, STATE)
    assert second != first
    index = one.load(verify_states=True)
    assert (index.states, index.broken) == ({END: second}, [])
    assert one.restore(second, ABSTRACT)["count"] == 3
    assert one.losing_attempts() == [first]
    one.drop_state(second)
    assert one.commit(record(), STEPS, ROWS, None) == second  # it brings no arrays either


def test_an_attempt_takes_the_place_of_one_whose_marker_cannot_be_read(one: Store) -> None:
    marker_of(one).write_text("{")
    again = one.commit(record(), STEPS, ROWS, STATE)
    assert one.load().states == {END: again}


def test_a_record_of_another_schema_is_not_read(tmp_path: Path) -> None:
    one = Store(tmp_path)
    one.commit(record(schema=2), STEPS, ROWS, STATE)
    index = one.load(set_aside=False)
    assert_empty(index)
    assert index.broken == [f"segment {END[:12]}: record has schema 2, this lab 1"]


# States on the way ---------------------------------------------------------------------------

WAY = EvaluationRow(LATER, 5, "set1", 2 / 3, 1.1, 0.25)


@pytest.fixture
def stopped(tmp_path: Path) -> Store:
    """A store whose one attempt keeps the state at step 5 too."""
    one = Store(tmp_path / "stopped")
    halfway = jax.tree.map(lambda leaf: leaf + leaf.dtype.type(1), STATE)
    one.commit(record(), STEPS, [WAY, *ROWS], STATE, {4: STATE, 5: halfway})
    return one


def test_a_state_that_was_evaluated_on_the_way_is_held(stopped: Store) -> None:
    index = stopped.load(verify_states=True)
    place = attempt_of(stopped) / "stops" / f"5.{LATER}.npz"
    assert index.states == {END: attempt_of(stopped), LATER: place}
    assert index.state_steps == {5, 6}
    assert sum(one.bytes for one in index.held if one.state == LATER) == place.stat().st_size
    back = stopped.restore(place, ABSTRACT)
    assert back["params"]["w"].tobytes() == (STATE["params"]["w"] + 1).tobytes()
    assert int(back["count"]) == 4


@pytest.mark.parametrize("how", ["flipped", "truncated", "emptied"])
def test_a_damaged_state_on_the_way_is_removed_alone(stopped: Store, how: str) -> None:
    place = attempt_of(stopped) / "stops" / f"5.{LATER}.npz"
    whole = place.read_bytes()
    place.write_bytes({"flipped": b"?" + whole[1:], "truncated": whole[:-1], "emptied": b""}[how])
    before = contents(stopped.folder)
    assert len(stopped.load(verify_states=True, set_aside=False).spoilt) == 1
    assert contents(stopped.folder) == before
    index = stopped.load(verify_states=True)
    (line,) = index.spoilt
    assert line.startswith(f"segment {END[:12]}: stops/5.{LATER}.npz ")
    assert (list(index.states), index.broken, len(index.evaluations)) == ([END], [], 3)
    assert not place.exists()
    assert stopped.load(verify_states=True).spoilt == []


def test_a_state_on_the_way_that_rots_after_loading_is_not_restored(stopped: Store) -> None:
    place = stopped.load().states[LATER]
    flip(place)
    for _ in range(2):  # also for whoever asks after it was removed
        with pytest.raises(Damaged, match=f"state {END[:12]} is damaged: "):
            stopped.restore(place, ABSTRACT)
    assert list(stopped.load(verify_states=True).states) == [END]


def test_a_dropped_state_on_the_way_is_no_damage(stopped: Store) -> None:
    stopped.drop_state(stopped.load().states[LATER])
    index = stopped.load(verify_states=True)
    assert (list(index.states), index.spoilt, index.broken) == ([END], [], [])


# Failing to commit ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "name"),
    [(checkpoint, "save"), (store, "_write"), (store, "_sync"), (store.os, "link")],
)
def test_a_full_disk_leaves_nothing_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    one = Store(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, full)
        with pytest.raises(Failed, match=r"disk full while writing to .*: free space"):
            one.commit(record(), STEPS, ROWS, STATE)
    assert contents(tmp_path) == {}
    assert_empty(one.load())
    one.commit(record(), STEPS, ROWS, STATE)  # with space, it goes on
    assert END in one.load().states


def test_a_full_disk_is_known_by_its_words_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise ValueError("tensorstore:\nwrite failed [No space left on device]")

    monkeypatch.setattr(checkpoint, "save", full)
    with pytest.raises(Failed, match="disk full"):
        Store(tmp_path).commit(record(), STEPS, ROWS, STATE)


def test_what_else_stops_a_commit_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("first line\nsecond line")

    monkeypatch.setattr(checkpoint, "save", broken)
    with pytest.raises(Failed, match=r"cannot write to .*: first line$"):
        Store(tmp_path).commit(record(), STEPS, ROWS, STATE)
    (tmp_path / "file").write_text("")
    with pytest.raises(Failed, match=r"cannot write to .*Not a directory"):
        Store(tmp_path / "file").commit(record(), [], [], None)


def test_a_number_without_json_is_never_committed(tmp_path: Path) -> None:
    bad = [StepRow(0, float("nan"), 0.0, 0.0, 16)]
    with pytest.raises(Failed, match="cannot write"):
        Store(tmp_path).commit(record(), bad, [], None)
    assert contents(tmp_path) == {}


# Attempts without a marker -------------------------------------------------------------------


def test_an_attempt_without_a_marker_is_never_read_and_is_swept(one: Store) -> None:
    winner = attempt_of(one)
    shutil.copytree(winner, winner.with_name("attempt-killed"))
    other = one.folder / f"{LATER}.00000000" / "attempt-killed"
    shutil.copytree(winner, other)
    index = one.load(verify_states=True)
    assert list(index.states) == [END]
    assert len(index.step_logs) == 1
    assert index.broken == []
    assert one.sweep_attempts() == 2
    assert list(one.folder.glob("*/attempt-*")) == [winner]
    assert one.sweep_attempts() == 0


@pytest.mark.parametrize("text", ["", "[]", "{}", '"text"', "{", "\x00"])
def test_sweeping_leaves_a_damaged_marker_to_load(one: Store, text: str) -> None:
    marker_of(one).write_text(text)
    assert one.sweep_attempts() == 0
    assert len(one.load().broken) == 1
    assert one.sweep_attempts() == 1


# Damage --------------------------------------------------------------------------------------


WRONG = {
    "flipped": "is not what was written (checksum)",
    "truncated": "bytes, not ",
    "emptied": "has 0 bytes, not ",
    "missing": "No such file",
}


@pytest.mark.parametrize("how", WRONG)
@pytest.mark.parametrize("name", SMALL)
def test_a_damaged_small_file_is_named_once_and_set_aside(one: Store, name: str, how: str) -> None:
    file = attempt_of(one) / name
    whole = file.read_bytes()
    if how == "missing":
        file.unlink()
    else:
        file.write_bytes({"truncated": whole[:-1], "emptied": b""}.get(how, whole))
    if how == "flipped":
        flip(file)
    index = one.load()
    assert_empty(index)
    (line,) = index.broken
    assert line.startswith(f"segment {END[:12]}: ")
    assert name in line
    said = WRONG["flipped"] if name == "manifest.json" and how != "missing" else WRONG[how]
    assert said in line
    assert_empty(one.load())
    assert one.load().broken == []
    assert len(list(one.folder.glob("*/BROKEN-*.json"))) == 1
    one.commit(record(), STEPS, ROWS, STATE)  # trained again, it takes the place
    assert list(one.load(verify_states=True).states) == [END]


def sign(one: Store, manifest: Any) -> None:
    """Put another manifest there, with a marker to match."""
    text = json.dumps(manifest)
    (attempt_of(one) / "manifest.json").write_text(text)
    named = json.loads(marker_of(one).read_text())
    named["manifest"] = sha256(text.encode()).hexdigest()
    marker_of(one).write_text(json.dumps(named))


@pytest.mark.parametrize("name", ["record.json", "evaluations.jsonl"])
def test_a_file_that_no_checksum_stands_for_is_not_read(one: Store, name: str) -> None:
    manifest = json.loads((attempt_of(one) / "manifest.json").read_text())
    del manifest[name]
    sign(one, manifest)
    index = one.load(set_aside=False)
    assert_empty(index)
    assert index.broken == [f"segment {END[:12]}: manifest.json lists no {name}"]


def test_a_marker_nested_too_deeply_to_read_is_damage(one: Store) -> None:
    marker_of(one).write_text("[" * 100_000)
    assert len(one.load(set_aside=False).broken) == 1


def test_any_flipped_bit_in_a_marker_is_found(one: Store) -> None:
    marker = marker_of(one)
    whole = marker.read_bytes()
    for place in range(len(whole)):
        for bit in (0, 7):
            changed = bytearray(whole)
            changed[place] ^= 1 << bit
            marker.write_bytes(changed)
            index = one.load(set_aside=False)
            assert_empty(index)
            assert len(index.broken) == 1
    marker.write_bytes(whole)
    assert one.load().broken == []


@pytest.mark.parametrize("name", ["../evil", "attempt-x/../../../evil", "..", "DONE.json", "", 7])
def test_a_marker_reads_no_other_folder(one: Store, name: Any) -> None:
    evil = one.folder / "evil"
    shutil.copytree(attempt_of(one), evil)
    shutil.copytree(attempt_of(one), one.folder.parent / "evil")
    named = json.loads(marker_of(one).read_text())
    marker_of(one).write_text(json.dumps(named | {"attempt": name}))
    index = one.load()
    assert_empty(index)
    assert index.broken == [f"segment {END[:12]}: marker names no attempt"]


def damage_state(one: Store, how: str) -> None:
    files = [path for path in (attempt_of(one) / "state").rglob("*") if path.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    whole = largest.read_bytes()
    if how == "missing":
        largest.unlink()
    elif how == "gone":
        shutil.rmtree(attempt_of(one) / "state")
    else:
        changed = {"truncated": whole[:-1], "emptied": b"", "flipped": whole[:-1] + b"?"}
        largest.write_bytes(changed[how])


HOW = ["truncated", "emptied", "missing", "gone", "flipped"]


@pytest.mark.parametrize("how", HOW)
def test_a_damaged_state_is_found_by_load(one: Store, how: str) -> None:
    damage_state(one, how)
    index = one.load(verify_states=True)
    assert_empty(index)
    assert len(index.broken) == 1
    assert_empty(one.load(verify_states=True))


@pytest.mark.parametrize("how", HOW)
def test_a_damaged_state_is_not_restored_and_is_set_aside(one: Store, how: str) -> None:
    damage_state(one, how)
    folder = attempt_of(one)
    for _ in range(2):  # also for whoever asks after it was set aside
        with pytest.raises(Damaged, match=f"state {END[:12]} is damaged: ") as said:
            one.restore(folder, ABSTRACT)
        assert "\n" not in str(said.value)
    assert_empty(one.load(verify_states=True))
    assert len(list(one.folder.glob("*/BROKEN-*.json"))) == 1


def test_a_load_without_checksums_finds_what_changed_its_size(one: Store) -> None:
    damage_state(one, "truncated")
    assert len(one.load(set_aside=False).broken) == 1


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "7", '{"state/a":{}}', '{"state/a":[]}', '{"state/a":7}', "{"]
)
def test_a_manifest_changed_since_load_is_damage(one: Store, text: str) -> None:
    folder = attempt_of(one)
    (folder / "manifest.json").write_text(text)
    if text == "{}":
        damage_state(one, "gone")
    with pytest.raises(Damaged):
        one.restore(folder, ABSTRACT)


@pytest.mark.parametrize("name", [*SMALL, MARKER])
def test_only_reading_changes_nothing_on_disk(one: Store, name: str) -> None:
    flip(marker_of(one) if name == MARKER else attempt_of(one) / name)
    before = contents(one.folder)
    for _ in range(2):
        index = one.load(verify_states=True, set_aside=False)
        assert len(index.broken) == 1
        assert_empty(index)
    assert contents(one.folder) == before


# Dropping states -----------------------------------------------------------------------------


def test_a_dropped_state_keeps_its_logs(one: Store) -> None:
    folder = attempt_of(one)
    one.drop_state(folder)
    assert not (folder / "state").exists()
    index = one.load(verify_states=True)
    assert (index.states, index.broken) == ({}, [])
    assert len(index.evaluations) == 2
    assert list(one.read_steps(folder)) == STEPS
    assert one.sweep_attempts() == 0
    with pytest.raises(Failed):
        one.restore(folder, ABSTRACT)


def test_a_state_half_dropped_is_never_taken_for_a_whole_one(
    one: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            one.drop_state(attempt_of(one))
    damage_state(one, "missing")
    index = one.load(verify_states=True)
    assert (index.states, index.broken) == ({}, [])
