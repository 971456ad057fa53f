"""The command `lab` around a table of losses: laws, fit, predict."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

Lab = Callable[..., tuple[int, str, str]]


def test_laws_as_json(told_json: Callable[..., Any]) -> None:
    laws = {one["name"]: one for one in told_json("laws")}
    assert {"chinchilla", "cmr-ratio"} <= set(laws)
    for one in laws.values():
        assert one["response"] in one["variables"]
        assert all(one[key] for key in ("title", "formula", "source", "objective", "parameters"))


def test_fit_as_json_is_one_value_or_a_list_per_group(
    told_json: Callable[..., Any], losses: Path
) -> None:
    told = ["fit", "chinchilla", losses, "--holdout", "n_params == 1e7 and n_tokens == 1e9"]
    each = told_json(*told, "--per", "family")
    assert [one["group"] for one in each] == [{"family": "a"}, {"family": "b"}]
    one = told_json(*told, "--where", "family == a")
    assert {"law", "params", "objective", "starts", "agree", "holdout"} <= set(one)
    for key, true in {"E": 1.7, "A": 400, "B": 410, "alpha": 0.34, "beta": 0.28}.items():
        assert {"value", "low", "high"} <= set(one["params"][key])
        assert one["params"][key]["value"] == pytest.approx(true, rel=1e-4)
    assert one["params"] == each[0]["params"]
    (row,) = one["holdout"]["rows"]
    assert row["variables"] == {"n_params": 1e7, "n_tokens": 1e9}
    assert one["holdout"]["max_relative_error"] < 1e-6
    assert each[1]["params"]["A"]["value"] == pytest.approx(600, rel=1e-4)


@pytest.mark.parametrize("name", ["p.csv", "p.parquet"])
def test_predictions_of_each_group_stand_beside_its_rows(
    lab_command: Lab, told_json: Callable[..., Any], losses: Path, name: str
) -> None:
    lab_command("fit", "chinchilla", losses, "--per", "family", "--to", "fits.json")
    rows = told_json("predict", "fits.json", losses)
    assert len(rows) == len(pd.read_csv(losses))
    for row in rows:
        assert row["predicted"] == pytest.approx(row["loss_nats"], rel=1e-6)
        assert row["fit"] == f"chinchilla [family {row['family']}]"
    lab_command("predict", "fits.json", losses, "--to", name)
    read = pd.read_csv(name) if name.endswith(".csv") else pd.read_parquet(name)
    assert read["predicted"].tolist() == [row["predicted"] for row in rows]
    code, _, err = lab_command("predict", "fits.json", name)
    assert (code, err.count("\n")) == (2, 1)
    assert "the table has a column 'fit' of its own" in err


def test_the_laws_of_a_study_predict_new_ratios(
    told_json: Callable[..., Any], smoke: Path, tmp_path: Path
) -> None:
    fits = json.loads((smoke / "fit.json").read_text())["fits"]
    group = next(one["group"] for one in fits if one["law"] == "cmr-ratio")
    pd.DataFrame([{**group, "ratio_domain": r} for r in (0.2, 0.6)]).to_csv("new.csv")
    low, high = told_json("predict", smoke / "fit.json", "new.csv", "--name", "cmr-ratio")
    assert low["low"] < low["predicted"] < low["high"]
    assert low["predicted"] != high["predicted"]
