"""Figures of the base law: what stays to be seen where a number is not found."""

import pandas as pd
from matplotlib.figure import Figure as Canvas

from fits.figures.base_law_figures import floor_figure


def test_an_interval_without_end_does_not_hide_what_is_known() -> None:
    row = {
        "text": "words",
        "E": 0.2,
        "low": 0.0,
        "high": 1e6,
        "least measured": 1.6,
        "windows allow": 0.94,
        "entropy rate": 0.91,
    }
    figure = floor_figure(pd.DataFrame([row, {**row, "high": 0.3}]))
    canvas = Canvas()
    figure.draw(canvas)
    for axes in canvas.axes:
        low, high = axes.get_ylim()
        assert low < 0.2
        assert 1.6 < high < 3
    assert figure.render("png").startswith(b"\x89PNG")
