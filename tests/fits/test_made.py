"""Made tables: their law and their noise are what they say."""

import numpy as np
import pytest

from fits import fit, isoflop, law, made_curves, made_points


def test_points_are_the_refit_of_chinchilla_with_noise_of_the_size_told() -> None:
    exact, noisy = made_points(0.0), made_points(0.01)
    assert exact["budget_flop"].nunique() == 15
    assert exact.groupby("budget_flop").size().min() >= 6
    np.testing.assert_allclose(exact["budget_flop"], 6 * exact["n_params"] * exact["n_tokens"])
    assert 0.4 < isoflop(exact).exponent() < 0.6  # and each budget has its optimum inside
    found = fit("chinchilla", exact, interval="none")
    assert found.params == pytest.approx(law("chinchilla").published["2404.10102"], rel=1e-5)
    spread = np.std(np.log(noisy["loss_nats"] / exact["loss_nats"]))
    assert spread == pytest.approx(0.01, rel=0.2)  # about 120 draws know it to 7 %
    assert not noisy.equals(made_points(0.01, seed=1))
    assert noisy.equals(made_points(0.01))


def test_curves_hold_the_rates_of_their_rows_and_what_to_predict() -> None:
    table, rates = made_curves(0.0)
    for name, rows in table.groupby("curve"):
        np.testing.assert_array_equal(rates[str(name)][rows["step"] - 1], rows["lr"])
    assert set(table[table["split"] == "test"]["curve"]) == {"wsd", "long cosine"}
    found = fit("multi-power", table, where="split == train", rates=rates, interval="none")
    unseen = table[table["split"] == "test"]
    predicted = found.predict(unseen, band="curve", rates=rates)["predicted"]
    np.testing.assert_allclose(predicted, unseen["loss_nats"], rtol=1e-4)
