"""A finished sweep that grows trains only what is new, and ends in the table of the whole."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from lab.spec import hold, warm
from lab.store import Store
from sweeps.run import Outcome
from sweeps.sweep import Sweep
from tests.sweeps.small import BRANCH, PEAK, STEP, TRUNK, csv, files_below, small_sweep, trained

BOTH = "synthetic-words+synthetic-markov"


def evaluated_on(sweep: Sweep, *corpora: str, **changes: Any) -> Sweep:
    """The sweep with more corpora to evaluate."""
    asked = sweep.evaluate
    evaluate = dataclasses.replace(asked, corpora=(*asked.corpora, *corpora), **changes)
    return dataclasses.replace(sweep, evaluate=evaluate)


def grown(tmp_path: Path, *asked: Sweep) -> list[Outcome]:
    """One sweep after another into one folder; the last table is that of a fresh folder."""
    outcomes = [trained(tmp_path / "grown", one) for one in asked]
    assert csv(outcomes[-1]) == csv(trained(tmp_path / "fresh", asked[-1]))
    assert trained(tmp_path / "grown", asked[-1]).trained_tokens == 0
    return outcomes


# Evaluations ---------------------------------------------------------------------------------


def test_another_corpus_is_evaluated_on_kept_states_without_training(tmp_path: Path) -> None:
    first = small_sweep()
    _, more = grown(tmp_path, first, evaluated_on(first, BOTH))
    assert more.trained_tokens == 0


def test_more_windows_are_evaluated_without_training(tmp_path: Path) -> None:
    first = small_sweep()
    _, more = grown(tmp_path, first, evaluated_on(first, windows=9))
    assert more.trained_tokens == 0


def test_another_corpus_is_evaluated_on_a_diverged_run_as_far_as_it_went(tmp_path: Path) -> None:
    # The rate explodes in the step behind the stop at 4, and the next stop is the end, at 8.
    explodes = (warm(STEP, PEAK / 2), hold(3 * STEP), warm(4 * STEP, 1e30))
    first = small_sweep(ratios=(0.5,), branch=8, cpt__schedule=(explodes,))
    _, more = grown(tmp_path, first, evaluated_on(first, BOTH))
    assert more.trained_tokens == 0
    assert set(more.results["status"]) == {"diverged"}
    assert (more.results["corpus"] == BOTH).sum() == len(more.results) / 3


# Horizons ------------------------------------------------------------------------------------


def test_a_horizon_between_stops_starts_from_the_state_before_it(tmp_path: Path) -> None:
    # Stops of the branch are its steps 1, 2, 4 and 6: a horizon at 5 is a step behind one of them.
    first = small_sweep(horizons=(BRANCH,))
    _, more = grown(tmp_path, first, small_sweep(horizons=(5, BRANCH)))
    assert more.trained_tokens == 2 * STEP


def test_two_horizons_between_stops_train_nothing_in_between(tmp_path: Path) -> None:
    first = small_sweep(ratios=(0.5,), branch=12, horizons=(12,))  # 1, 2, 4, 8 and 12
    _, more = grown(tmp_path, first, small_sweep(ratios=(0.5,), branch=12, horizons=(3, 9, 12)))
    assert more.trained_tokens == 2 * STEP


def test_a_shorter_last_phase_is_there_already(tmp_path: Path) -> None:
    first = small_sweep(branch=8, horizons=(BRANCH, 8))
    _, less = grown(tmp_path, first, small_sweep(branch=BRANCH, horizons=(BRANCH,)))
    assert less.trained_tokens == 0


# Everything at once --------------------------------------------------------------------------


def test_grown_in_every_direction_at_once_a_sweep_trains_what_is_new(tmp_path: Path) -> None:
    first = small_sweep(ratios=(0.5,), horizons=(BRANCH,))
    wider = small_sweep(
        seeds=(0, 1), ratios=(0.5, 0.25), branch=BRANCH + 2, horizons=(3, BRANCH, BRANCH + 2)
    )
    _, more = grown(tmp_path, first, evaluated_on(wider, BOTH))
    # seed 0: a step for the horizon at 3, two behind the end, a branch; seed 1: all of it
    of_seed_0 = 1 + 2 + (BRANCH + 2)
    assert more.trained_tokens == (of_seed_0 + TRUNK + 2 * (BRANCH + 2)) * STEP


def test_a_sweep_may_grow_step_by_step(tmp_path: Path) -> None:
    steps = [
        small_sweep(ratios=(0.5,)),
        small_sweep(ratios=(0.5, 0.25)),
        small_sweep(ratios=(0.5, 0.25), branch=8, horizons=(5, 8)),
        evaluated_on(small_sweep(ratios=(0.5, 0.25), branch=8, horizons=(5, 8)), BOTH),
        evaluated_on(small_sweep((1, 0), (0.5, 0.25), branch=8, horizons=(5, 8)), BOTH),
    ]
    tokens = [one.trained_tokens // STEP for one in grown(tmp_path, *steps)]
    assert tokens == [TRUNK + BRANCH, BRANCH, 2 * (1 + 2), 0, TRUNK + 2 * 8]


# Kept states save work and guard nothing -----------------------------------------------------


@pytest.mark.parametrize("how", ["flipped", "truncated", "removed"])
def test_a_damaged_state_on_the_way_is_said_aloud_and_costs_its_stretch(
    tmp_path: Path, whole: Outcome, how: str
) -> None:
    first = trained(tmp_path, small_sweep())
    branch = first.plan.segments[1]
    place = first.index.states[branch.path.state_id(TRUNK + 4)]
    content = place.read_bytes()
    half = len(content) // 2
    damaged = {
        "flipped": content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :],
        "truncated": content[:-1],
    }
    if how in damaged:
        place.write_bytes(damaged[how])
    else:
        place.unlink()
    said: list[str] = []
    again = trained(tmp_path, small_sweep(), said.append)
    assert again.trained_tokens == 0  # nobody asked for that state
    assert csv(again) == csv(whole)
    assert len(said) == (how != "removed")
    assert all(branch.end_id[:12] in line for line in said)
    assert not place.exists()
    more = trained(tmp_path, evaluated_on(small_sweep(), BOTH))
    assert more.trained_tokens == 2 * STEP  # from the stop at 2 to that at 4
    assert csv(more) == csv(trained(tmp_path / "fresh", evaluated_on(small_sweep(), BOTH)))


def test_a_state_that_rots_while_a_sweep_grows_is_made_again_in_the_same_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained(tmp_path, small_sweep())
    load = Store.load

    def load_and_rot(self: Store, verify_states: bool = False, set_aside: bool = True) -> Any:
        index = load(self, verify_states, set_aside)
        monkeypatch.setattr(Store, "load", load)  # rots once
        for place in index.states.values():
            if place.suffix == ".npz":
                place.write_bytes(place.read_bytes()[::-1])
        return index

    monkeypatch.setattr(Store, "load", load_and_rot)
    said: list[str] = []
    more = trained(tmp_path, evaluated_on(small_sweep(), BOTH), said.append)
    assert any("is damaged" in line for line in said)
    assert csv(more) == csv(trained(tmp_path / "fresh", evaluated_on(small_sweep(), BOTH)))


def test_an_end_dropped_and_made_again_holds_its_arrays(tmp_path: Path) -> None:
    first = trained(tmp_path, small_sweep(ratios=(0.5,)))
    trunk = first.plan.segments[0].end_id
    store = Store(tmp_path)
    for one in first.index.held:
        store.drop_state(one.place)
    said: list[str] = []
    wider = trained(tmp_path, small_sweep(ratios=(0.5, 0.25)), said.append)
    assert wider.trained_tokens == (TRUNK + BRANCH) * STEP
    assert all("removed, nothing of it is lost" in line for line in said)
    assert store.load(verify_states=True).states[trunk].parent.name.startswith(trunk)
    files = files_below(tmp_path / "segments")
    said.clear()
    again = trained(tmp_path, small_sweep(ratios=(0.5, 0.25)), said.append)
    assert again.trained_tokens == 0
    assert not any("damaged" in line for line in said)
    assert set(files_below(tmp_path / "segments")) <= set(files)
