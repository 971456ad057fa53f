"""Shared laws: nothing shared is each alone, all shared is one fit, few points are enough."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from fits import Fit, Refused, fit, fit_groups, fit_shared, law
from fits.form import Law
from fits.shared import label, shared_law

RATIOS = np.array([1 / 8, 1 / 4, 1 / 3, 1 / 2, 3 / 4, 0.9])
OWN = {10: {"alpha": -0.4, "s": 0.3, "beta": 1.9}, 20: {"alpha": -0.3, "s": 0.3, "beta": 1.7}}


def tables(noise: float = 1e-3, rows: Any = slice(None)) -> pd.DataFrame:
    parts = []
    for size, p in OWN.items():
        y = p["beta"] + p["alpha"] * RATIOS ** p["s"]
        y = y + noise * np.random.default_rng(size).normal(size=6)
        part = pd.DataFrame({"ratio_domain": RATIOS, "loss_nats": y, "n_params": size})
        parts.append(part[rows] if size == 20 else part)
    return pd.concat(parts, ignore_index=True)


@pytest.mark.parametrize("kind", ["squares", "huber-log"])
def test_nothing_shared_is_each_fitted_alone(kind: str) -> None:
    whole = fit_shared("cmr-ratio", tables(), "n_params", [], objective=kind, interval="none")
    alone = fit_groups("cmr-ratio", tables(), "n_params", objective=kind, interval="none")
    assert whole.objective_value == pytest.approx(
        sum(one.objective_value for one in alone), rel=1e-6
    )
    for one in alone:
        for name, value in one.params.items():
            there = whole.params[f"{name}[{one.group['n_params']}]"]
            assert there == pytest.approx(value, rel=1e-4 if kind == "huber-log" else 1e-6)


def test_all_shared_is_one_fit_of_all_rows() -> None:
    names = law("cmr-ratio").names
    whole = fit_shared("cmr-ratio", tables(), "n_params", names)
    plain = fit("cmr-ratio", tables())
    for name in names:
        assert whole.params[name] == pytest.approx(plain.params[name], rel=1e-8)
        own, other = whole.interval(name), plain.interval(name)
        assert (own.low, own.high) == (other.low, other.high)


def test_a_group_too_small_to_be_fitted_alone_shares_what_the_others_know() -> None:
    found = fit_shared("cmr-ratio", tables(1e-5, slice(0, 2)), "n_params", ["s"])
    assert found.points == 8
    assert found.params["alpha[20]"] == pytest.approx(-0.3, abs=2e-3)
    assert found.params["s"] == pytest.approx(0.3, abs=2e-3)
    also = fit_shared("cmr-ratio", tables(1e-5, slice(0, 2)), "n_params", ["alpha"])
    r = also.problem.residuals(also.params)
    assert np.abs(r[also.x["group"] == 1]).max() < 1e-6  # two points, s and beta: met exactly


def test_starts_of_shared_parameters_are_tried() -> None:
    found = fit_shared("cmr-ratio", tables(), "n_params", ["s"], starts={"s": (0.2, 0.4)})
    assert found.starts == 2
    with pytest.raises(Refused, match="no parameter 'gamma'"):
        fit_shared("cmr-ratio", tables(), "n_params", ["s"], starts={"gamma": (0.2,)})


def test_groups_are_those_of_the_rows_used() -> None:
    three = pd.concat([tables(), tables().iloc[:6].assign(n_params=30)])
    found = fit_shared("cmr-ratio", three, "n_params", ["s"], where="n_params < 30")
    assert found.law.groups == (10, 20)
    with pytest.raises(Refused, match="has 1 values: there is nothing to share"):
        fit_shared("cmr-ratio", three, "n_params", ["s"], where="n_params == 30")


def test_a_shared_law_of_your_own_is_read_back() -> None:
    plain = law("cmr-ratio")
    own = Law(**{**vars(plain), "name": "mine"})
    found = fit_shared(own, tables(), "n_params", ["s"])
    again = Fit.from_json(found.to_json(), [own])
    assert again.params == found.params
    frame = tables().iloc[[0, 7]]
    pd.testing.assert_frame_equal(again.predict(frame), found.predict(frame))
    with pytest.raises(Refused, match="unknown law 'mine'"):
        Fit.from_json(found.to_json())


def test_labels_tell_groups_apart() -> None:
    assert label(1e9) == "1e+09"
    assert label(np.float64(0.5)) == "0.5"
    assert (label(3), label(np.int64(3)), label("code")) == ("3", "3", "code")
    near = (123456789.0, 123456790.0)
    assert label(near[0]) != label(near[1])
    names = shared_law(law("cmr-ratio"), "n_params", near, ["s"]).names
    assert len(set(names)) == len(names) == 5


def test_a_parameter_the_law_lacks_is_not_shared() -> None:
    with pytest.raises(Refused, match="no parameter 'gamma' to share"):
        fit_shared("cmr-ratio", tables(), "n_params", ["gamma"])
    missing = tables().astype({"n_params": float})
    missing.loc[3, "n_params"] = np.nan
    with pytest.raises(Refused, match="'n_params' has 1 rows without a value"):
        fit_shared("cmr-ratio", missing, "n_params", ["s"])
