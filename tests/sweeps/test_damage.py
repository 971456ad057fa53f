"""A damaged disk costs a segment or an hour, never a wrong number. (A full one: test_full_disk.)"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from lab.store import Store
from sweeps.run import Outcome
from tests.sweeps.small import csv, planned, small_sweep, trained


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def remove(file: Path) -> None:
    file.unlink()


def largest(folder: Path) -> Path:
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the small sweep. Tests damage copies of it."""
    out = tmp_path_factory.mktemp("sound")
    trained(out, small_sweep())
    return out


@pytest.fixture
def out(sound: Path, tmp_path: Path) -> Path:
    """A folder of one's own in which everything is trained."""
    return Path(shutil.copytree(sound, tmp_path / "out"))


PLAN = planned(small_sweep())
ENDS = [segment.end_id for segment in PLAN.segments]  # 0 is the trunk, the others its branches


def attempt_of(out: Path, number: int) -> Path:
    (attempt,) = out.glob(f"segments/{ENDS[number]}.*/attempt-*")
    return attempt


# Every file of an attempt that is read; of those that match, the largest is damaged.
FILES = (
    "record.json", "steps.jsonl", "evaluations.jsonl", "manifest.json", "../DONE.json",
    "state/_METADATA", "state/_CHECKPOINT_METADATA", "state/commit_success.txt",
    "state/manifest.ocdbt", "state/ocdbt.process_0/manifest.ocdbt",
    "state/ocdbt.process_0/d/*", "state/d/*",
)  # fmt: skip
STOPS = "stops/*.npz"
NEVER_READ = {"marker"}  # the draft that DONE.json is a link to
HARMS = (truncate, empty, flip, remove)


def test_these_are_all_files_of_an_attempt(sound: Path) -> None:
    for number in range(len(ENDS)):
        attempt = attempt_of(sound, number)
        there = {path for path in attempt.rglob("*") if path.is_file()}
        known = {path for pattern in (*FILES, STOPS) for path in attempt.glob(pattern)}
        assert {path.name for path in there - known} == NEVER_READ


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("file", FILES)
def test_a_damaged_file_is_said_aloud_and_its_segment_trained_again(
    out: Path, whole: Outcome, file: str, harm: Any
) -> None:
    number = (FILES.index(file) + HARMS.index(harm)) % 2  # trunk or branch
    harm(max(attempt_of(out, number).glob(file), key=lambda path: path.stat().st_size))
    said: list[str] = []
    again = trained(out, small_sweep(), said.append)
    (line,) = said
    if (file, harm) == ("../DONE.json", remove):  # as if killed before the marker was made
        assert line.startswith("left over from a run that was stopped: removed")
    else:
        assert line.startswith("damaged, set aside and trained again from its parent: ")
        assert ENDS[number][:12] in line
    assert again.trained_tokens == PLAN.segments[number].tokens
    assert csv(again) == csv(whole)
    assert trained(out, small_sweep(), said.append).trained_tokens == 0


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("number", [0, 1])
def test_a_damaged_state_on_the_way_costs_no_training(
    out: Path, whole: Outcome, number: int, harm: Any
) -> None:
    place = largest(attempt_of(out, number) / "stops")
    harm(place)
    said: list[str] = []
    again = trained(out, small_sweep(), said.append)
    assert len(said) == (harm is not remove)  # one that is gone may have been collected
    assert all(line.startswith("damaged state on the way, removed, ") for line in said)
    assert (again.trained_tokens, csv(again), place.exists()) == (0, csv(whole), False)


@pytest.mark.parametrize("name", ["attempt-000000000000", "../../sweep.json", "stops"])
def test_a_marker_that_names_a_missing_attempt_is_said_aloud(
    out: Path, whole: Outcome, name: str
) -> None:
    marker = attempt_of(out, 1).parent / "DONE.json"
    marker.write_text(json.dumps(json.loads(marker.read_text()) | {"attempt": name}))
    said: list[str] = []
    again = trained(out, small_sweep(), said.append)
    assert [ENDS[1][:12] in line and "damaged" in line for line in said].count(True) == 1
    assert (again.trained_tokens, csv(again)) == (PLAN.segments[1].tokens, csv(whole))


def test_an_attempt_that_is_gone_with_all_its_files_is_trained_again(
    out: Path, whole: Outcome
) -> None:
    shutil.rmtree(attempt_of(out, 0))
    said: list[str] = []
    again = trained(out, small_sweep(), said.append)
    assert any(ENDS[0][:12] in line and "damaged" in line for line in said)
    assert (again.trained_tokens, csv(again)) == (PLAN.segments[0].tokens, csv(whole))


def test_a_sweep_of_which_every_state_is_damaged_is_trained_again(
    out: Path, whole: Outcome
) -> None:
    for number in range(len(ENDS)):
        flip(largest(attempt_of(out, number) / "state"))
    said: list[str] = []
    again = trained(out, small_sweep(), said.append)
    assert sum("damaged, set aside" in line for line in said) == len(ENDS)
    tokens = sum(segment.tokens for segment in PLAN.segments)
    assert (again.trained_tokens, csv(again)) == (tokens, csv(whole))


def test_damage_found_only_when_a_state_is_read_is_repaired_in_the_same_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Outcome
) -> None:
    trained(tmp_path, small_sweep(ratios=(0.0,)))
    load = Store.load

    def load_and_rot(self: Store, verify_states: bool = False, set_aside: bool = True) -> Any:
        index = load(self, verify_states, set_aside)
        monkeypatch.setattr(Store, "load", load)  # rots once
        for attempt in index.states.values():
            flip(largest(attempt / "state") if attempt.is_dir() else attempt)
        return index

    monkeypatch.setattr(Store, "load", load_and_rot)
    said: list[str] = []
    assert csv(trained(tmp_path, small_sweep(), said.append)) == csv(whole)
    assert any("is damaged" in line for line in said)
