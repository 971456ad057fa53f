"""Figures of rates against width: what the coordinate check shows, and in which order."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure as Canvas

from fits.figures.rate_figures import coordinate_figure, coordinate_slopes

PLACES = ("MLP 1", "MLP 2", "attention 1", "attention 2", "embedding", "logits")
SLOPES = {"standard": 0.8, "mup": 0.0}


@pytest.fixture
def check() -> pd.DataFrame:
    """A check in which every place's change grows as a power of width that its kind has."""
    rows = [
        (kind, width, seed, step, place, 1.0, step * (1 + k) * float(width) ** slope)
        for kind, slope in SLOPES.items()
        for width in (16, 32, 64)
        for seed in (0, 1)
        for step in (0, 1, 2)
        for k, place in enumerate(PLACES)
    ]
    columns = ["parametrisation", "width", "seed", "step", "place", "size", "change"]
    return pd.DataFrame(rows, columns=columns)


def test_slopes_of_a_coordinate_check_are_of_its_last_step(check: pd.DataFrame) -> None:
    spoilt = check.assign(change=np.where(check["step"] == 1, 9.0, check["change"]))
    table = coordinate_slopes(spoilt)
    assert len(table) == len(SLOPES) * len(PLACES)
    for kind, slope in SLOPES.items():
        mine = table.loc[table["parametrisation"] == kind, "slope"]
        assert mine.tolist() == pytest.approx([slope] * len(PLACES), abs=1e-9)


def test_places_stand_in_the_order_of_the_model(check: pd.DataFrame) -> None:
    figure = coordinate_figure(check)
    canvas = Canvas()
    figure.draw(canvas)
    assert [axes.get_title() for axes in canvas.axes] == ["standard", "muP"]
    _, labels = canvas.axes[-1].get_legend_handles_labels()
    assert labels == ["embedding", "attention 1", "MLP 1", "attention 2", "MLP 2", "logits"]
    assert figure.render("png").startswith(b"\x89PNG")
