"""Laws of loss curves through the engine: found again, predicted elsewhere, saved, refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fits import Fit, Refused, fit, law, load_fits, save_fits
from fits.rates import Rates, schedule

CURVES = {
    "constant": schedule("constant", 3000, 3e-4, warmup=200),
    "cosine": schedule("cosine", 3000, 3e-4, warmup=200, end=3e-5),
    "two-stage": schedule("two-stage", 3000, 3e-4, warmup=200, end=9e-5, decay=1200),
}
UNSEEN = {"wsd": schedule("wsd", 4000, 3e-4, warmup=200, end=3e-5, decay=800)}
TRUTH: dict[str, dict[str, float]] = {
    "annealing": {"L0": 3.0, "A": 0.5, "alpha": 0.5, "C": 0.4},
    "annealing-free": {"L0": 3.0, "A": 0.5, "alpha": 0.5, "C": 0.6, "lam": 0.9985},
    "multi-power": {
        "L0": 3.0, "A": 0.5, "alpha": 0.5, "B": 360.0, "C": 2.0, "beta": 0.6, "gamma": 0.6,
    },
    "functional": {
        "L0": 3.0, "c1": 0.5, "s": 0.5, "c2": 200.0, "c3": 1.0, "c4": 40.0, "gamma": 0.6,
    },
}  # fmt: skip


def losses(name: str, curves: dict[str, Any], noise: float = 0.0, seed: int = 0) -> pd.DataFrame:
    """Losses every 50 steps of every curve, from the end of the warm-up."""
    frame = pd.DataFrame(
        [{"curve": c, "step": s} for c, r in curves.items() for s in range(200, len(r) + 1, 50)]
    )
    places = Rates(curves, frame["curve"].tolist(), frame["step"].to_numpy())
    exact = law(name).predict(TRUTH[name], {"rates": places})
    random = np.random.default_rng(seed)
    return frame.assign(loss_nats=exact * np.exp(noise * random.normal(size=len(frame))))


@pytest.mark.parametrize("name", TRUTH)
def test_noise_free_curves_give_back_the_parameters(name: str) -> None:
    found = fit(name, losses(name, CURVES), rates=CURVES, interval="none")
    assert found.params == pytest.approx(TRUTH[name], rel=1e-4)
    assert found.residual_rms < 1e-8


@pytest.mark.parametrize("name", TRUTH)
def test_an_unseen_schedule_and_a_longer_horizon_are_predicted(name: str) -> None:
    found = fit(name, losses(name, CURVES, 1e-3), rates=CURVES, interval="covariance")
    truth = losses(name, UNSEEN)
    predicted = found.predict(truth, band="curve", rates=UNSEEN)
    error = np.abs(predicted["predicted"] / truth["loss_nats"] - 1)
    assert error.max() < 3e-3  # the noise is a third of that
    inside = (predicted["low"] <= truth["loss_nats"]) & (truth["loss_nats"] <= predicted["high"])
    assert inside.mean() > 0.5


@pytest.fixture(scope="module")
def annealed() -> Fit:
    table = losses("annealing", CURVES, 1e-3)
    return fit("annealing", table, rates=CURVES, holdout="curve == cosine and step > 2800")


def test_held_out_rows_say_on_which_curve_and_step(annealed: Fit) -> None:
    assert [row.variables for row in annealed.held_out] == [
        {"curve": "cosine", "step": step} for step in (2850, 2900, 2950, 3000)
    ]
    assert annealed.max_relative_error is not None
    assert annealed.max_relative_error < 0.01


def test_a_fit_of_curves_is_read_back_as_it_was_written(annealed: Fit, tmp_path: Path) -> None:
    save_fits([annealed], tmp_path / "fit.json")
    (again,) = load_fits(tmp_path / "fit.json")
    assert again.summary() == annealed.summary()
    assert again.x["rates"] == annealed.x["rates"]
    table = losses("annealing", UNSEEN)
    pd.testing.assert_frame_equal(
        again.predict(table, rates=UNSEEN), annealed.predict(table, rates=UNSEEN)
    )


def test_rates_may_come_with_the_rows_or_as_a_table_of_steps() -> None:
    table = losses("annealing", CURVES)
    steps = pd.concat(
        [
            pd.DataFrame({"curve": c, "step": np.arange(1, len(r) + 1), "lr": r})
            for c, r in CURVES.items()
        ]
    )
    by_table = fit("annealing", table, rates=steps, interval="none")
    assert by_table.params == pytest.approx(TRUTH["annealing"], rel=1e-6)
    rows = table.merge(steps, on=["curve", "step"])
    by_rows = fit("annealing", rows, interval="none")
    assert any("interpolated linearly" in note for note in by_rows.notes)
    # the jump of `two-stage` is 49 of its 1200 last steps late, at the row after it
    assert by_rows.params == pytest.approx(TRUTH["annealing"], rel=0.03)
    assert by_rows.params["alpha"] == pytest.approx(TRUTH["annealing"]["alpha"], rel=0.01)
    late = fit("annealing", rows[rows["step"] > 200], interval="none")  # the warm-up's end is lost
    assert late.params["alpha"] != pytest.approx(TRUTH["annealing"]["alpha"], rel=0.01)


def test_correlated_residuals_are_named() -> None:
    table = losses("annealing", CURVES)
    slow = 0.003 * np.sin(table["step"] / 300)
    found = fit("annealing", table.assign(loss_nats=table["loss_nats"] + slow), rates=CURVES)
    assert any("correlate by" in note for note in found.notes)
    white = fit("annealing", losses("annealing", CURVES, 1e-3), rates=CURVES)
    assert not any("correlate by" in note for note in white.notes)


def test_parameters_that_these_curves_do_not_know_are_named() -> None:
    # a constant rate has no decay: nothing is known of C
    constant = {"constant": CURVES["constant"]}
    found = fit("annealing", losses("annealing", constant, 1e-3), rates=constant)
    assert found.status == "not identified"
    assert any("C has no influence" in note for note in found.notes)
    assert all(one.method == "none" for one in found.intervals.values())


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda t: t, {}, "no column 'lr'; it has curve, step, loss_nats"),
        (lambda t: t, {"rates": {"cosine": CURVES["cosine"]}}, "no rates for curve 'constant'"),
        (lambda t: t.assign(step=t["step"] * 10), {"rates": CURVES}, "has steps 1 to 3000, not"),
        (lambda t: t.drop(columns="step"), {"rates": CURVES}, "needs step"),
        (lambda t: t, {"rates": CURVES, "columns": {"curve": "run"}}, "no column 'run'"),
    ],
)
def test_what_is_wrong_with_the_curves_is_said(change: Any, options: Any, message: str) -> None:
    with pytest.raises(Refused, match=message) as refusal:
        fit("annealing", change(losses("annealing", CURVES)), **options)
    assert "\n" not in str(refusal.value)


def test_other_laws_read_no_curves() -> None:
    table = pd.DataFrame({"ratio_domain": [0.1, 0.2, 0.5, 0.7], "loss_nats": [2.0, 1.9, 1.7, 1.6]})
    with pytest.raises(Refused, match="cmr-ratio reads no learning-rate curves"):
        fit("cmr-ratio", table, rates=CURVES)
