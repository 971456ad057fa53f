"""A store that several processes use, and whose clock jumps: nothing sound is called damaged."""

import gc
import shutil
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from lab import checkpoint, store
from lab.errors import Damaged, Failed, Gone
from lab.store import EvaluationRow, Record, Store

END = "b" * 32
STATE = {"w": np.linspace(0, 1, 99, dtype=np.float32)}
ABSTRACT = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), STATE)
RECORD = Record(None, 0, END, 6, None, True, {})
ROWS = [EvaluationRow("a" * 32, 3, "set", 1.0, 1.0, 0.5)]


@pytest.fixture
def one(tmp_path: Path) -> Store:
    """A committed segment with its end state and one on the way."""
    made = Store(tmp_path)
    made.commit(RECORD, [], ROWS, STATE, {3: STATE})
    return made


def test_a_state_that_is_dropped_while_it_is_read_is_not_damaged(
    one: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage = checkpoint.damage
    place = one.load().states[END]

    def drop_first(folder: Path, manifest: Any, checksums: bool = True) -> str | None:
        if any(name.startswith("state/") for name in manifest):
            one.drop_state(place)
        return damage(folder, manifest, checksums)

    monkeypatch.setattr(checkpoint, "damage", drop_first)
    index = one.load(verify_states=True)
    assert (index.broken, index.dropped) == ([], {END})
    assert list(index.evaluations) == [("a" * 32, "set")]


def test_an_end_that_was_dropped_since_is_gone_and_keeps_its_marker(one: Store) -> None:
    place = one.load().states[END]
    one.drop_state(place)
    with pytest.raises(Gone, match="was removed since"):
        one.restore(place, ABSTRACT)
    index = one.load(verify_states=True)
    assert (index.broken, index.dropped, list(index.states)) == ([], {END}, ["a" * 32])


def test_a_state_that_is_half_there_without_a_note_is_damaged(one: Store) -> None:
    place = one.load().states[END]
    shutil.rmtree(place / "state")
    with pytest.raises(Damaged):
        one.restore(place, ABSTRACT)


# What orbax has given up it leaves behind as coroutines that nobody awaits.
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("call", [*range(1, 12), 15, 20, 30, 45])
@pytest.mark.parametrize("seconds", [1e7, -1e7])
def test_a_clock_that_jumps_in_the_middle_of_a_commit_costs_no_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int, seconds: float
) -> None:
    right, calls = time.time, [0]

    def jumping() -> float:
        calls[0] += 1
        return right() + (seconds if calls[0] >= call else 0.0)

    with monkeypatch.context() as patch:
        patch.setattr(time, "time", jumping)
        place = Store(tmp_path).commit(RECORD, [], ROWS, STATE)
    assert calls[0] >= call  # it jumped in time
    np.testing.assert_array_equal(Store(tmp_path).restore(place, ABSTRACT)["w"], STATE["w"])
    gc.collect()  # here, not in a test that is not told of them


def test_a_disk_that_is_too_slow_again_and_again_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def slow(folder: Path, state: Any) -> None:
        tries.append(folder)
        raise TimeoutError("timed out after 600 s")

    monkeypatch.setattr(checkpoint, "save", slow)
    with pytest.raises(Failed, match=r"^cannot write to .*: timed out after 600 s$"):
        Store(tmp_path).commit(RECORD, [], ROWS, STATE)
    assert len(set(tries)) == store.TRIES
