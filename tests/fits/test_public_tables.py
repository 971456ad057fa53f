"""Measurements of others: the fits that their authors, or who read them again, published."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fits import Fit, fit, fit_groups, read_table
from fits.laws.size_and_data import HOFFMANN_STARTS

# Gu et al. 2024, arXiv 2407.17467, table 2: domain loss after 20 B tokens, by size and ratio.
TABLE_2 = {
    460e6: {1.0: 1.4628, 3 / 4: 1.4844, 1 / 2: 1.5122, 1 / 3: 1.5387, 1 / 4: 1.5561},
    940e6: {1.0: 1.3723, 3 / 4: 1.3910, 1 / 2: 1.4155, 1 / 3: 1.4385, 1 / 4: 1.4538},
    1.6e9: {1.0: 1.3242, 3 / 4: 1.3416, 1 / 2: 1.3643, 1 / 3: 1.3854, 1 / 4: 1.3994},
    3.1e9: {1.0: 1.2585, 3 / 4: 1.2750, 1 / 2: 1.2965, 1 / 3: 1.3170, 1 / 4: 1.3305},
}


def table_2() -> pd.DataFrame:
    return pd.DataFrame(
        {"n_params": size, "ratio_domain": ratio, "loss_nats": loss, "held_out": ratio == 1 / 4}
        for size, losses in TABLE_2.items()
        for ratio, loss in losses.items()
    )


@pytest.fixture(scope="module")
def by_size() -> list[Fit]:
    return fit_groups("cmr-ratio", table_2(), "n_params", holdout="held_out == true")


def test_the_ratio_held_out_is_predicted_within_a_twentieth_of_a_percent(
    by_size: list[Fit],
) -> None:
    assert [one.group["n_params"] for one in by_size] == list(TABLE_2)
    for one in by_size:
        assert one.points == 4
        assert one.max_relative_error is not None
        assert one.max_relative_error < 0.05e-2
        (row,) = one.held_out
        assert row.low is not None
        assert row.high is not None
        assert row.low < row.observed < row.high


def test_the_parameters_of_table_2_are_those_of_plain_least_squares(by_size: list[Fit]) -> None:
    expected = [
        (1.8890, -0.4261, 0.178),
        (1.7433, -0.3710, 0.179),
        (1.6367, -0.3124, 0.198),
        (1.6154, -0.3569, 0.163),
    ]
    for one, (beta, alpha, s) in zip(by_size, expected, strict=True):
        assert one.params["beta"] == pytest.approx(beta, abs=1e-4)
        assert one.params["alpha"] == pytest.approx(alpha, abs=1e-4)
        assert one.params["s"] == pytest.approx(s, abs=1e-3)


def width(one: Fit, name: str) -> float:
    own = one.interval(name)
    return float("inf") if own.low is None or own.high is None else own.high - own.low


def test_four_points_for_three_parameters_have_wide_or_open_intervals(by_size: list[Fit]) -> None:
    for one in by_size:
        # the scatter of the same law through eight ratios, each as uncertain as this fit's points
        ratios = [1 / 8, 1 / 4, 1 / 3, 1 / 2, 5 / 8, 3 / 4, 7 / 8, 1.0]
        signs = [1, -1, -1, 1, 1, -1, -1, 1]
        eight = pd.DataFrame({"ratio_domain": ratios})
        eight["loss_nats"] = one.predict(eight)["predicted"]
        eight["loss_nats"] += [sign * one.residual_rms for sign in signs]
        assert width(one, "s") > 0.25  # of .16 to .20
        assert width(one, "s") > 5 * width(fit("cmr-ratio", eight), "s")


def test_with_a_rounded_third_the_prediction_is_worse(by_size: list[Fit]) -> None:
    rounded = table_2().replace({"ratio_domain": {1 / 3: 0.33}})
    found = fit_groups("cmr-ratio", rounded, "n_params", holdout="held_out == true")
    for exact, one in zip(by_size, found, strict=True):
        assert one.max_relative_error is not None
        assert exact.max_relative_error is not None
        assert one.max_relative_error > 0.05e-2 > 5 * exact.max_relative_error


def test_table_2_is_restated_without_a_slip(public_tables: Path) -> None:
    theirs = read_table(public_tables / "cmr_table2.csv")
    ours = {(row.n_params, row.ratio_domain): row.loss_nats for row in table_2().itertuples()}
    assert ours == {
        (row.n_params, row.ratio_domain): row.loss_domain_nats for row in theirs.itertuples()
    }


def test_the_public_file_of_table_2_is_fitted_as_it_stands(
    public_tables: Path, by_size: list[Fit]
) -> None:
    theirs = read_table(public_tables / "cmr_table2.csv")
    found = fit_groups("cmr-ratio", theirs, "n_params", holdout="held_out == 1", interval="none")
    for one, ours in zip(found, by_size, strict=True):
        assert one.params == pytest.approx(ours.params)
        assert one.notes == ("loss_nats is taken from column loss_domain_nats",)


@pytest.fixture(scope="module")
def epoch(public_tables: Path) -> pd.DataFrame:
    return read_table(public_tables / "chinchilla_epoch245.csv")


def test_chinchilla_is_found_as_besiroglu_et_al_found_it(epoch: pd.DataFrame) -> None:
    found = fit("chinchilla", epoch, where="in_published_fit == 1")
    assert found.points == 240
    assert found.objective == "huber-log"
    assert found.objective_value == pytest.approx(0.00101827403, abs=1e-8)
    assert found.objective_value < 0.00101827403 * (1 + 1e-6)
    expected = {"E": 1.81723, "A": 477.8, "B": 2143.0, "alpha": 0.34731, "beta": 0.36717}
    for name, value in expected.items():
        assert float(f"{found.params[name]:.4g}") == float(f"{value:.4g}"), name
    assert found.agree == found.starts


def test_published_parameters_are_that_optimum(epoch: pd.DataFrame) -> None:
    found = fit("chinchilla", epoch, where="in_published_fit == 1")
    published = found.law.published["2404.10102"]
    assert found.problem.value(published) == pytest.approx(found.objective_value, rel=1e-6)
    quoted = {"E": 1.8172, "A": 482.01, "B": 2085.43, "alpha": 0.3478, "beta": 0.3658}
    assert found.problem.value(quoted) > found.objective_value * (1 + 1e-4)  # another objective's


def test_five_outliers_move_the_data_exponent(epoch: pd.DataFrame) -> None:
    found = fit("chinchilla", epoch)
    assert found.points == 245
    assert found.params["beta"] == pytest.approx(0.453, abs=5e-4)


def test_resampled_spread_is_that_of_four_thousand_bootstraps(epoch: pd.DataFrame) -> None:
    # 150 draws know a standard deviation to 6 %, one in a thousand is off by more than 20 %; B is
    # heavy-tailed and has no such rule
    found = fit("chinchilla", epoch, where="in_published_fit == 1", interval="bootstrap", draws=150)
    spread = pd.DataFrame(found.draws).std()
    for name, published in {"E": 0.0257, "alpha": 0.0154, "beta": 0.0206}.items():
        assert spread[name] == pytest.approx(published, rel=0.2), name
    for name, value in found.law.published["2404.10102"].items():
        one = found.interval(name)
        assert one.low is not None
        assert one.high is not None
        assert one.low < value < one.high


@pytest.mark.parametrize(
    ("subset", "alpha", "beta", "objective"),
    [("hot", 0.2929, 0.7129, 0.001981613), ("cool_end", 0.3003, 0.5802, 0.001964087)],
)
def test_gemstones_are_found_as_published(
    public_tables: Path, subset: str, alpha: float, beta: float, objective: float
) -> None:
    table = read_table(public_tables / "gemstones_hot_coolend.csv")
    found = fit("chinchilla", table, where=f"subset == {subset}")
    assert found.objective_value == pytest.approx(objective, abs=1e-9)
    assert found.params["alpha"] == pytest.approx(alpha, abs=1e-4)
    assert found.params["beta"] == pytest.approx(beta, abs=1e-4)
    assert found.agree == found.starts


def test_the_quoted_chinchilla_refit_is_one_of_least_absolute_deviation(
    epoch: pd.DataFrame,
) -> None:
    found = fit("chinchilla", epoch, where="in_published_fit == 1", objective="absolute-log")
    # theirs is Huber's with a delta of 4.7e-9, which ends 3e-6 of B short of the optimum
    assert found.params["A"] == pytest.approx(482.01, abs=0.005)
    assert found.params["B"] == pytest.approx(2085.43, abs=0.01)
    assert found.params["alpha"] == pytest.approx(0.3478, abs=5e-5)
    assert found.params["beta"] == pytest.approx(0.3658, abs=6e-5)
    assert found.params["E"] == pytest.approx(1.81686, abs=1e-5)


def test_all_4500_starts_of_hoffmann_et_al_end_nowhere_better(epoch: pd.DataFrame) -> None:
    rows = epoch[epoch["in_published_fit"] == 1]
    grid = fit("chinchilla", rows, starts=HOFFMANN_STARTS, interval="none")
    few = fit("chinchilla", rows, interval="none")
    assert grid.starts == 4500
    assert grid.agree > 500
    assert grid.objective_value == pytest.approx(few.objective_value, rel=1e-9)
    assert grid.params == pytest.approx(few.params, rel=1e-4)


def test_profile_and_bootstrap_of_the_robust_fit_agree(epoch: pd.DataFrame) -> None:
    rows = epoch[epoch["in_published_fit"] == 1]
    profiled = fit("chinchilla", rows)
    drawn = fit("chinchilla", rows, interval="bootstrap", draws=500)
    for name in ("E", "alpha", "beta"):
        assert 0.7 < width(profiled, name) / width(drawn, name) < 1.3, name


def test_llama_isoflops_are_found_by_variable_projection(public_tables: Path) -> None:
    table = read_table(public_tables / "isoflop_llama3.csv")  # a normalised score, not nats
    columns = {"loss_nats": "loss"}
    found = fit("chinchilla", table, columns=columns, objective="squares", interval="none")
    assert found.points == 133
    expected = {"E": 0.6047, "alpha": 0.3100, "beta": 0.3136}
    for name, value in expected.items():
        assert found.params[name] == pytest.approx(value, abs=5e-5), name


# Ye et al. 2403.16952, their two-domain fits: (t, ln k) at 10, 20 and 30 thousand steps
TWO_DOMAINS = {
    ("70M", "Github"): [(-2.4381, -0.5978), (-1.5473, -0.6506), (-1.6405, -0.6819)],
    ("70M", "Pile-CC"): [(-2.9041, -0.5333), (-2.2959, -0.5862), (-2.5189, -0.6257)],
    ("160M", "Github"): [(-3.6654, -0.1843), (-1.6850, -0.7528), (-1.6139, -0.7760)],
    ("160M", "Pile-CC"): [(-0.1236, 1.3070), (-2.4178, -0.5877), (-2.7239, -0.6131)],
}
OWN_SHARE = {"Github": "w_github", "Pile-CC": "w_pilecc"}


def most_linear_offset(loss: np.ndarray, share: np.ndarray) -> float:
    """The first of their two stages: c from a grid, so that ln(L - c) is most linear in r."""
    grid = np.linspace(0.0, loss.min() - 1e-6, 1000)
    linear = [abs(np.corrcoef(np.log(loss - c), share)[0, 1]) for c in grid]
    return float(grid[int(np.argmax(linear))])


@pytest.mark.parametrize(("size", "domain"), TWO_DOMAINS)
def test_mixing_laws_of_two_domains_are_found_in_two_stages(
    public_tables: Path, size: str, domain: str
) -> None:
    table = read_table(public_tables / "mixlaw_2domain.csv")
    share = OWN_SHARE[domain]
    for step, (t, log_k) in zip((10_000, 20_000, 30_000), TWO_DOMAINS[size, domain], strict=True):
        rows = table[
            (table["model_size"] == size)
            & (table["val_domain"] == domain)
            & (table["step"] == step)
        ]
        c = most_linear_offset(rows["loss_nats"].to_numpy(), rows[share].to_numpy())
        options = {"columns": {"ratio_domain": share}, "pin": {"c": c}, "interval": "none"}
        found = fit("data-mixing", rows, objective="huber:0.02", **options)
        assert found.params["t"] == pytest.approx(t, abs=1e-3)
        assert np.log(found.params["k"]) == pytest.approx(log_k, abs=1e-3)
        degenerate = (size, domain, step) == ("160M", "Pile-CC", 10_000)
        assert (c == 0.0) == degenerate  # an offset at the grid's end is no optimum
        free = fit("data-mixing", rows, columns={"ratio_domain": share}, interval="none")
        # with the offset at 0 the published pair is far from the best that the form can do
        worse = found.residual_rms / free.residual_rms
        assert (worse > 2) == degenerate, (step, worse)


TRAIN, TEST = "split == train", "split == test"


@pytest.fixture(scope="module", params=[25, 100])
def of_curves(request: pytest.FixtureRequest, public_tables: Path) -> pd.DataFrame:
    table = read_table(public_tables / "mpl_loss_curves_25M_100M.csv")
    return table[table["model_size_M"] == request.param]


def mean_errors(table: pd.DataFrame, predicted: pd.Series) -> dict[str, float]:
    """R2, mean and largest relative error of each test curve, averaged over curves."""
    each = []
    for _, rows in table.groupby("schedule"):
        missed = rows["loss_nats"] - predicted.loc[rows.index]
        relative = (missed / rows["loss_nats"]).abs()
        spread = ((rows["loss_nats"] - rows["loss_nats"].mean()) ** 2).sum()
        each.append([1 - (missed**2).sum() / spread, relative.mean(), relative.max()])
    return dict(zip(("r2", "mean", "worst"), np.mean(each, axis=0), strict=True))


def test_schedule_laws_fitted_on_three_curves_predict_six_unseen(of_curves: pd.DataFrame) -> None:
    unseen = of_curves[of_curves["split"] == "test"]
    for name in ("annealing", "annealing-free", "multi-power", "functional"):
        found = fit(name, of_curves, where=TRAIN, interval="none")
        errors = mean_errors(unseen, found.predict(unseen, band="curve")["predicted"])
        assert errors["r2"] > 0.997, name
        assert errors["mean"] < 0.002, name  # published for multi-power: .0011 and .0014
        assert errors["worst"] < 0.0075, name  # .0041 and .0058


def test_the_published_multi_power_parameters_are_no_optimum(of_curves: pd.DataFrame) -> None:
    size = int(of_curves["model_size_M"].iloc[0])
    found = fit("multi-power", of_curves, where=TRAIN, interval="covariance")
    published = next(v for k, v in found.law.published.items() if k.endswith(f" {size}M"))
    assert found.objective_value < 0.5 * found.problem.value(published)
    # and the data do not single out C, beta and gamma: the optimum has others, far away
    assert not 0.5 < found.params["C"] / published["C"] < 2
    assert any("correlate" in note or "trade off" in note for note in found.notes)
