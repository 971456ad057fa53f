"""Marks of a drawn figure, found by value in its data."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fits.figures.marks import Mark, with_marks
from fits.figures.plots import Figure

DATA = pd.DataFrame(
    {
        "arm": ["a", "a", "a", "a", "b", "b", "b", "b"],
        "seed": [0, 0, 1, 1, 0, 0, 1, 1],
        "tokens": [1e6, 2e6, 1e6, 2e6, 1e6, 2e6, 1e6, 2e6],
        "loss": [2.11, 1.92, 2.13, 1.97, 3.05, 2.51, 3.14, 2.62],
    }
)


def marks_of(draw: Callable[[Any], None], data: pd.DataFrame = DATA) -> list[Mark]:
    figure = Figure("f", "", data, lambda canvas: draw(canvas.subplots()), 3.0)
    return with_marks(figure)[1]


def test_a_mark_stands_for_the_row_with_both_values_at_its_place() -> None:
    marks = marks_of(lambda axes: axes.plot(DATA["tokens"], DATA["loss"], "o"))
    assert sorted(mark.rows for mark in marks) == [(k,) for k in range(8)]
    at = {mark.rows[0]: mark for mark in marks}
    assert all(mark.alone and 0 < mark.x < 1 and 0 < mark.y < 1 for mark in marks)
    assert at[0].x == at[2].x < at[1].x
    assert at[6].y < at[4].y < at[2].y < at[0].y < at[3].y < at[1].y  # upwards is smaller


def test_places_are_those_of_the_picture() -> None:
    def draw(axes: Any) -> None:
        axes.set_position([0.2, 0.1, 0.6, 0.8])
        axes.plot(DATA["tokens"], DATA["loss"], "o")
        axes.set(xlim=(1e6, 3e6), ylim=(0, 4))
        axes.figure.set_layout_engine("none")

    at = {mark.rows[0]: mark for mark in marks_of(draw)}
    assert at[5].x == pytest.approx(0.2 + 0.6 * 0.5, abs=1e-4)
    assert at[5].y == pytest.approx(1 - (0.1 + 0.8 * 2.51 / 4), abs=1e-4)


def test_a_vertex_of_a_mean_stands_for_the_rows_of_its_group() -> None:
    def draw(axes: Any) -> None:
        for _, rows in DATA.groupby("arm"):
            mean = rows.groupby("tokens")["loss"].mean()
            axes.plot(mean.index, mean)

    marks = marks_of(draw)
    assert sorted(mark.rows for mark in marks) == [(0, 2), (1, 3), (4, 6), (5, 7)]
    assert not any(mark.alone for mark in marks)


def test_means_at_places_that_are_not_drawn_to_scale() -> None:
    mean = DATA.groupby(["arm", "tokens"])["loss"].mean()
    marks = marks_of(lambda axes: axes.plot(range(4), mean, "s"))
    assert sorted(mark.rows for mark in marks) == [(0, 2), (1, 3), (4, 6), (5, 7)]


def test_percent_and_marks_that_were_moved_aside() -> None:
    def draw(axes: Any) -> None:
        axes.scatter(DATA["tokens"] * 1.02, 100 * DATA["loss"])

    assert sorted(mark.rows for mark in marks_of(draw)) == [(k,) for k in range(8)]


def test_nothing_is_claimed_of_curves_of_lines_across_and_of_what_is_out_of_view() -> None:
    def draw(axes: Any) -> None:
        line = np.linspace(1.1e6, 1.9e6, 50)
        axes.plot(line, 3 - line / 1e6)
        axes.axhline(2.11)
        axes.axvline(1e6)
        axes.plot(DATA["tokens"], DATA["loss"], "o")
        axes.set_ylim(1.9, 2.2)

    assert sorted(mark.rows for mark in marks_of(draw)) == [(0,), (1,), (2,), (3,)]


def test_a_mark_whose_value_is_not_in_the_data_stands_for_no_row() -> None:
    assert marks_of(lambda axes: axes.plot([1e6], [2.12345], "o")) == []
    # a count in the data is no reading: 0 and 1 stand there, but not as places
    assert marks_of(lambda axes: axes.plot([0, 1], [0, 1], "o")) == []


def test_a_figure_without_data_or_marks_has_none() -> None:
    assert marks_of(lambda axes: axes.plot([], [], "o")) == []
    assert marks_of(lambda axes: axes.plot([1.5], [1.5], "o"), pd.DataFrame({"a": []})) == []


def test_the_picture_is_that_of_the_figure() -> None:
    figure = Figure("f", "", DATA, lambda canvas: canvas.subplots().plot([1, 2], [3, 4]))
    assert with_marks(figure)[0] == figure.render("svg")


def test_very_many_signs_are_a_line() -> None:
    many = pd.DataFrame({"x": np.linspace(0.1, 0.9, 300), "y": np.linspace(0.2, 0.8, 300) ** 2})
    marks = marks_of(lambda axes: axes.plot(many["x"], many["y"], "."), many)
    assert len(marks) == 300
    assert not any(mark.alone for mark in marks)
