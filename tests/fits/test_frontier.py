"""The value of a frontier: regressions, intervals, predictions, what it says and shows."""

import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure as Canvas
from scipy import stats

from fits import Refused
from fits.figures.plots import FORMATS
from fits.frontier import PowerLaw, lines, power_laws
from fits.isoflops import isoflop

BUDGETS = np.geomspace(1e18, 1e22, 9)


def scattered(seed: int, sd: float = 0.05) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=len(BUDGETS))
    return np.asarray(0.1 * BUDGETS**0.5 * np.exp(sd * noise))


def law(value: np.ndarray, draws: np.ndarray | None = None, independent: bool = True) -> PowerLaw:
    none = np.empty((0, 2))
    return PowerLaw("n_opt", BUDGETS, value, none if draws is None else draws, "runs", independent)


def table(edges: bool = False) -> pd.DataFrame:
    """ln L is a parabola in ln N about 0.1 C^.5; the first two budgets lack the sizes below it."""
    rows = []
    for k, budget in enumerate(BUDGETS):
        steps = np.linspace(0.1 if edges and k < 2 else -1, 1, 9)
        sizes = 0.1 * budget**0.5 * np.exp(steps)
        losses = np.exp(0.02 * steps**2) * (2 + 10 * budget**-0.05)
        rows.append(pd.DataFrame({"n_params": sizes, "loss_nats": losses, "budget_flop": budget}))
    return pd.concat(rows, ignore_index=True)


def test_the_regression_and_its_interval_are_those_of_scipy() -> None:
    one = law(scattered(0))
    theirs = stats.linregress(np.log(BUDGETS), np.log(one.value))
    assert one.exponent == pytest.approx(theirs.slope, rel=1e-12)
    assert np.log(one.coefficient) == pytest.approx(theirs.intercept, rel=1e-10)
    assert one.r2 == pytest.approx(theirs.rvalue**2, rel=1e-12)
    (own,) = one.intervals(0.9)
    half = stats.t.ppf(0.95, len(BUDGETS) - 2) * theirs.stderr
    assert (own.low, own.high) == pytest.approx((theirs.slope - half, theirs.slope + half))
    assert own.method == "t of the regression over 9 budgets"


def test_the_band_of_the_line_covers_as_often_as_it_says() -> None:
    place = 1e24
    inside = exponents = 0
    for seed in range(400):
        one = law(scattered(seed))
        _, low, high = one.at(place)
        inside += bool(low[0] <= 0.1 * place**0.5 <= high[0])
        (own,) = one.intervals()
        exponents += own.low is not None and own.high is not None and own.low <= 0.5 <= own.high
    sd = np.sqrt(0.95 * 0.05 / 400)
    assert inside / 400 == pytest.approx(0.95, abs=3 * sd)
    assert exponents / 400 == pytest.approx(0.95, abs=3 * sd)


def test_lines_leave_gaps_out_row_by_row() -> None:
    x = np.arange(5.0)
    y = np.stack([2 + 3 * x, np.where(x == 2, np.nan, 1 - x), np.where(x < 3, np.nan, x)])
    found = lines(x, y)
    np.testing.assert_allclose(found[:2], [[2, 3], [1, -1]], atol=1e-12)
    assert np.isnan(found[2]).all()  # two points are a line through anything


def test_draws_give_the_first_interval_and_the_band() -> None:
    draws = np.column_stack([np.full(101, np.log(0.1)), np.linspace(0.4, 0.6, 101)])
    one = law(scattered(1), draws)
    first, second = one.intervals(0.9)
    assert (first.low, first.high) == pytest.approx((0.41, 0.59))
    assert first.method == "bootstrap of 101, runs"
    assert second.method.startswith("t of")
    _, low, high = one.at(1e20, 0.9)
    assert low[0] == pytest.approx(0.1 * 1e20**0.41, rel=1e-9)
    assert high[0] == pytest.approx(0.1 * 1e20**0.59, rel=1e-9)


def test_dependent_optima_without_draws_have_no_interval() -> None:
    one = law(scattered(1), independent=False)
    (own,) = one.intervals()
    assert (own.low, own.high, own.method) == (None, None, "none")
    middle, low, high = one.at(1e20)
    assert np.isfinite(middle).all()
    assert np.isnan(low).all()
    assert np.isnan(high).all()


def test_draws_that_mostly_fail_give_no_interval() -> None:
    value = scattered(2)
    optima = pd.DataFrame({"budget_flop": BUDGETS, "n_opt": value, "d_opt": BUDGETS / 6 / value})
    optima = optima.assign(tokens_per_param=optima["d_opt"] / value, edge=False, note="")
    draws = np.tile(np.log(value), (10, 1))
    draws[:6] = np.nan
    found = power_laws(optima, draws, np.log(BUDGETS / 6) - draws, "runs", independent=False)
    assert found["n_opt"].intervals()[0].method == "none"
    draws[:2] = np.log(value)
    found = power_laws(optima, draws, np.log(BUDGETS / 6) - draws, "runs", independent=False)
    assert found["n_opt"].intervals()[0].method == "bootstrap of 6, runs"


def test_the_three_laws_belong_together() -> None:
    one = isoflop(table())
    assert one.exponent() == pytest.approx(0.5, abs=1e-9)
    assert one.exponent("d_opt") == pytest.approx(1 - one.exponent(), abs=1e-9)
    ratio = one.exponent("d_opt") - one.exponent("n_opt")
    assert one.exponent("tokens_per_param") == pytest.approx(ratio, abs=1e-9)
    with pytest.raises(Refused, match="no law 'loss'; it has n_opt, d_opt, tokens_per_param"):
        one.exponent("loss")


def test_predictions_say_when_they_are_beyond_the_budgets() -> None:
    found = isoflop(table()).predict([1e20, 1e24])
    assert found["beyond"].tolist() == [False, True]
    np.testing.assert_allclose(found["n_opt"], 0.1 * np.array([1e10, 1e12]), rtol=1e-6)
    np.testing.assert_allclose(6 * found["n_opt"] * found["d_opt"], found["budget_flop"], rtol=1e-9)
    assert (found["n_low"] <= found["n_opt"]).all()
    assert (found["d_opt"] <= found["d_high"]).all()
    for bad in (0, -1.0, np.nan, np.inf):
        with pytest.raises(Refused, match="positive, finite number of FLOP"):
            isoflop(table()).predict(bad)


def test_an_optimum_on_the_edge_is_left_out_and_that_is_said() -> None:
    one = isoflop(table(edges=True))
    assert one.optima["edge"].tolist() == [True] * 2 + [False] * 7
    assert len(one.laws["n_opt"].value) == len(one.used) == 7
    assert one.exponent() == pytest.approx(0.5, abs=1e-9)
    said = "2 of 9 budgets are left out, 1e+18 to 3.16e+18 FLOP: the smallest size tried is best"
    assert said in one.notes
    assert f"note: {said}" in one.summary()
    assert "7 of 9 budgets" in one.summary()


def test_a_frontier_is_plain_data() -> None:
    one = isoflop(table(edges=True), "parabola", noise_nats=0.002, draws=20)
    tree = json.loads(json.dumps(one.to_dict(), allow_nan=False))
    assert tree["laws"]["n_opt"]["exponent"] == one.exponent()
    assert [own["method"] for own in tree["laws"]["d_opt"]["intervals"]] == [
        "bootstrap of 20, noise of 0.002 nats added",
        "t of the regression over 7 budgets",
    ]
    assert [row["edge"] for row in tree["optima"]] == one.optima["edge"].tolist()
    assert tree["notes"] == list(one.notes)


def test_the_figure_shows_edges_open_and_holds_its_numbers() -> None:
    one = isoflop(table(edges=True))
    figure = one.figure()
    assert set(figure.data["kind"]) == {"measured", "interpolated", "optimum", "law"}
    canvas = Canvas()
    figure.draw(canvas)
    left, right = canvas.axes
    for axes, column in ((left, "n_params"), (right, "budget_flop")):
        open_marks = {
            x.item()
            for line in axes.lines
            if line.get_marker() not in ("", "None") and line.get_markerfacecolor() == "white"
            for x in np.asarray(line.get_xdata(), np.float64)
        }
        edge = figure.data[(figure.data["kind"] == "optimum") & (figure.data["edge"] == True)]  # noqa: E712
        assert open_marks == set(edge[column])
    for kind in FORMATS:
        assert figure.render(kind) == one.figure().render(kind)
