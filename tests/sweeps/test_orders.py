"""Orders in a sweep: shared where they may be, one program for all, the same bits after a kill."""

from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pandas as pd
import pytest

import lab.device_text
from lab.corpora import open_corpus, write_store
from lab.home import home
from lab.spec import OptimizerSpec, Phase, RunSpec, Share, decay, hold, warm
from lab.texts import Text
from sweeps.grid import Grid
from sweeps.run import Outcome
from sweeps.sweep import Evaluations, Sweep
from tests.sweeps.small import (
    MODEL,
    PEAK,
    STEP,
    Stopped,
    csv,
    planned,
    stop_after,
    trained,
    use_engine,
)

GRADED = "graded"
STEPS = 6
ORDERS = ("uniform", "ascending", "folded:2")


@pytest.fixture(scope="module", autouse=True)
def graded() -> None:
    """A corpus whose documents have a truth."""
    draw = np.random.default_rng(0)
    documents = [bytes(draw.integers(97, 123, 50 + k).tolist()) for k in range(60)]
    text = Text(documents, "a test", scores={"truth": draw.random(60).tolist()})
    write_store(home() / "corpora" / GRADED, GRADED, text)


def sweep(
    orders: tuple[str, ...] = ORDERS,
    last_orders: tuple[str, ...] = ("uniform", "ascending"),
    steps: int = STEPS,
) -> Sweep:
    """An order in the trunk, and one in the last phase, at a rate held and one that falls."""
    mixture = (Share(GRADED, 1.0),)
    first = Phase("pretrain", steps * STEP, mixture, (warm(STEP, PEAK), hold()))
    last = Phase("anneal", 3 * STEP, mixture, (decay(None, PEAK),))
    run = RunSpec(MODEL, OptimizerSpec(), (first, last), seed=0, batch=4)
    axes = {
        "pretrain.order": orders,
        "anneal.order": last_orders,
        "anneal.end_lr": (PEAK, 0.0),
    }
    evaluate = Evaluations((GRADED,), windows=4, phase="anneal", horizons=())
    return Sweep("small", "tiny", {"only": Grid(run, axes)}, evaluate)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return trained(tmp_path_factory.mktemp("whole"), sweep())


def test_a_trunk_of_each_order_and_branches_off_it() -> None:
    plan = planned(sweep())
    trunks = [one for one in plan.segments if one.parent is None]
    assert [(one.start, one.stop) for one in trunks] == [(0, STEPS)] * 3
    assert len(plan.segments) == 3 + 3 * 2 * 2
    assert plan.most_epochs() == planned(sweep(("uniform",))).most_epochs()


def test_orders_are_columns_and_change_the_losses(whole: Outcome) -> None:
    table = whole.results
    assert set(table["pretrain_order"]) == set(ORDERS)
    assert set(table["status"]) == {"done"}
    ends = table[(table["step"] == STEPS) & (table["anneal_order"] == "uniform")]
    assert ends.groupby("pretrain_order")["loss_nats"].first().nunique() == 3


def test_one_program_trains_every_order(tmp_path: Path, compilations: list[str]) -> None:
    trained(tmp_path / "one", sweep(("uniform",)))
    compilations.clear()
    trained(tmp_path / "more", sweep(("descending", "folded:3")))
    few = len(compilations)
    compilations.clear()
    trained(tmp_path / "again", sweep(("uniform",)))
    assert few == len(compilations)  # what is compiled for each trainer, and nothing for an order


@pytest.fixture
def compilations() -> Iterator[list[str]]:
    """Every compilation by XLA from here on."""
    seen: list[str] = []

    def note(event: str, duration: float, **_: object) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)
    yield seen
    jax.monitoring.unregister_event_duration_listener(note)


SHORT = 3  # steps of a phase
CUT = sweep(("ascending",), ("folded:2",), SHORT)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return trained(tmp_path_factory.mktemp("undisturbed"), CUT)


@pytest.mark.parametrize("calls", range(1, 3 * SHORT + 1))
def test_stopped_at_any_step_an_ordered_sweep_goes_on_to_the_same_table(
    tmp_path: Path, undisturbed: Outcome, calls: int
) -> None:
    assert undisturbed.trained_tokens == 3 * SHORT * STEP
    with pytest.MonkeyPatch.context() as patch:
        use_engine(patch, chunk_steps=1, commit_seconds=0.0)
        stop_after(patch, calls)
        with pytest.raises(Stopped):
            trained(tmp_path, CUT)
    after = trained(tmp_path, CUT)
    assert csv(after) == csv(undisturbed)
    assert after.trained_tokens <= (3 * SHORT - calls + 4) * STEP


def test_text_that_does_not_fit_the_device_is_read_in_the_same_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Outcome
) -> None:
    monkeypatch.setattr(lab.device_text, "RESIDENT_BYTES", 0)
    outcome = trained(tmp_path, sweep())
    pd.testing.assert_frame_equal(outcome.results, whole.results, check_exact=True)


def test_other_scores_train_anew(tmp_path: Path) -> None:
    asked = sweep(("ascending",))
    first = trained(tmp_path, asked)
    folder = open_corpus(GRADED).parts[0].folder
    assert folder is not None
    file = folder / "documents" / "truth.npy"
    old = np.load(file)
    try:
        np.save(file, -old)
        again = trained(tmp_path, asked)
        assert again.trained_tokens == first.trained_tokens
        np.save(file, old)
        assert trained(tmp_path, asked).trained_tokens == 0
    finally:
        np.save(file, old)
