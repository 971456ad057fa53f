"""A damaged or full disk costs a segment or an hour, never a wrong number."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lab.store
from lab.errors import Failed
from lab.store import Store
from sweeps.run import Outcome
from tests.sweeps.small import (
    BRANCH,
    STEP,
    TRUNK,
    csv,
    small_sweep,
    trained,
)


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


DAMAGES = [
    *((0, harm, "state") for harm in (truncate, empty, flip, remove)),
    (1, flip, "state"),
    *((1, flip, name) for name in ("steps.jsonl", "record.json", "manifest.json")),
    (0, truncate, "evaluations.jsonl"),
    (1, remove, "record.json"),
]


@pytest.mark.parametrize(("number", "harm", "what"), DAMAGES)
def test_a_damaged_file_is_said_aloud_and_its_segment_trained_again(
    tmp_path: Path, whole: Outcome, number: int, harm: Any, what: str
) -> None:
    first = trained(tmp_path, small_sweep())
    segment = first.plan.segments[number]  # 0 is the trunk, 1 a branch
    attempt = first.index.states[segment.end_id]
    harm(largest(attempt / "state") if what == "state" else attempt / what)
    said: list[str] = []
    again = trained(tmp_path, small_sweep(), said.append)
    assert any(segment.end_id[:12] in line and "damaged" in line for line in said)
    assert again.trained_tokens == segment.tokens
    assert csv(again) == csv(whole)
    assert trained(tmp_path, small_sweep()).trained_tokens == 0


@pytest.mark.parametrize("harm", [truncate, empty])
def test_a_damaged_marker_is_said_aloud_too(tmp_path: Path, whole: Outcome, harm: Any) -> None:
    first = trained(tmp_path, small_sweep())
    harm(first.index.states[first.plan.segments[1].end_id].parent / "DONE.json")
    said: list[str] = []
    assert csv(trained(tmp_path, small_sweep(), said.append)) == csv(whole)
    assert said


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


# A full disk ---------------------------------------------------------------------------------


@pytest.fixture
def disk() -> Iterator[dict[str, int]]:
    """Writes that the store may still do; -1: as many as it likes."""
    room = {"left": -1}
    write = lab.store._write

    def until_full(path: Path, text: str) -> None:
        if room["left"] == 0:
            raise OSError(28, "No space left on device")
        room["left"] -= 1
        write(path, text)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lab.store, "_write", until_full)
        yield room


@pytest.mark.parametrize("writes", [0, 4, 7, 12])
def test_a_full_disk_stops_the_run_and_keeps_what_was_committed(
    tmp_path: Path, disk: dict[str, int], whole: Outcome, writes: int
) -> None:
    disk["left"] = writes
    with pytest.raises(Failed, match=r"^disk full while writing to .*: free space and run again$"):
        trained(tmp_path, small_sweep())
    committed = writes // 5  # five small files a segment
    assert len(list(tmp_path.glob("segments/*/DONE.json"))) == committed
    disk["left"] = -1
    after = trained(tmp_path, small_sweep())
    assert csv(after) == csv(whole)
    kept = [0, TRUNK, TRUNK + BRANCH][committed]
    assert after.trained_tokens == (TRUNK + 2 * BRANCH - kept) * STEP
