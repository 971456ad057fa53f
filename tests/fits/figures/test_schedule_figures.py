"""Figures of schedules: what is drawn is what the table holds."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure as Canvas

from fits.figures.schedule_figures import curve_figure, error_figure, loss_figure, rate_figure

LINES = pd.DataFrame(
    {
        "curve": ["a"] * 3 + ["b"] * 3,
        "step": [10, 20, 30] * 2,
        "loss_nats": [2.0, 1.8, 1.7, 2.0, 1.9, 1.5],
        "low": 1.4,
        "high": 2.1,
        "units": 2,
        "law": [2.02, 1.8, 1.7, 2.0, 1.9, 1.6],
    }
)


def test_corners_of_a_schedule_are_kept() -> None:
    rate = np.r_[np.linspace(0.1, 1, 10), np.ones(1000), np.full(1001, 0.3)]
    table = rate_figure({"drop": rate}).data
    at = table.set_index("step")["lr"]
    assert at[10] == 1.0
    assert at[1010] == 1.0
    assert at[1011] == 0.3  # the step in which it drops, of 2011
    assert (at == rate[at.index - 1]).all()


def test_errors_are_shown_in_percent_of_the_measured_loss() -> None:
    figure = curve_figure(LINES, ["a"], ["law"], "text")
    error = figure.data.set_index(["curve", "step"])["law error"]
    assert error["a", 10] == np.float64(100 * (2.02 / 2.0 - 1))
    assert error["b", 30] == np.float64(100 * (1.6 / 1.5 - 1))
    canvas = Canvas()
    figure.draw(canvas)
    assert [axes.get_title() for axes in canvas.axes[:2]] == ["a, fitted", "b"]


def test_losses_are_shown_fitted_and_foretold() -> None:
    figure = loss_figure(LINES, ["a"], "law", ["a", "b"], "text")
    canvas = Canvas()
    figure.draw(canvas)
    fitted, foretold = canvas.axes
    assert [one.get_title() for one in (fitted, foretold)] == ["fitted", "foretold"]
    points, line = foretold.lines
    assert np.asarray(points.get_ydata()).tolist() == [2.0, 1.9, 1.5]
    assert np.asarray(line.get_ydata()).tolist() == [2.0, 1.9, 1.6]


def test_a_mark_a_seed_and_a_star_for_what_is_not_ranked() -> None:
    missed = pd.DataFrame(
        [(law, name, unit, 1.0 + unit) for law in "xy" for name in "ab" for unit in (0, 1)],
        columns=["law", "curve", "unit", "curve_error"],
    )
    canvas = Canvas()
    error_figure(missed, ["a"]).draw(canvas)
    (axes,) = canvas.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b *"]
    assert [np.asarray(line.get_ydata()).tolist() for line in axes.lines] == [[1.0, 2.0]] * 4
