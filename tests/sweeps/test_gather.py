"""Two folders made one hold what either has, believe no file, and change no number."""

import dataclasses
import json
import os
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from lab.errors import Failed, Refused
from lab.spec import canonical
from lab.store import MARKER, Store
from sweeps.folder import Folder
from sweeps.gather import Merged, merge
from sweeps.run import run_sweep
from sweeps.sweep import Sweep
from tests.sweeps.small import BRANCH, STEP, Stopped, csv, files_below, small_sweep, trained

BOTH = "synthetic-words+synthetic-markov"
OURS, THEIRS = small_sweep(ratios=(0.0,)), small_sweep(seeds=(0, 1), ratios=(0.5,))
UNION = small_sweep(seeds=(0, 1), ratios=(0.0, 0.5))


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders of one study, a seed and a ratio apart."""
    place = tmp_path_factory.mktemp("two")
    trained(place / "ours", OURS)
    trained(place / "theirs", THEIRS)
    return place


@pytest.fixture
def place(two: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(two, tmp_path / "two"))


def merged(place: Path) -> Merged:
    """Merge theirs into ours; theirs is only read."""
    before = files_below(place / "theirs")
    done = merge(Folder(place / "ours"), Folder(place / "theirs"))
    assert files_below(place / "theirs") == before
    return done


def test_the_union_trains_nothing_that_either_has(place: Path, tmp_path: Path) -> None:
    done = merged(place)
    # theirs: two trunks, of which ours is one, and a branch off each
    assert (done.brought, done.known, done.damaged, done.notes) == (3, 1, [], [])
    union = trained(place / "ours", UNION)
    assert union.trained_tokens == BRANCH * STEP  # seed 1 at ratio 0
    assert csv(union) == csv(trained(tmp_path / "fresh", UNION))
    assert trained(place / "ours", UNION).trained_tokens == 0


def test_evaluations_are_brought_as_well(place: Path, tmp_path: Path) -> None:
    asked = dataclasses.replace(OURS.evaluate, corpora=(*OURS.evaluate.corpora, BOTH))
    wider = dataclasses.replace(OURS, evaluate=asked)
    shutil.rmtree(place / "theirs")
    shutil.copytree(place / "ours", place / "theirs")
    more = trained(place / "theirs", wider)
    done = merged(place)
    assert done.evaluations == (more.results["corpus"] == BOTH).sum()
    union = trained(place / "ours", wider)
    assert union.trained_tokens == 0
    assert csv(union) == csv(trained(tmp_path / "fresh", wider))


def test_a_second_merge_finds_nothing_new(place: Path) -> None:
    merged(place)
    before = files_below(place / "ours" / "segments")
    done = merged(place)
    assert (done.brought, done.known, done.bytes, done.evaluations) == (0, 4, 0, 0)
    assert files_below(place / "ours" / "segments") == before


def test_an_empty_folder_takes_over_all_of_the_other(place: Path) -> None:
    done = merge(Folder(place / "new"), Folder(place / "theirs"))
    assert done.brought == 4
    held, theirs = Folder(place / "new").held(), Folder(place / "theirs").held()
    assert held == theirs
    assert trained(place / "new", THEIRS).trained_tokens == 0


def test_states_that_were_collected_there_are_no_damage_here(place: Path) -> None:
    store = Store(place / "theirs")
    for one in store.load().held:
        store.drop_state(one.place)
    done = merged(place)
    assert done.damaged == []
    index = Store(place / "ours").load(verify_states=True)
    assert (index.broken, index.spoilt) == ([], [])
    assert trained(place / "ours", THEIRS).trained_tokens == 0


# Whose number it is --------------------------------------------------------------------------


def rewritten(store: Store, change: Any) -> None:
    """Edit every evaluation of a store, with checksums that hold: another machine's bits."""
    for marker in store.committed():
        named = json.loads(marker.path.read_text())
        attempt = marker.path.parent / named["attempt"]
        file = attempt / "evaluations.jsonl"
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        file.write_text("".join(canonical(change(row)) + "\n" for row in rows))
        resealed(attempt, {"evaluations.jsonl": file.read_bytes()})


def resealed(attempt: Path, files: dict[str, bytes]) -> None:
    """Put new sizes and checksums into an attempt's manifest and marker."""
    manifest = json.loads((attempt / "manifest.json").read_text())
    for name, content in files.items():
        manifest[name] = {"bytes": len(content), "sha256": sha256(content).hexdigest()}
    text = canonical(manifest)
    (attempt / "manifest.json").write_text(text)
    named = {"attempt": attempt.name, "manifest": sha256(text.encode()).hexdigest()}
    (attempt.parent / MARKER).write_text(canonical(named))


@pytest.mark.parametrize("collected", [False, True])
def test_of_two_values_the_folders_own_stays(place: Path, collected: bool) -> None:
    shutil.rmtree(place / "theirs")
    trained(place / "theirs", small_sweep(ratios=(0.0, 0.5)))
    rewritten(Store(place / "theirs"), lambda row: row | {"loss_nats": 99.0})
    before = csv(trained(place / "ours", OURS))
    if collected:  # then theirs bring arrays for states whose numbers we have
        store = Store(place / "ours")
        for one in store.load().held:
            store.drop_state(one.place)
    assert merged(place).brought == (3 if collected else 1)
    assert csv(trained(place / "ours", OURS)) == before
    union = trained(place / "ours", small_sweep(ratios=(0.0, 0.5)))
    assert union.trained_tokens == 0
    theirs = union.results["loss_nats"] == 99.0
    assert set(union.results["cpt_ratio"][theirs]) == {0.5}
    assert set(union.results["phase"][theirs]) == {"cpt"}


def test_of_two_merges_the_first_stays(place: Path) -> None:
    merged(place)
    before = csv(trained(place / "ours", UNION))
    rewritten(Store(place / "theirs"), lambda row: row | {"state": row["state"][::-1]})
    assert merged(place).brought == 4
    orders = [one.order for one in Store(place / "ours").committed()]
    assert sorted(set(orders)) == [0, 1, 2]
    assert orders == sorted(orders)
    assert csv(trained(place / "ours", UNION)) == before


def test_provenance_travels_and_other_stacks_are_named(place: Path) -> None:
    shutil.rmtree(place / "theirs")
    run_sweep(THEIRS, place / "theirs", stack=1, quiet=True)
    (note,) = merged(place).notes
    assert "stack 2" in note
    assert "with 1" in note
    union = trained(place / "ours", UNION)
    assert {one["stack"] for one in union.index.provenance} == {1, 2}


# Nothing is believed -------------------------------------------------------------------------


def branch_of(place: Path) -> Path:
    """The attempt of a branch of theirs that ours lacks."""
    store = Store(place / "theirs")
    ours = Store(place / "ours").load().states
    folders = sorted(one.place for one in store.load().held if one.place.is_dir())
    return next(f for f in folders if f.parent.name[:32] not in ours)


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def state_file(attempt: Path) -> Path:
    files = [path for path in (attempt / "state").rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


@pytest.mark.parametrize("what", ["evaluations.jsonl", "manifest.json", "record.json", "state"])
def test_what_is_damaged_there_is_left_there_and_trained_here(
    place: Path, tmp_path: Path, what: str
) -> None:
    attempt = branch_of(place)
    flip(state_file(attempt) if what == "state" else attempt / what)
    (line,) = merged(place).damaged
    assert line.startswith(f"segment {attempt.parent.name[:12]}: ")
    assert Folder(place / "ours").store.losing_attempts() == []
    assert csv(trained(place / "ours", UNION)) == csv(trained(tmp_path / "fresh", UNION))


def test_a_damaged_state_on_the_way_is_left_there_too(place: Path) -> None:
    stop = next(iter(sorted((branch_of(place) / "stops").iterdir())))
    flip(stop)
    (line,) = merged(place).damaged
    assert stop.name in line


@pytest.mark.parametrize(
    "name", ["../evil", "state/../../../evil", "/etc/passwd", "stops/evil.npz", "state\\evil"]
)
def test_a_file_with_a_foreign_name_is_never_copied(place: Path, name: str) -> None:
    attempt = branch_of(place)
    (attempt.parent / "evil").write_bytes(b"evil")
    resealed(attempt, {name: b"evil"})
    done = merged(place)
    assert len(done.damaged) == 1
    assert not [path for path in (place / "ours").rglob("*") if "evil" in path.name]


@pytest.mark.parametrize("part", ["record.json", "state"])
def test_a_link_is_never_followed(place: Path, part: str) -> None:
    attempt = branch_of(place)
    outside = place / "outside"
    shutil.move(attempt / part, outside)
    os.symlink(outside, attempt / part)
    (line,) = merged(place).damaged
    assert "is a link" in line


@pytest.mark.parametrize(
    "change",
    [
        {"end": "../../../evil"},
        {"end": 7},
        {"start": "x"},
        {"end_step": "9"},
        {"start_step": -1},
        {"schema": 2},
        {"extra": 1},
    ],
)
def test_a_record_that_is_none_is_left_there(place: Path, change: dict[str, Any]) -> None:
    attempt = branch_of(place)
    text = canonical(json.loads((attempt / "record.json").read_text()) | change)
    (attempt / "record.json").write_text(text)
    resealed(attempt, {"record.json": text.encode()})
    assert len(merged(place).damaged) == 1


@pytest.mark.parametrize("loss", ["low", True, None])
def test_an_evaluation_that_is_none_is_left_there(place: Path, loss: Any) -> None:
    rewritten(Store(place / "theirs"), lambda row: row | {"loss_nats": loss})
    done = merged(place)
    assert (done.brought, len(done.damaged)) == (0, 4)


# Stopped on the way --------------------------------------------------------------------------


@pytest.mark.parametrize("copied", range(3))
def test_a_merge_killed_between_files_is_read_by_nobody_and_goes_on(
    place: Path, copied: int
) -> None:
    mark, left = Store.mark, copied

    def killed(self: Store, *told: Any) -> Path:
        nonlocal left
        if left == 0:
            raise Stopped
        left -= 1
        return mark(self, *told)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Store, "mark", killed)
        with pytest.raises(Stopped):
            merge(Folder(place / "ours"), Folder(place / "theirs"))
    store = Store(place / "ours")
    assert len(store.losing_attempts()) == 1
    assert store.load(verify_states=True).broken == []
    assert merged(place).brought == 3 - copied
    assert trained(place / "ours", THEIRS).trained_tokens == 0
    assert store.losing_attempts() == []


def test_a_full_disk_stops_a_merge_in_one_line(place: Path) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "copyfile", full)
        with pytest.raises(Failed, match=r"^disk full while writing to .*: free space"):
            merge(Folder(place / "ours"), Folder(place / "theirs"))
    assert Store(place / "ours").losing_attempts() == []
    assert merged(place).brought == 3


# Refusals ------------------------------------------------------------------------------------


def refusal(place: Path, other: str = "theirs") -> str:
    before = files_below(place)
    with pytest.raises(Refused) as refused:
        merge(Folder(place / "ours"), Folder(place / other))
    assert files_below(place) == before
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [("schema", 2, "has schema 2, this lab 1"), ("numerics", 0, "was trained with numerics 0")],
)
@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_another_schema_or_arithmetic_is_refused(
    place: Path, side: str, key: str, value: int, said: str
) -> None:
    file = place / side / "sweep.json"
    file.write_text(canonical(json.loads(file.read_text()) | {key: value}))
    assert said in refusal(place)


def test_what_is_no_folder_of_a_sweep_is_refused(place: Path) -> None:
    (place / "thesis").mkdir()
    (place / "thesis" / "thesis.tex").write_text("Chapter 1")
    assert "no sweep's folder" in refusal(place, "thesis")
    assert "holds no sweep" in refusal(place, "absent")
    assert "are one folder" in refusal(place, "../two/ours")


def other_sweep(**changes: Any) -> Sweep:
    return dataclasses.replace(THEIRS, **changes)


def test_a_sweep_that_ours_does_not_grow_into_is_refused(place: Path) -> None:
    digests = Folder(place / "theirs").held()
    assert digests is not None
    Folder(place / "large").write(other_sweep(study="large"), None, digests.digests, 2)
    assert "hold different sweeps: study 'small', not 'large'" in refusal(place, "large")
    Folder(place / "texts").write(THEIRS, None, dict.fromkeys(digests.digests, "0" * 32), 2)
    assert "was another text" in refusal(place, "texts")


def test_a_folder_that_is_being_trained_into_takes_nothing(place: Path) -> None:
    with Folder(place / "ours").locked():
        assert "another process is training into" in refusal(place)
