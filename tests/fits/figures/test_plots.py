"""Figures: repeatable bytes, complete data, endings that are known."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fits import Fit, Refused, fit
from fits.errors import Failed
from fits.figures.continual_figures import general_loss_figure
from fits.figures.fit_figure import fit_figure
from fits.figures.plots import FORMATS
from fits.figures.style import ordered_colours
from fits.figures.ticks import short_count

RATIOS = np.array([1 / 8, 1 / 4, 1 / 3, 1 / 2, 3 / 4, 0.9])


def noise(count: int) -> np.ndarray:
    return 1e-3 * np.random.default_rng(0).normal(size=count)


@pytest.fixture(scope="module")
def of_ratio() -> Fit:
    table = pd.DataFrame({"ratio_domain": RATIOS, "loss_nats": 1.9 - 0.4 * RATIOS**0.3 + noise(6)})
    return fit("cmr-ratio", table, holdout="ratio_domain == 1/3")


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


@pytest.mark.parametrize(("cliff", "said"), [(0.12, False), (3.0, True)])
def test_a_caption_says_that_a_line_leaves_the_frame_only_where_it_does(
    cliff: float, said: bool
) -> None:
    changes = {0.0: -0.1, 0.5: 0.1, 1.0: cliff}
    table = pd.DataFrame(
        [
            {"corpus": "docs", "n_params": 10_000, "ratio": ratio, "unit": 0, "run": str(ratio),
             "tokens": tokens, "change": change * tokens / 2000}
            for ratio, change in changes.items()
            for tokens in (1000, 2000)
        ]
    )  # fmt: skip
    figure = general_loss_figure(table, "docs", (0.0,))
    assert ("leaves the frame" in figure.caption) is said
