"""Figures: repeatable bytes, complete data, endings that are known."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure as Canvas

from fits import Fit, Refused, fit
from fits.errors import Failed
from fits.fit_figure import fit_figure
from fits.plots import FORMATS, Figure, ordered_colours, short_count

RATIOS = np.array([1 / 8, 1 / 4, 1 / 3, 1 / 2, 3 / 4, 0.9])
TOKENS = np.geomspace(0.2e9, 40e9, 12)


def noise(count: int) -> np.ndarray:
    return 1e-3 * np.random.default_rng(0).normal(size=count)


@pytest.fixture(scope="module")
def of_ratio() -> Fit:
    table = pd.DataFrame({"ratio_domain": RATIOS, "loss_nats": 1.9 - 0.4 * RATIOS**0.3 + noise(6)})
    return fit("cmr-ratio", table, holdout="ratio_domain == 1/3")


@pytest.fixture(scope="module")
def of_size() -> Fit:
    sizes, data = (a.ravel() for a in np.meshgrid(np.geomspace(1e8, 1e10, 4), TOKENS[::3]))
    loss = 1.8 + 480 * sizes**-0.35 + 2100 * data**-0.37 + noise(16)
    table = pd.DataFrame({"n_params": sizes, "n_tokens": data, "loss_nats": loss})
    return fit("chinchilla", table, objective="squares", interval="none")


@pytest.mark.parametrize("kind", FORMATS)
def test_the_same_figure_gives_the_same_bytes(kind: str, of_ratio: Fit, tmp_path: Path) -> None:
    first, second = fit_figure(of_ratio), fit_figure(of_ratio)
    first.save(tmp_path / "deep" / f"first.{kind}")
    content = (tmp_path / "deep" / f"first.{kind}").read_bytes()
    assert content == second.render(kind) == first.render(kind)
    assert content.startswith({"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG"}[kind])


def test_a_picture_carries_no_date(of_ratio: Fit) -> None:
    figure = fit_figure(of_ratio)
    assert b"CreationDate" not in figure.render("pdf")
    assert b"dc:date" not in figure.render("svg")


def test_another_ending_is_refused_and_writes_nothing(of_ratio: Fit, tmp_path: Path) -> None:
    for name in ("figure.gif", "figure", "figure.SVG"):
        with pytest.raises(Refused, match=r"a figure ends in \.svg, \.pdf, \.png"):
            fit_figure(of_ratio).save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_a_failure_in_one_line(of_ratio: Fit, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(Failed, match=r"\Acannot write .*[^\n]\Z"):
        fit_figure(of_ratio).save(tmp_path / "file" / "figure.svg")


def marked(figure: Figure) -> set[tuple[float, float]]:
    """Places of every mark (not line) that the figure draws."""
    canvas = Canvas()
    figure.draw(canvas)
    return {
        (float(x), float(y))
        for axes in canvas.axes
        for line in axes.lines
        if line.get_marker() not in ("None", "", None)
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
    }


@pytest.mark.parametrize("fixture", ["of_ratio", "of_size"])
def test_data_holds_every_mark_that_is_shown(fixture: str, request: pytest.FixtureRequest) -> None:
    one: Fit = request.getfixturevalue(fixture)
    figure = fit_figure(one)
    variable = one.law.variables[0].name
    held = {
        (x, y)
        for column in ("loss_nats", "predicted", "residual")
        for x, y in zip(figure.data[variable], figure.data[column], strict=True)
    }
    assert marked(figure) <= held
    assert len(figure.data) == one.points + len(one.held_out)


def test_data_marks_the_rows_that_were_held_out(of_ratio: Fit) -> None:
    data = fit_figure(of_ratio).data
    (held,) = data[data["held_out"]].to_dict("records")
    assert held["ratio_domain"] == 1 / 3
    assert held["residual"] == held["loss_nats"] - held["predicted"]
    fitted = data[~data["held_out"]]
    np.testing.assert_allclose(fitted["predicted"] + fitted["residual"], of_ratio.y)


def test_a_fit_is_drawn_over_the_variable_asked_for(of_size: Fit) -> None:
    assert fit_figure(of_size, "n_tokens").render("svg") != fit_figure(of_size).render("svg")
    with pytest.raises(Refused, match="no variable 'width'; it has n_params, n_tokens"):
        fit_figure(of_size, "width")


def test_names_are_drawn_as_they_stand() -> None:
    table = pd.DataFrame({"cpt_tokens": TOKENS, "change_nats": -0.1 * TOKENS**0.1 + noise(12)})
    one = fit("cmr-domain-tokens", table, name=r"$\frac{$", group={"corpus": "<b>&$x^$"})
    assert fit_figure(one).render("svg").startswith(b"<?xml")


def test_a_fit_without_a_band_is_still_drawn() -> None:
    table = pd.DataFrame({"ratio_domain": RATIOS[:3], "loss_nats": 1.9 - 0.4 * RATIOS[:3]})
    assert fit_figure(fit("cmr-ratio", table)).render("png").startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("value", "text"),
    [(950, "950"), (120e3, "120 k"), (1.2e6, "1.2 M"), (20e9, "20 B"), (1.5e12, "1.5 T"), (0, "0")],
)
def test_counts_are_written_short(value: float, text: str) -> None:
    assert short_count(value) == text


def test_ordered_colours_grow_lighter_and_differ() -> None:
    colours = ordered_colours(6)
    light = [0.2126 * r + 0.7152 * g + 0.0722 * b for r, g, b, _ in colours]
    assert light == sorted(light)
    assert len(set(colours)) == 6
    assert light[-1] < 0.85
