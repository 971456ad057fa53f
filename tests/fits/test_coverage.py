"""95 % intervals hold the truth in 90 to 98 % of data sets; the short version of the script."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fits import fit
from fits.coverage import (
    Coverage,
    by_curvature,
    by_fits,
    holds,
    main,
    ratios,
    side_by_side,
    sizes_and_tokens,
)
from fits.figures.coverage_figure import coverage_figure
from fits.interval import Interval

CHANCE = 1 / 500  # that an interval which covers as accepted fails its test


def least(sets: int, share: float = 0.90) -> int:
    """Hits that a coverage of `share` reaches but for one time in 500."""
    return int(stats.binom.ppf(CHANCE, sets, share))


def most(sets: int, share: float = 0.98) -> int:
    """Hits that a coverage of `share` exceeds one time in 500."""
    return int(stats.binom.ppf(1 - CHANCE, sets, share))


def refuse_outside(rows: list[Coverage]) -> None:
    for one in rows:
        assert least(one.sets) <= one.hits <= most(one.sets), one


def test_what_the_bounds_let_pass_and_what_not() -> None:
    assert stats.binom.cdf(least(200) - 1, 200, 0.90) < CHANCE
    assert stats.binom.cdf(least(200) - 1, 200, 0.80) > 0.85  # too narrow an interval is caught
    assert stats.binom.cdf(least(200) - 1, 200, 0.83) > 0.5
    assert (least(200), most(200)) == (167, 200)


@pytest.mark.parametrize("objective", ["squares", "squares-log", "huber-log"])
def test_the_size_law_with_normal_noise(objective: str) -> None:
    rows = by_curvature(sizes_and_tokens(), objective, 100)
    assert {one.quantity for one in rows} == {"E", "A", "B", "alpha", "beta", "curve", "new"}
    assert {one.method for one in rows} == {"profile", "covariance", "covariance, band"}
    refuse_outside(rows)


def test_the_size_law_with_heavy_tails() -> None:
    refuse_outside(by_curvature(sizes_and_tokens(3), "huber-log", 100))


def test_the_ratio_law_of_one_seed() -> None:
    rows = by_curvature(ratios(8, 1), "squares", 300)
    assert least(300) == 254  # of the 285 expected
    refuse_outside(rows)


def test_three_seeds_fitted_one_by_one() -> None:
    refuse_outside(by_fits(ratios(6, 3), "squares", "units", "unit", 40))


def test_resampled_seeds() -> None:
    refuse_outside(by_fits(ratios(6, 8), "squares", "bootstrap", "unit", 30, 400))


def test_resampled_rows() -> None:
    rows = by_fits(sizes_and_tokens(), "squares-log", "bootstrap", None, 40, 400)
    refuse_outside(rows)


@pytest.mark.parametrize("objective", ["squares", "huber-log"])
def test_asking_a_profile_at_the_truth_is_asking_its_interval(objective: str) -> None:
    """The script's short cut: whether the truth is rejected says whether the interval holds it."""
    design = ratios(8, 1)
    drawn = design.draw(10, seed=1)
    missed = 0
    for y, held in zip(drawn, side_by_side(design, objective, drawn), strict=True):
        frame = pd.DataFrame({**design.x, design.law.response.name: y[:-1]})
        one = fit(design.law, frame, objective=objective, near=design.truth)
        for name, value in design.truth.items():
            assert holds(one.interval(name), value) == held["profile", name], name
            missed += not held["profile", name]
    assert missed > 0  # both answers were there


def test_draws_have_the_scatter_that_is_said() -> None:
    grid = sizes_and_tokens()
    spread = np.log(grid.draw(400)[:, -1] / grid.exact)
    assert np.std(spread) == pytest.approx(0.01, rel=0.15)
    heavy = np.log(sizes_and_tokens(3).draw(4000)[:, -1] / grid.exact)
    assert stats.kurtosis(heavy) > 3
    several = ratios(6, 3)
    y = several.draw(2000)[:, :-1].reshape(2000, 3, 6)
    assert np.std(y.mean(2)) == pytest.approx(2e-3, rel=0.1)
    assert np.corrcoef(y[:, 0, 0], y[:, 0, 1])[0, 1] > 0.6  # rows of a seed go together
    assert abs(np.corrcoef(y[:, 0, 0], y[:, 1, 0])[0, 1]) < 0.1


def test_open_sides_hold_everything_beyond() -> None:
    assert holds(Interval(None, 1.0, ""), -1e9)
    assert not holds(Interval(None, 1.0, ""), 1.1)
    assert holds(Interval(1.0, None, ""), 1e9)
    assert not holds(Interval(1.0, 2.0, ""), 0.9)


def test_error_bars_are_binomial() -> None:
    one = Coverage("", "", "", "s", 380, 400)
    assert one.share == 0.95
    low, high = one.error_bar
    assert stats.binom.sf(379, 400, low) == pytest.approx(0.025, rel=1e-3)
    assert stats.binom.cdf(380, 400, high) == pytest.approx(0.025, rel=1e-3)


def test_the_figure_holds_every_number() -> None:
    rows = [
        Coverage("d", "squares", "profile", "s", 380, 400),
        Coverage("d", "squares", "covariance, band", "curve", 370, 400),
        Coverage("e", "squares", "bootstrap of rows", "s", 100, 400),
        Coverage("e", "squares", "bootstrap of rows, band", "new", 400, 400),
    ]
    figure = coverage_figure(rows)
    assert figure.data["share"].tolist() == [0.95, 0.925, 0.25, 1.0]
    assert figure.render("png")[:4] == b"\x89PNG"


def test_the_command_refuses_no_sets(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--sets", "0"])
    assert "--sets must be at least 1" in capsys.readouterr().err
