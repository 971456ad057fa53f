"""`fit`: what it refuses, in one line each, and what it says beside the numbers."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fits import Law, Refused, fit, fit_groups, law
from fits.form import Parameter

RATIOS = np.array([1 / 8, 1 / 4, 1 / 3, 1 / 2, 3 / 4, 0.9])


def ratio_table(noise: float = 1e-3, seed: int = 0) -> pd.DataFrame:
    loss = 1.9 - 0.4 * RATIOS**0.3 + noise * np.random.default_rng(seed).normal(size=len(RATIOS))
    return pd.DataFrame({"ratio_domain": RATIOS, "loss_nats": loss})


def refusal(law: str | Law, table: pd.DataFrame, **options: Any) -> str:
    with pytest.raises(Refused) as no:
        fit(law, table, **options)
    text = str(no.value)
    assert text
    assert "\n" not in text
    return text


def with_value(table: pd.DataFrame, row: int, column: str, value: Any) -> pd.DataFrame:
    changed = table.astype({column: object})
    changed.loc[row, column] = value
    return changed


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"columns": {"loss": "loss_nats"}}, "law cmr-ratio has no variable 'loss'"),
        ({"columns": {"loss_nats": "val"}}, "needs loss_nats: the table has no column 'val'"),
        ({"pin": {"gamma": 1.0}}, "has no parameter 'gamma' to pin; it has alpha, s, beta"),
        ({"pin": {"s": float("nan")}}, "cannot pin s at nan"),
        (
            {"pin": {"alpha": -0.4, "s": 0.3, "beta": 1.9}},
            "no parameter of law cmr-ratio is left to fit",
        ),
        ({"by": "run"}, "no column 'run'; it has ratio_domain, loss_nats"),
        ({"by": "run", "interval": "bootstrap"}, "no column 'run'"),
        ({"holdout": "ratio_domain > 0.3"}, "2 different points outside the hold-out"),
        ({"holdout": "ratio_domain > 0"}, "no rows outside the hold-out"),
        ({"where": "ratio_domain > 1"}, "no rows to fit cmr-ratio to"),
        ({"holdout": "size == 3"}, "no column 'size'; it has ratio_domain, loss_nats"),
        ({"objective": "cubes"}, "unknown objective 'cubes'; allowed: squares, huber[:DELTA]"),
        ({"level": 95}, "level 95: must lie between 0 and 1"),
    ],
)
def test_a_wrong_option_is_refused_by_name(options: dict[str, Any], said: str) -> None:
    assert said in refusal("cmr-ratio", ratio_table(), **options)


def test_an_unknown_law_is_refused() -> None:
    assert "did you mean 'cmr-ratio'?" in refusal("cmr-ratios", ratio_table())


def test_a_missing_column_is_refused_with_those_there() -> None:
    said = refusal("chinchilla", ratio_table())
    assert said == (
        "law chinchilla needs n_params: the table has no column 'n_params'; "
        "it has ratio_domain, loss_nats (of another name: --columns n_params=NAME)"
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, "n/a", None])
def test_a_value_that_is_no_number_is_refused_with_its_row(value: Any) -> None:
    said = refusal("cmr-ratio", with_value(ratio_table(), 4, "loss_nats", value))
    assert "'loss_nats'" in said
    assert "row 4" in said


def test_what_must_be_positive_is_refused_with_its_row() -> None:
    assert "row 2" in refusal("cmr-ratio", with_value(ratio_table(), 2, "loss_nats", -1.0))
    assert "row 0" in refusal("cmr-ratio", with_value(ratio_table(), 0, "ratio_domain", 0.0))


def test_a_robust_fit_refuses_changes_that_have_no_logarithm() -> None:
    table = pd.DataFrame(
        {"cpt_tokens": np.geomspace(1e9, 2e10, 6), "change_nats": np.linspace(0.1, -0.1, 6)}
    )
    assert fit("cmr-domain-tokens", table).points == 6
    said = refusal("cmr-domain-tokens", table, objective="huber-log")
    assert "row 3: change_nats must be positive" in said


def test_repeated_points_do_not_count_as_different_ones() -> None:
    twice = pd.concat([ratio_table().iloc[:2]] * 4, ignore_index=True)
    said = refusal("cmr-ratio", twice)
    assert "3 free parameters and the table 2 different points (8 rows)" in said
    assert fit("cmr-ratio", twice, pin={"s": 0.3}).params["s"] == 0.3


def test_per_fits_each_group_alone_and_names_the_one_that_fails() -> None:
    table = pd.concat(
        [ratio_table(seed=k).assign(n_params=size) for k, size in enumerate((20, 10))]
    )
    found = fit_groups("cmr-ratio", table, "n_params")
    assert [one.group for one in found] == [{"n_params": 10}, {"n_params": 20}]
    assert found[1].params == fit("cmr-ratio", ratio_table(seed=0)).params
    with pytest.raises(Refused, match="no column 'size'"):
        fit_groups("cmr-ratio", table, "size")
    with pytest.raises(Refused, match=r"\An_params 20: no rows to fit"):
        fit_groups("cmr-ratio", table, "n_params", where="n_params == 10")


def test_held_out_rows_are_predicted_and_take_no_part() -> None:
    table = ratio_table()
    away = with_value(table, 2, "loss_nats", 99.0)
    held = "ratio_domain == 1/3"
    first, second = (fit("cmr-ratio", one, holdout=held) for one in (table, away))
    assert first.params == second.params
    assert first.points == 5
    (row,) = second.held_out
    assert row.observed == 99.0
    assert row.variables == {"ratio_domain": 1 / 3}
    assert row.low is not None
    assert row.high is not None
    assert row.low < row.predicted == first.held_out[0].predicted < row.high
    assert second.max_relative_error == pytest.approx((99.0 - row.predicted) / 99.0)


def test_a_hold_out_that_holds_nothing_is_said() -> None:
    found = fit("cmr-ratio", ratio_table(), holdout="ratio_domain == 0.4")
    assert found.notes == ("no row fulfils the hold-out 'ratio_domain == 0.4'",)


def test_a_parameter_at_its_bound_is_said() -> None:
    steep = pd.DataFrame({"ratio_domain": RATIOS, "loss_nats": 2.0 + RATIOS**14})
    found = fit("cmr-ratio", steep, interval="none")
    assert found.params["s"] == 10.0
    assert "s sits at its bound 10" in found.notes


def test_two_terms_on_a_single_power_law_are_not_identified() -> None:
    tokens = np.geomspace(0.2e9, 20e9, 12)
    table = pd.DataFrame({"cpt_tokens": tokens, "change_nats": 0.1 - 0.2 * (tokens / 2e8) ** 0.3})
    found = fit("cmr-general-tokens", table)
    assert any(note.startswith("not identified") for note in found.notes)
    assert {one.note for one in found.intervals.values()} == {"not identified"}
    assert all((one.low, one.high) == (None, None) for one in found.intervals.values())


def test_one_size_alone_does_not_identify_its_exponent() -> None:
    tokens = np.geomspace(1e9, 1e12, 9)
    loss = 1.8 + 0.3 + 2100 * tokens**-0.37
    table = pd.DataFrame({"n_params": 1e9, "n_tokens": tokens, "loss_nats": loss})
    assert any("not identified" in note for note in fit("chinchilla", table).notes)


def shared_trunk(statuses: tuple[str, str]) -> pd.DataFrame:
    """Two runs that list the first three rows, of the segment they share, both."""
    table = ratio_table().assign(step=range(6), corpus="code")
    first = table.iloc[:5].assign(segment=["t"] * 3 + ["a"] * 2, status=statuses[0])
    second = table.iloc[[0, 1, 2, 5]].assign(segment=["t"] * 3 + ["b"], status=statuses[1])
    return pd.concat([first, second], ignore_index=True)


def test_rows_that_runs_share_count_once() -> None:
    found = fit("cmr-ratio", shared_trunk(("done", "done")))
    assert found.points == 6
    assert found.exclusions == ("3 rows that repeat states which runs share",)
    assert found.params == fit("cmr-ratio", ratio_table()).params


def test_a_diverged_run_is_left_out_but_not_the_rows_it_shares() -> None:
    for status in ("diverged", "diverged parent"):
        found = fit("cmr-ratio", shared_trunk((status, "done")))
        assert found.exclusions[0] == "5 rows of diverged runs"
        assert sorted(found.x["ratio_domain"]) == sorted(RATIOS[[0, 1, 2, 5]])


def test_the_same_step_of_two_corpora_is_no_repetition() -> None:
    table = ratio_table()
    both = pd.concat([table.assign(corpus=name) for name in ("code", "prose")])
    found = fit("cmr-ratio", both.assign(segment="t", step=[*range(6)] * 2))
    assert found.points == 12


def test_too_few_units_are_not_resampled_but_fitted_one_by_one() -> None:
    table = pd.concat([ratio_table(seed=k).assign(run=k) for k in range(5)])
    found = fit("cmr-ratio", table, interval="bootstrap", draws=20, by="run")
    assert found.draws == ()
    assert "5 units are too few to resample: t intervals over their own fits" in found.notes
    each = [fit("cmr-ratio", rows, near=found.params) for _, rows in table.groupby("run")]
    spread = np.std([one.params["s"] for one in each], ddof=1)
    half = stats.t.ppf(0.975, 4) * spread / np.sqrt(5)
    low, high = found.interval("s").low, found.interval("s").high
    assert (low, high) == pytest.approx(
        (found.params["s"] - half, found.params["s"] + half), rel=1e-3
    )
    six = pd.concat([table, ratio_table(seed=9).assign(run=9)])
    assert len(fit("cmr-ratio", six, interval="bootstrap", draws=20, by="run").draws) == 20


def test_units_too_small_to_be_fitted_alone_have_no_interval() -> None:
    table = pd.concat([ratio_table(seed=k).assign(run=k) for k in range(2)]).assign(run=range(12))
    table["run"] = table["run"] // 4
    table = table[~((table["run"] == 2) & (table["ratio_domain"] > 0.6))]
    found = fit("cmr-ratio", table, interval="units", by="run")
    assert all(one.method == "none" for one in found.intervals.values())
    assert any("too small to fit alone" in note for note in found.notes)


def test_a_loss_with_a_kink_has_no_curvature_and_says_so() -> None:
    found = fit("cmr-ratio", ratio_table(), objective="absolute-log")
    assert any("resample" in note for note in found.notes)
    assert all((one.low, one.high) == (None, None) for one in found.intervals.values())


def test_a_response_under_another_name_is_taken_only_when_it_is_the_only_one() -> None:
    table = ratio_table().rename(columns={"loss_nats": "loss_domain_nats"})
    assert "loss_nats is taken from column loss_domain_nats" in fit("cmr-ratio", table).notes
    assert "needs loss_nats" in refusal("cmr-ratio", table.assign(loss_general_nats=2.0))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"starts": {"s": ()}}, "starts of s: [] must be finite numbers, at least one"),
        ({"starts": {"s": (0.3, np.nan)}}, "starts of s: [0.3, nan] must be finite numbers"),
        ({"near": {"s": np.inf}}, "starts of s: [inf] must be finite numbers"),
        ({"bound": {"s": (0.0, 9.0)}, "starts": {"s": (0.0,)}}, "start 0 of s: it is a scale"),
        ({"tie": {"beta": "alpha"}, "bound": {"beta": (0, 1)}}, "beta is tied: it needs no bounds"),
    ],
)
def test_starts_that_lead_nowhere_are_refused(options: dict[str, Any], said: str) -> None:
    assert said in refusal("cmr-ratio", ratio_table(), **options)


def test_a_law_without_starts_says_so() -> None:
    alone = (Parameter("alpha", ""), Parameter("s", "", 0.01, 10.0), Parameter("beta", ""))
    bare = replace(law("cmr-ratio"), parameters=alone)
    assert "has no starts of s: give `starts` or `near`" in refusal(bare, ratio_table())
    assert fit(bare, ratio_table(), near={"s": 0.4}).params["s"] == pytest.approx(
        fit("cmr-ratio", ratio_table()).params["s"], rel=1e-5
    )


def test_a_unit_without_a_name_is_refused() -> None:
    table = ratio_table().assign(run=[1.0, 1.0, 2.0, 2.0, np.nan, np.nan])
    said = refusal("cmr-ratio", table, interval="bootstrap", by="run")
    assert said == "column 'run' has 2 rows without a value"


def test_many_units_that_were_asked_for_are_not_called_few() -> None:
    table = pd.concat([ratio_table(seed=k).assign(run=k) for k in range(9)])
    found = fit("cmr-ratio", table, interval="units", by="run")
    assert len(found.unit_params) == 9
    assert not any("too few" in note for note in found.notes)


def test_resamplings_of_too_few_different_points_are_left_out_and_counted() -> None:
    table = ratio_table()  # 6 rows for 3 parameters: some draws hold 2 of them
    found = fit("cmr-ratio", table, interval="bootstrap", draws=300)
    few = 300 - len(found.draws)
    assert 0 < few < 30  # 1.99 % are expected: fewer than 3 different of 6 rows
    assert f"{few} of 300 resamplings have no fit and are left out" in found.notes


def test_resampling_lifts_a_coefficient_off_0() -> None:
    size, tokens = (
        a.ravel() for a in np.meshgrid(np.geomspace(5e7, 2e10, 5), np.geomspace(1e9, 1e12, 8))
    )
    x = {"n_params": size, "n_tokens": tokens}
    truth = {"E": 1.5, "a": 141.0, "b": 0.0, "eta": 0.121}
    noise = 0.01 * np.random.default_rng(2).normal(size=40)
    table = pd.DataFrame({**x, "loss_nats": law("over-training").predict(truth, x) + noise})
    for objective in ("squares", "huber-log"):
        found = fit("over-training", table, objective=objective, interval="bootstrap", draws=60)
        assert found.params["b"] < 1e-6
        lifted = sum(draw["b"] > 1.0 for draw in found.draws)
        assert 3 < lifted < 57, objective
