"""Figures of fits: what is drawn is in their data, what was held out is marked, names are names."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure as Canvas

from fits import Fit, Refused, fit, fit_groups, fit_shared, read_table
from fits.figures.fit_figure import fit_figure, fits_figure
from fits.figures.plots import Figure
from fits.figures.shown import MAX_CURVES, short
from fits.rates import schedule

RATIOS = np.array([1 / 8, 1 / 4, 1 / 3, 1 / 2, 3 / 4, 0.9])
TOKENS = np.geomspace(0.2e9, 40e9, 12)


def noise(count: int) -> np.ndarray:
    return 1e-3 * np.random.default_rng(0).normal(size=count)


def chinchilla_table(sizes: np.ndarray, tokens: np.ndarray) -> pd.DataFrame:
    n, d = (a.ravel() for a in np.meshgrid(sizes, tokens))
    loss = (1.8 + 480 * n**-0.35 + 2100 * d**-0.37) * np.exp(noise(len(n)))
    return pd.DataFrame({"n_params": n, "n_tokens": d, "loss_nats": loss})


@pytest.fixture(scope="module")
def of_ratio() -> Fit:
    table = pd.DataFrame({"ratio_domain": RATIOS, "loss_nats": 1.9 - 0.4 * RATIOS**0.3 + noise(6)})
    return fit("cmr-ratio", table, holdout="ratio_domain == 1/3", interval="none")


@pytest.fixture(scope="module")
def of_size() -> Fit:
    table = chinchilla_table(np.geomspace(1e8, 1e10, 4), TOKENS[::2])
    return fit("chinchilla", table, interval="none", holdout="n_params > 9e9")


@pytest.fixture(scope="module")
def of_many_sizes() -> Fit:
    rng = np.random.default_rng(1)
    n, d = 10 ** rng.uniform(8, 10, 60), 10 ** rng.uniform(9, 11, 60)
    loss = (1.8 + 480 * n**-0.35 + 2100 * d**-0.37) * np.exp(noise(60))
    table = pd.DataFrame({"n_params": n, "n_tokens": d, "loss_nats": loss})
    return fit("chinchilla", table, interval="none")


@pytest.fixture(scope="module")
def of_shares() -> Fit:
    shares = np.random.default_rng(2).dirichlet([1, 1, 1], 30)
    table = pd.DataFrame(shares, columns=["web", "code", "books"])
    table["loss_nats"] = 1.8 + np.exp(-1.5 * table.web - 0.4 * table.code) + noise(30)
    return fit("data-mixing:web+code+books", table, interval="none")


def ratio_groups() -> pd.DataFrame:
    parts = [
        pd.DataFrame({"size": size, "ratio_domain": RATIOS, "loss_nats": top - 0.4 * RATIOS**0.3})
        for size, top in ((460e6, 1.9), (3.1e9, 1.6))
    ]
    table = pd.concat(parts, ignore_index=True)
    table["loss_nats"] += noise(12)
    return table


@pytest.fixture(scope="module")
def of_groups() -> Fit:
    options = {"interval": "none", "holdout": "ratio_domain == 1/3"}
    return fit_shared("cmr-ratio", ratio_groups(), "size", ["s"], **options)


@pytest.fixture(scope="module")
def of_curves() -> Fit:
    rates = {
        "constant": schedule("constant", 2000, 1e-3, warmup=100),
        "cosine": schedule("cosine", 2000, 1e-3, warmup=100),
        "wsd": schedule("wsd", 2000, 1e-3, warmup=100, decay=400),
    }
    steps = np.arange(200, 2001, 25)
    parts = []
    for name, rate in rates.items():
        s1 = np.cumsum(rate)[steps - 1]
        fall = rate.max() - rate[steps - 1]
        parts.append(pd.DataFrame({"curve": name, "step": steps, "loss_nats": 2.6 + 0.6 / s1**0.5}))
        parts[-1]["loss_nats"] -= 100 * fall + noise(len(steps))
    table = pd.concat(parts, ignore_index=True)
    return fit("annealing", table, rates=rates, holdout="curve == 'wsd'", interval="none")


FITS = ("of_ratio", "of_size", "of_many_sizes", "of_shares", "of_groups", "of_curves")


@pytest.fixture(params=FITS)
def one(request: pytest.FixtureRequest) -> Fit:
    return request.getfixturevalue(request.param)


def drawn(figure: Figure) -> Canvas:
    canvas = Canvas(figsize=figure.size())
    figure.draw(canvas)
    return canvas


def marks(axes: Axes) -> list[tuple[float, float, bool]]:
    """(x, y, whether it is filled) of every mark."""
    found = []
    for marks in (c for c in axes.collections if isinstance(c, PathCollection)):
        faces = marks.get_facecolors()
        filled = len(faces) != 1 or to_hex(faces[0]) != "#ffffff"
        found += [(float(x), float(y), filled) for x, y in marks.get_offsets()]
    return found


def lines(axes: Axes) -> set[tuple[float, float]]:
    return {
        (float(x), float(y))
        for line in axes.lines
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
        if np.isfinite(y)
    }


def test_data_holds_every_point_and_curve_that_is_shown(one: Fit) -> None:
    x, response = one.law.variables[0].name, one.law.response.name
    figure = fit_figure(one, x)
    data, upper = figure.data, drawn(figure).axes[0]
    points = data[data["kind"] != "curve"]
    rows = {
        *zip(points[x].astype(float), points[response], strict=True),
        *zip(data[x].astype(float), data["predicted"], strict=True),
    }
    assert {(x, y) for x, y, _ in marks(upper)} | lines(upper) <= rows
    assert len(points) == one.points + len(one.held_out)
    shown_points = {(x, y) for x, y, _ in marks(upper)} | lines(upper)
    assert set(zip(points[x].astype(float), points[response], strict=True)) <= shown_points


def test_curves_are_the_law_and_its_band(one: Fit) -> None:
    data = fit_figure(one).data
    curves = data[data["kind"] == "curve"]
    if one.law.rates:
        rates = {curve.name: curve.rate for curve in one.x["rates"].curves}
        asked = one.predict(curves[["curve", "step"]], "curve", rates=rates)
    else:
        asked = one.predict(curves, "curve")
    for column in ("predicted", "low", "high"):
        np.testing.assert_allclose(curves[column], asked[column], rtol=1e-12)
    assert curves["strand"].nunique() <= MAX_CURVES


def test_curves_hold_other_variables_at_values_of_the_data(
    of_many_sizes: Fit, of_shares: Fit
) -> None:
    for one, other in ((of_many_sizes, "n_tokens"), (of_shares, "code")):
        figure = fit_figure(one, one.law.variables[0].name)
        data = figure.data
        held = data[data["kind"] == "curve"].groupby("strand")[other].unique()
        assert len(held) == MAX_CURVES
        assert all(len(values) == 1 and values[0] in one.x[other] for values in held)
        points = data[data["kind"] == "fitted"]
        assert points["shade"].between(0, 1).all()
        assert points["shade"].nunique() > MAX_CURVES  # a point between two curves is between them


def test_few_sizes_are_a_curve_each_from_the_highest_to_the_lowest(of_size: Fit) -> None:
    data = fit_figure(of_size, "n_tokens").data
    curves = data[data["kind"] == "curve"]
    assert curves.groupby("strand")["label"].first().tolist() == [
        "100 M",
        "464 M",
        "2.15 B",
        "10 B",
    ]
    points = data[data["kind"] != "curve"]
    assert (points["label"] == points["n_params"].map(short)).all()
    # the size held out has a curve, none of it among fitted points
    assert curves.groupby("label")["inside"].any().to_dict() == {
        "100 M": True,
        "464 M": True,
        "2.15 B": True,
        "10 B": False,
    }


def test_held_out_points_are_open_and_carry_their_error(of_ratio: Fit) -> None:
    figure = fit_figure(of_ratio)
    (held,) = figure.data[figure.data["kind"] == "held out"].to_dict("records")
    (row,) = of_ratio.held_out
    assert held["ratio_domain"] == 1 / 3
    assert held["residual"] == row.observed - row.predicted
    assert held["residual_percent"] == pytest.approx(100 * held["residual"] / row.predicted)
    assert (held["low"], held["high"]) == (row.low, row.high)
    upper, lower = drawn(figure).axes
    opened = [(x, y) for x, y, filled in marks(upper) if not filled]
    assert opened == [(1 / 3, row.observed)]
    (below,) = [y for _, y, filled in marks(lower) if not filled]
    assert below == pytest.approx(1e3 * held["residual"])  # in thousandths of a nat
    assert f"worst {100 * abs(row.relative_error):.2g} %" in lower.get_title(loc="right")
    assert "1e-3 nats" in lower.get_ylabel()


def test_residuals_are_relative_where_the_objective_is_of_log_loss(of_size: Fit) -> None:
    figure = fit_figure(of_size)
    fitted = figure.data[figure.data["kind"] == "fitted"]
    _, lower = drawn(figure).axes
    assert "%" in lower.get_ylabel()
    filled = [y for _, y, full in marks(lower) if full]
    np.testing.assert_allclose(filled, 100 * (of_size.y / fitted["predicted"] - 1), atol=1e-10)
    rms = np.sqrt(np.mean(np.square(filled)))
    assert f"rms {rms:.2g} %" in lower.get_title(loc="right")


def test_loss_curves_have_a_line_each_and_their_rates(of_curves: Fit) -> None:
    data = fit_figure(of_curves).data
    curves = data[data["kind"] == "curve"]
    for curve in of_curves.x["rates"].curves:
        mine = curves[curves["curve"] == curve.name]
        np.testing.assert_array_equal(mine["lr"], curve.rate[mine["step"] - 1])
        assert (mine["step"].min(), mine["step"].max()) == (200, 2000)
        assert mine["inside"].any() == (curve.name != "wsd")
    _, middle, lower = drawn(fit_figure(of_curves)).axes
    assert len(middle.lines) == 3
    assert lower.get_xlabel() == "step"
    with pytest.raises(Refused, match="no variable 'lr' to show; it has step"):
        fit_figure(of_curves, "lr")


def test_a_fit_is_drawn_over_the_variable_asked_for(of_size: Fit) -> None:
    by_size, by_tokens = fit_figure(of_size, "n_params"), fit_figure(of_size, "n_tokens")
    assert drawn(by_size).axes[-1].get_xlabel() == "n_params (parameters)"
    assert drawn(by_tokens).axes[-1].get_xlabel() == "n_tokens (tokens)"
    assert (
        drawn(fit_figure(of_size)).axes[-1].get_xlabel() == "n_tokens (tokens)"
    )  # has more values
    with pytest.raises(Refused, match="no variable 'width' to show; it has n_params, n_tokens"):
        fit_figure(of_size, "width")


def test_counts_over_decades_have_a_logarithmic_axis_and_shares_do_not(
    of_size: Fit, of_shares: Fit
) -> None:
    assert drawn(fit_figure(of_size)).axes[0].get_xscale() == "log"
    assert drawn(fit_figure(of_shares)).axes[0].get_xscale() == "linear"


def test_a_band_of_new_observations_is_wider_than_the_curve_s(of_size: Fit) -> None:
    curve, new = (fit_figure(of_size, band=band).data for band in ("curve", "new"))
    rows = curve["kind"] == "curve"
    width = [(data["high"] - data["low"])[rows] for data in (curve, new)]
    assert (width[1] > width[0]).all()
    assert "95 % of new observations" in fit_figure(of_size, band="new").caption


def test_a_variable_named_as_a_column_of_the_data_is_refused() -> None:
    share = np.linspace(0.1, 0.9, 6)
    table = pd.DataFrame({"low": share, "rest": 1 - share, "loss_nats": 2 - 0.3 * share + noise(6)})
    one = fit("data-mixing:low+rest", table, interval="none")
    with pytest.raises(Refused, match="a column 'low' of its own: give that variable another name"):
        fit_figure(one)


def test_a_fit_without_a_band_is_still_drawn() -> None:
    table = pd.DataFrame({"ratio_domain": RATIOS[:3], "loss_nats": 1.9 - 0.4 * RATIOS[:3]})
    figure = fit_figure(fit("cmr-ratio", table, interval="none"))
    assert figure.data[["low", "high"]].isna().all().all()
    assert figure.render("png").startswith(b"\x89PNG")


def test_a_boundless_band_does_not_flatten_the_points(of_ratio: Fit) -> None:
    wild = [{"alpha": -a, "s": 3.0, "beta": 1.9 + a} for a in np.linspace(-50, 50, 99)]
    low, high = drawn(fit_figure(replace(of_ratio, draws=tuple(wild)))).axes[0].get_ylim()
    assert high - low < 4 * np.ptp(of_ratio.y)


# Several fits -----------------------------------------------------------------------------------


def test_groups_share_a_frame_a_curve_each() -> None:
    fits = fit_groups("cmr-ratio", ratio_groups(), "size", interval="none")
    figure = fits_figure(fits)
    curves = figure.data[figure.data["kind"] == "curve"]
    assert curves.groupby("strand")["label"].first().tolist() == ["460 M", "3.1 B"]
    for k, one in enumerate(fits):
        mine = curves[curves["strand"] == k]
        np.testing.assert_allclose(mine["predicted"], one.predict(mine)["predicted"])
    assert figure.render("svg") == fits_figure(fits).render("svg")


def test_what_one_frame_cannot_hold_is_refused(of_ratio: Fit, of_size: Fit) -> None:
    with pytest.raises(Refused, match="no fits to draw"):
        fits_figure([])
    with pytest.raises(Refused, match="one law and objective share a frame, not chinchilla by"):
        fits_figure([of_ratio, of_size])
    with pytest.raises(Refused, match=r"chinchilla is several curves \(n_params\): draw it alone"):
        fits_figure([of_size, of_size])


# Pictures ---------------------------------------------------------------------------------------


def test_the_same_fit_gives_the_same_bytes(one: Fit) -> None:
    assert fit_figure(one).render("svg") == fit_figure(one).render("svg")


def test_names_are_drawn_as_they_stand() -> None:
    table = pd.DataFrame({"cpt_tokens": TOKENS, "change_nats": -0.1 * TOKENS**0.1 + noise(12)})
    one = fit(
        "cmr-domain-tokens",
        table,
        name=r"$\frac{$",
        group={"corpus": "<b>&$x^$"},
        interval="none",
    )
    assert fit_figure(one).render("svg").startswith(b"<?xml")
    assert fits_figure([one, one]).render("svg").startswith(b"<?xml")


def test_the_public_points_are_drawn_with_six_sizes(public_tables: Path) -> None:
    table = read_table(public_tables / "chinchilla_epoch245.csv")
    one = fit("chinchilla", table, where="in_published_fit == 1", interval="none")
    data = one.plot().data
    curves = data[data["kind"] == "curve"].groupby("strand")["n_params"].first()
    assert len(curves) == MAX_CURVES
    assert curves.is_monotonic_increasing
    assert curves.iloc[0] == one.x["n_params"].min()
    assert curves.iloc[-1] == one.x["n_params"].max()
