"""Laws of loss curves fitted on some schedules and held against others, on made losses."""

import numpy as np
import pandas as pd
import pytest

from fits.errors import Refused
from fits.laws import law
from fits.rates import Rates, schedule
from fits.schedule_findings import rewarming_table
from fits.schedule_foretold import foretell, left_out
from fits.schedules import (
    Curves,
    along,
    curves,
    difference,
    errors,
    gain,
    mean_fits,
    predicted_losses,
    ranking,
    unit_fits,
)

STEPS, PEAK, WARM = 600, 0.01, 20
TRUTH = {"L0": 1.6, "A": 0.9, "alpha": 0.5, "C": 0.5, "lam": 0.97}
FITTED = ("constant", "cosine")
LAWS = ("annealing", "annealing-free")
RATES = {
    "constant": schedule("constant", STEPS, PEAK, warmup=WARM),
    "cosine": schedule("cosine", STEPS, PEAK, warmup=WARM, end=0.001),
    "wsd": schedule("wsd", STEPS, PEAK, warmup=WARM, end=0.001, decay=120),
    "longer": schedule("constant", 2 * STEPS, PEAK, warmup=WARM),
}


def table(noise: float = 0.0, seeds: int = 3) -> pd.DataFrame:
    """Losses of annealing-free; the seeds differ by .01 in their level. The first 480 steps of wsd
    and all of constant are one segment, as the first 600 of longer are."""
    random = np.random.default_rng(0)
    rows = []
    for seed in range(seeds):
        for name, rate in RATES.items():
            steps = np.unique(np.r_[np.geomspace(5, len(rate), 40).round(), 480, len(rate)])
            places = Rates({name: rate}, [name] * len(steps), steps.astype(int))
            losses = law("annealing-free").predict(TRUTH, {"rates": places}) + 0.01 * seed
            for step, loss in zip(steps.astype(int), losses, strict=True):
                trunk = name == "constant" or (name == "wsd" and step <= 480)
                trunk |= name == "longer" and step <= STEPS
                where = f"trunk{seed}" if trunk else f"{name}{seed}"
                rows.append((name, seed, where, step, "text", loss + random.normal(0, noise), 0.5))
    columns = ["arm", "seed", "segment", "step", "corpus", "loss_nats", "epochs"]
    return pd.DataFrame(rows, columns=columns)


@pytest.fixture(scope="module")
def data() -> Curves:
    return curves(table(), "text", RATES)


def test_the_law_that_made_the_losses_misses_nothing(data: Curves) -> None:
    fits = unit_fits(data, FITTED, LAWS, WARM)
    for seed in range(3):
        found = fits["annealing-free", seed].params
        assert found["L0"] == pytest.approx(TRUTH["L0"] + 0.01 * seed, abs=1e-3)
        assert found["lam"] == pytest.approx(TRUTH["lam"], abs=1e-3)
    missed = errors(data, fits, FITTED, ["wsd", "longer"], WARM)
    free = missed[missed["law"] == "annealing-free"]
    assert len(free) == 6
    assert free["curve_error"].max() < 0.01
    order = ranking(missed, ["wsd", "longer"])
    assert order["law"].tolist() == ["annealing-free", "annealing"]
    assert order["units"].tolist() == [3, 3]
    more = order.iloc[1]
    assert more["low"] <= more["more_than_best"] <= more["high"]
    assert np.isnan(order.iloc[0]["low"])
    gained = gain(missed, *LAWS, ["wsd", "longer"])
    assert np.mean(list(gained.values())) == pytest.approx(more["more_than_best"])
    assert gain(missed, "annealing", "functional", ["wsd"]) == {}
    assert gain(missed[:0], *LAWS, ["wsd"]) == {}
    with pytest.raises(Refused, match="no seed has all of the curves wsd, other"):
        ranking(missed, ["wsd", "other"])


def test_an_error_is_of_the_rows_that_were_not_fitted(data: Curves) -> None:
    fits = unit_fits(data, FITTED, ["annealing"], WARM)
    missed = errors(data, fits, FITTED, ["wsd", "longer"], WARM).set_index(["curve", "unit"])
    rows = data.rows[(data.rows["curve"] == "wsd") & (data.rows["unit"] == 1)]
    own = rows[rows["step"] > 480]
    said = predicted_losses(fits["annealing", 1], RATES["wsd"], own["step"])
    miss = 100 * (said / own["loss_nats"].to_numpy() - 1)
    row = missed.loc[("wsd", 1)]
    assert row["rows"] == len(own)
    assert row["curve_error"] == pytest.approx(np.sqrt(np.mean(miss**2)))
    assert row["end_error"] == pytest.approx(miss[-1])
    assert row["loss_end"] == own["loss_nats"].iloc[-1]


def test_predictions_are_wide_as_curves_left_out_were_missed(data: Curves) -> None:
    before = left_out(data, FITTED, LAWS, WARM)
    assert set(before["curve"]) == {"cosine"}  # a constant rate is no test
    fits = unit_fits(data, FITTED, LAWS, WARM)
    told = foretell(data, fits, before, ["wsd"]).set_index("name")
    for name in LAWS:
        row = told.loc[f"{name}: last loss of wsd"]
        worst = before[before["law"] == name]["end_error"].abs().max() / 100
        assert row["high"] / row["predicted"] - 1 == pytest.approx(worst)
    true = np.mean([data.last("wsd", unit) for unit in range(3)])
    row = told.loc["annealing-free: last loss of wsd"]
    assert row["predicted"] == pytest.approx(true, abs=1e-3)
    with pytest.raises(Refused, match="no fitted curve has a rate that falls"):
        left_out(data, ["constant"], LAWS, WARM)


def test_mean_curves_lie_between_the_seeds(data: Curves) -> None:
    fits = mean_fits(data, FITTED, ["annealing-free"], WARM)
    assert fits["annealing-free"].params["L0"] == pytest.approx(TRUTH["L0"] + 0.01, abs=1e-3)
    lines = along(data, fits, ["wsd"], WARM)
    assert (lines["units"] == 3).all()
    assert (lines["high"] - lines["low"]).to_numpy() == pytest.approx(0.02)
    assert lines["annealing-free"].to_numpy() == pytest.approx(lines["loss_nats"], abs=1e-3)


def test_curves_of_different_ends_are_not_compared(data: Curves) -> None:
    assert difference(data, "constant", "wsd") == pytest.approx(
        {unit: data.last("constant", unit) - data.last("wsd", unit) for unit in range(3)}
    )
    with pytest.raises(Refused, match="longer ends at step 1200, wsd at 600"):
        difference(data, "longer", "wsd")
    with pytest.raises(Refused, match="no curve 'other'; there are constant, cosine, wsd, longer"):
        data.units("other")
    with pytest.raises(Refused, match="the table lacks epochs"):
        curves(table().drop(columns="epochs"), "text", RATES)


def test_what_rewarming_costs_is_read_from_where_the_decayed_curve_ended() -> None:
    steps = [100, 110, 120, 150]
    rows = [
        ("again", seed, "s", step, "text", 2.0 + rise + 0.1 * seed, 0.1)
        for seed in (0, 1)
        for step, rise in zip(steps, (0.0, 0.3 + 0.02 * seed, 0.1, -0.2), strict=True)
    ]
    rows += [("first", seed, "s", 100, "text", 2.0 + 0.1 * seed, 0.1) for seed in (0, 1)]
    columns = ["arm", "seed", "segment", "step", "corpus", "loss_nats", "epochs"]
    rates = {"again": np.full(150, 0.01), "first": np.full(100, 0.01)}
    made = curves(pd.DataFrame(rows, columns=columns), "text", rates)
    row = rewarming_table(made, "again", "first").iloc[0]
    assert row["most"] == pytest.approx(0.31)
    assert row["steps_behind"] == 10
    assert row["last"] == pytest.approx(-0.2)
    assert row["most low"] < 0.31 < row["most high"]
