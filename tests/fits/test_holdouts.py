"""Leaving rows out: each fold is the fit that its own rows give, and says what it does not know."""

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fits import Refused, fit
from fits.folds import by_folds, flipped_as_large, mean_over_folds
from fits.holdouts import HoldOut, hold_out
from fits.shared import label

SIZES = np.geomspace(5e7, 5e9, 6)
TOKENS = np.geomspace(1e9, 1e11, 6)


def grid(noise: float = 3e-3, seed: int = 0) -> pd.DataFrame:
    n, d = (one.ravel() for one in np.meshgrid(SIZES, TOKENS))
    loss = 1.8 + 480 * n**-0.35 + 2100 * d**-0.37
    scatter = np.exp(noise * np.random.default_rng(seed).normal(size=len(n)))
    return pd.DataFrame({"n_params": n, "n_tokens": d, "loss_nats": loss * scatter})


def ratios(noise: float = 1e-3, seed: int = 0, count: int = 10) -> pd.DataFrame:
    r = np.geomspace(1 / 16, 1.0, count)
    loss = 1.9 - 0.4 * r**0.3 + noise * np.random.default_rng(seed).normal(size=count)
    return pd.DataFrame({"ratio_domain": r, "loss_nats": loss})


def same_one_by_one(found: HoldOut, law: str, table: pd.DataFrame, **options: Any) -> None:
    """Each fold against `fit` on the fold's own rows, nothing else in common."""
    for fold in found.folds:
        assert fold.fit is not None
        left = table.drop(index=list(fold.rows))
        alone = fit(law, left, interval="none", **options)
        assert fold.fit.points == len(left) == alone.points
        assert fold.fit.objective_value == pytest.approx(alone.objective_value, rel=1e-9)
        predicted = alone.predict(table.loc[list(fold.rows)])
        ours = [row.predicted for row in fold.fit.held_out]
        assert ours == pytest.approx(predicted["predicted"].tolist(), rel=1e-7)
        highs = [row.high for row in fold.fit.held_out]
        assert highs == pytest.approx(predicted["high"].tolist(), rel=1e-5)


@pytest.mark.parametrize(
    ("law", "objective"),
    [
        ("chinchilla", "huber-log"),
        ("chinchilla", "squares"),
        ("over-training", "squares-log"),
        ("power-mean", "squares-log"),
    ],
)
def test_folds_side_by_side_are_those_fitted_one_by_one(law: str, objective: str) -> None:
    table = grid()
    found = hold_out(law, table, folds=4, objective=objective)
    same_one_by_one(found, law, table, objective=objective)


def test_so_are_folds_with_pins_bounds_and_a_kinked_objective() -> None:
    table = ratios()
    pinned: dict[str, Any] = {
        "objective": "squares",
        "pin": {"s": 0.3},
        "bound": {"beta": (0.0, 1.88)},
    }
    same_one_by_one(hold_out("cmr-ratio", table, **pinned), "cmr-ratio", table, **pinned)
    found = hold_out("cmr-ratio", table, objective="absolute", folds=5)
    for fold in found.folds:
        assert fold.fit is not None
        left = table.drop(index=list(fold.rows))
        alone = fit("cmr-ratio", left, interval="none", objective="absolute")
        assert fold.fit.objective_value == pytest.approx(alone.objective_value, rel=1e-9)
    assert found.coverage() == (0, 0)  # a loss with a kink has no band
    assert "10 predictions have none" in found.summary()


def test_rows_left_out_take_no_part() -> None:
    table = grid()
    away = table.copy()
    away.loc[away["n_params"] == SIZES[2], "loss_nats"] = 50.0
    first, second = (hold_out("chinchilla", one, by="n_params") for one in (table, away))
    left, spoilt = first.folds[2], second.folds[2]
    assert left.name == f"n_params {label(SIZES[2])}"
    assert left.fit is not None
    assert spoilt.fit is not None
    assert left.fit.params == pytest.approx(spoilt.fit.params, rel=1e-6)
    assert {row.observed for row in spoilt.fit.held_out} == {50.0}
    for other in (0, 1, 3, 4, 5):
        one, two = first.folds[other].fit, second.folds[other].fit
        assert one is not None
        assert two is not None
        assert one.params["E"] != pytest.approx(two.params["E"], rel=1e-6)


def test_a_fold_starts_anew_where_the_fit_to_all_rows_is_misled() -> None:
    # one row so far off that the fit to all of them bends the other way
    table = ratios(count=8)
    table.loc[7, "loss_nats"] = 9.0
    found = hold_out("cmr-ratio", table, folds=8)
    fold = next(one for one in found.folds if one.rows == (7,))
    assert fold.fit is not None
    assert found.whole.params["alpha"] > 0 > fold.fit.params["alpha"]
    assert fold.fit.params["s"] == pytest.approx(0.3, abs=0.1)


def test_each_row_is_predicted_once_and_its_table_says_where_it_came_from() -> None:
    table = grid().set_index(np.arange(100, 136))
    found = hold_out("chinchilla", table, folds=5, seed=3)
    frame = found.to_frame()
    assert sorted(frame["row"]) == list(table.index)
    again = table.loc[frame["row"].tolist()].reset_index(drop=True)
    assert frame["observed"].tolist() == again["loss_nats"].tolist()
    assert frame["n_tokens"].tolist() == again["n_tokens"].tolist()
    errors = frame["predicted"] / frame["observed"] - 1
    assert np.allclose(frame["relative_error"], errors)
    assert frame["fold"].value_counts().tolist() == [8, 7, 7, 7, 7]
    assert (frame["low"] < frame["predicted"]).all()
    assert found.mean()[0] == pytest.approx(errors.mean())
    assert found.rms()[0] == pytest.approx(np.sqrt((errors**2).mean()))
    assert found.worst().relative_error == pytest.approx(errors[errors.abs().idxmax()])
    held = ((frame["low"] <= frame["observed"]) & (frame["observed"] <= frame["high"])).sum()
    assert found.coverage() == (held, 36)


def test_a_hold_out_is_plain_json() -> None:
    found = hold_out("cmr-ratio", ratios(), folds=5)
    tree = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert tree["rms_relative_error"]["value"] == pytest.approx(found.rms()[0])
    assert sum(len(one["predictions"]) for one in tree["folds"]) == 10
    assert tree["folds"][0]["predictions"][0]["observed"] == found.predictions[0].observed
    assert (tree["band"]["held"], tree["band"]["of"]) == found.coverage()


def test_seeds_of_folds_differ_and_repeat() -> None:
    table = grid()
    one, two, other = (
        hold_out("chinchilla", table, folds=5, seed=seed).to_frame() for seed in (0, 0, 1)
    )
    pd.testing.assert_frame_equal(one, two)
    assert one["row"].tolist() != other["row"].tolist()


def test_folds_of_units_keep_a_unit_whole() -> None:
    table = pd.concat([grid(seed=k).assign(run=f"run {k}") for k in range(4)], ignore_index=True)
    splits = by_folds(table, 2, "run", 0)
    for one in splits:
        assert set(table["run"][one.kept]).isdisjoint(table["run"][one.held])
        assert table["run"][one.held].nunique() == 2
    assert "each of 2 random folds of run" in hold_out("chinchilla", table, by="run", folds=2).how


def test_the_band_holds_new_observations_as_often_as_it_says() -> None:
    held = total = 0
    for seed in range(12):
        some, of = hold_out(
            "chinchilla", grid(seed=seed), folds=6, objective="squares-log"
        ).coverage()
        held, total = held + some, total + of
    assert total == 12 * 36
    assert 0.915 < held / total < 0.98  # 95 %; three standard errors of 432 rows are 3.1 %


# The future ----------------------------------------------------------------------------------


def test_rolling_fits_what_is_below_each_cut_and_predicts_what_is_beyond() -> None:
    table = grid()
    found = hold_out("chinchilla", table, rolling="n_params", cuts=[SIZES[3], SIZES[2]])
    assert [one.name for one in found.folds] == [
        f"n_params <= {size:.6g}" for size in (SIZES[2], SIZES[3])
    ]
    frame = found.to_frame()
    first = frame[frame["fold"] == found.folds[0].name]
    assert sorted(first["n_params"].unique()) == pytest.approx(SIZES[3:].tolist())
    assert np.allclose(first["reach"], first["n_params"] / SIZES[2])
    assert found.folds[0].fit is not None
    assert found.folds[0].fit.x["n_params"].max() == SIZES[2]
    assert found.nested
    assert found.mean()[1].note == "the folds are nested: too narrow"


def test_a_horizon_ends_what_is_predicted() -> None:
    found = hold_out("chinchilla", grid(), rolling="n_params", cuts=[SIZES[2]], horizon=3.0)
    assert found.to_frame()["n_params"].unique() == pytest.approx([SIZES[3]])
    assert found.mean()[1].note == "one fold: its spread cannot be measured"


def test_cuts_not_given_begin_where_there_is_enough_to_fit() -> None:
    found = hold_out("chinchilla", grid(), rolling="n_params")
    assert [one.name for one in found.folds] == [f"n_params <= {size:.6g}" for size in SIZES[:-1]]
    first = found.folds[0]  # one size alone
    assert first.why.startswith("not identified: ")
    assert first.name in found.summary()
    assert first.why in found.summary()
    later = found.to_frame()
    assert (later.loc[later["fold"] == first.name, "why"] == first.why).all()


# Names, not silence --------------------------------------------------------------------------


def test_a_fold_that_leaves_too_little_is_named_and_the_others_stand() -> None:
    table = pd.concat(
        [ratios(count=6).assign(set="many"), ratios(seed=1, count=2).assign(set="few")],
        ignore_index=True,
    )
    found = hold_out("cmr-ratio", table, by="set")
    few, many = found.folds
    assert few.fit is not None
    assert many.fit is None
    assert many.why == "refused: 2 different points left, for 3 free parameters"
    assert found.unpredicted == 6
    assert len(found.predictions) == 2
    assert f"set many: {many.why}" in found.summary()


def test_a_law_without_a_value_at_a_row_left_out_still_has_its_fold() -> None:
    table = pd.DataFrame({"cpt_tokens": 0.2e9 * np.arange(1.0, 9.0)})
    table["critical_ratio"] = 0.9 - 0.1 * np.arange(1.0, 9.0)
    table.loc[7, "critical_ratio"] = 0.1  # where the line through the others is at .1 too
    table.loc[7, "cpt_tokens"] = 0.2e9 * 40  # and here far below 0: no logarithm
    found = hold_out("cmr-critical", table, folds=8, objective="squares-log", pin={"s4": 1.0})
    fold = next(one for one in found.folds if one.rows == (7,))
    assert fold.fit is not None
    assert fold.fit.held_out[0].predicted == pytest.approx(0.9 - 4.0, rel=1e-6)
    assert np.isinf(found.losses).sum() == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"by": "run"}, "no column 'run'; it has ratio_domain, loss_nats"),
        ({"rolling": "step"}, "no column 'step'"),
        ({"folds": 1}, "1 folds: there must be 2 or more, and at most the 10 rows"),
        ({"folds": 11}, "11 folds: there must be 2 or more, and at most the 10 rows"),
        ({"by": "ratio_domain", "folds": 11}, "at most the 10 values of ratio_domain"),
        ({"by": "ratio_domain", "rolling": "ratio_domain"}, "not both"),
        ({"cuts": [0.5]}, "cuts and horizon need `rolling`"),
        ({"rolling": "ratio_domain", "horizon": 1.0}, "horizon 1: it is a factor beyond the cut"),
        ({"rolling": "ratio_domain", "cuts": [1.0]}, "no row has ratio_domain beyond 1"),
        ({"where": "ratio_domain < 0.15", "rolling": "ratio_domain"}, "no cut of ratio_domain"),
        ({"folds": 2, "where": "ratio_domain < 0.15"}, "no fold can be fitted; refused: 1"),
        ({"pin": {"gamma": 1.0}}, "has no parameter 'gamma' to pin"),
    ],
)
def test_what_cannot_be_left_out_is_refused_in_one_line(options: dict[str, Any], said: str) -> None:
    with pytest.raises(Refused) as no:
        hold_out("cmr-ratio", ratios(), **options)
    assert said in str(no.value)
    assert "\n" not in str(no.value)


def test_a_group_without_a_value_or_without_rivals_is_refused() -> None:
    with pytest.raises(Refused, match="column 'run' has one value"):
        hold_out("cmr-ratio", ratios().assign(run=1), by="run")
    with pytest.raises(Refused, match="column 'run' has 10 rows without a value"):
        hold_out("cmr-ratio", ratios().assign(run=None), by="run")


# The mean over folds -------------------------------------------------------------------------


def test_equal_folds_give_the_standard_error_of_their_means() -> None:
    values = np.random.default_rng(0).normal(size=40)
    fold = np.repeat(np.arange(8), 5)
    mean, error = mean_over_folds(values, fold)
    means = values.reshape(8, 5).mean(1)
    assert mean == pytest.approx(means.mean())
    assert error == pytest.approx(means.std(ddof=1) / np.sqrt(8))


def test_rows_that_move_together_count_as_one() -> None:
    one_each = np.random.default_rng(1).normal(size=12)
    _, alone = mean_over_folds(one_each, np.arange(12))
    _, copied = mean_over_folds(np.repeat(one_each, 9), np.repeat(np.arange(12), 9))
    assert copied == pytest.approx(alone)


def test_random_signs_are_counted_exactly_for_few_folds_and_drawn_for_many() -> None:
    apart, fold = np.array([3.0, 1.0, 1.0, -0.5]), np.array([0, 1, 1, 2])  # sums 3, 2, -.5
    assert flipped_as_large(apart, fold) == 2 / 8  # + + - itself and + + +
    six = np.array([100.0, 1.0, 1.0, 1.0, 1.0, 1.0])  # one fold outweighs all: t would not see it
    assert flipped_as_large(six, np.arange(6)) == 1 / 64
    assert flipped_as_large(np.zeros(6), np.arange(6)) == 1.0
    many = np.random.default_rng(0).normal(0.3, 1.0, 40)
    mean, error = mean_over_folds(many, np.arange(40))
    tail = 0.5 * math.erfc(mean / error / math.sqrt(2))
    assert flipped_as_large(many, np.arange(40)) == pytest.approx(tail, abs=0.01)
