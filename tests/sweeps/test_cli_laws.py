"""The command `lab` around a table of losses: laws, fit, predict."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fits import law, made_points
from fits.table import write_table

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


@pytest.fixture
def points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_table(made_points(0.005), "points.csv")
    return tmp_path / "points.csv"


def test_what_is_asked_of_parameters_is_in_the_fit(
    told_json: Callable[..., Any], points: Path
) -> None:
    one = told_json(
        "fit", "chinchilla", points, "--objective", "squares-log", "--tie", "beta=alpha",
        "--bound", "E=1.5:2", "--interval", "covariance", "--level", ".9",
    )  # fmt: skip
    assert one["objective"]["name"] == "squares-log"
    assert one["params"]["beta"]["value"] == one["params"]["alpha"]["value"]
    assert one["params"]["beta"]["tied"] == "alpha"
    assert one["bounds"] == {"E": [1.5, 2.0]}
    assert (one["level"], one["params"]["alpha"]["method"]) == (0.9, "covariance")
    assert one["status"] == "sound"


def test_groups_share_what_they_are_told_to(told_json: Callable[..., Any], losses: Path) -> None:
    shared = ("--share", "E,alpha,beta,B", "--per", "family")
    (one,) = told_json("fit", "chinchilla", losses, *shared, "--interval", "none")
    assert set(one["params"]) == {"E", "A[a]", "A[b]", "B", "alpha", "beta"}
    assert one["params"]["A[b]"]["value"] == pytest.approx(600, rel=1e-3)
    assert one["shared"]["parameters"] == ["E", "B", "alpha", "beta"]


def test_several_laws_are_ranked_by_rows_left_out(
    lab_command: Lab, told_json: Callable[..., Any], points: Path
) -> None:
    told = ("fit", "kaplan,chinchilla", points, "--objective", "huber-log", "--interval", "none")
    both = told_json(*told)
    assert [one["law"] for one in both["fits"]] == ["kaplan", "chinchilla"]
    first, second = both["ranking"]["laws"]
    assert (first["law"], first["rank"], first["verdict"]) == ("chinchilla", 1, "best")
    assert (second["law"], second["verdict"]) == ("kaplan", "worse")
    code, out, _ = lab_command(*told)
    assert code == 0
    assert "held-out loss" in out


def test_larger_runs_are_predicted_from_smaller(
    lab_command: Lab, told_json: Callable[..., Any], points: Path
) -> None:
    told = ("fit", "chinchilla", points, "--rolling", "n_params", "--interval", "none")
    value = told_json(*told)
    assert value["fits"][0]["law"] == "chinchilla"
    assert 0 < value["left_out"]["rms_relative_error"]["value"] < 0.05
    assert lab_command(*told)[0] == 0


def test_a_budget_is_split_with_intervals(
    lab_command: Lab, told_json: Callable[..., Any], points: Path
) -> None:
    lab_command("fit", "chinchilla", points, "--interval", "covariance", "--to", "fit.json")
    (one,) = told_json("allocate", "fit.json", "--flops", "1e21,1e22")
    small, large = one["optima"]
    assert small["n_params_low"] < small["n_params"] < small["n_params_high"]
    assert small["n_params"] * small["n_tokens"] == pytest.approx(1e21 / 6, rel=1e-6)
    assert 0.4 < np.log10(large["n_params"] / small["n_params"]) < 0.6
    code, out, _ = lab_command("allocate", "fit.json", "--flops", "1e21")
    assert code == 0
    assert "1e+21 FLOP" in out


def test_the_next_run_is_chosen_among_candidates(
    lab_command: Lab, told_json: Callable[..., Any], points: Path
) -> None:
    lab_command("fit", "chinchilla", points, "--interval", "covariance", "--to", "fit.json")
    rows = [(n, d, 6 * n * d) for n in (1e9, 1e10) for d in (2e10, 2e11)]
    pd.DataFrame(rows, columns=["n_params", "n_tokens", "flops"]).to_csv("next.csv", index=False)
    told = ("design", "fit.json", "next.csv", "--target", "alpha", "--cost", "flops")
    value = told_json(*told, "--budget", "1e23")
    assert len(value["candidates"]) == 4
    widths = [row["half_width"] for row in value["sequence"]]
    assert value["half_width"] > widths[0] >= widths[-1]
    assert value["sequence"][-1]["cost_so_far"] <= 1e23
    code, out, _ = lab_command(*told)
    assert (code, "most by one run" in out) == (0, True)


def test_optima_by_budget_need_no_law(
    lab_command: Lab, told_json: Callable[..., Any], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    law_ = law("chinchilla")
    rows = [(c, n, c / (6 * n)) for c in (1e19, 1e20, 1e21) for n in np.geomspace(2e7, 2e10, 25)]
    table = pd.DataFrame(rows, columns=["budget_flop", "n_params", "n_tokens"])
    table["loss_nats"] = law_.predict(law_.published["2404.10102"], table)
    table.to_csv("isoflop.csv", index=False)
    (one,) = told_json("frontier", "akima", "isoflop.csv", "--to", "figure.png")
    assert one["laws"]["n_opt"]["exponent"] == pytest.approx(0.5139, abs=1e-3)
    assert Path("figure.png").stat().st_size > 10_000
    assert lab_command("frontier", "parabola", "isoflop.csv")[0] == 0


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (("--bound", "alpha=3"), "must read LOW:HIGH"),
        (("--bound", "alpha=x:2"), "--bound 'x': must be a number"),
        (("--tie", "beta=A"), "one enters law chinchilla linearly"),
        (("--share", "E"), "--share needs --per"),
        (("--interval", "often"), "unknown interval 'often'; allowed: profile"),
        (("--bootstrap", "9", "--interval", "none"), "exclude each other"),
        (("--leave-out", "run", "--rolling", "n_params"), "exclude each other"),
        (("--objective", "pinball"), "needs its quantile"),
        (("--rates", "points.csv"), "reads no learning-rate curves"),
        (("--holdout", "n_params > 0"), "no rows outside the hold-out"),
    ],
)
def test_what_cannot_be_asked_is_one_line(
    lab_command: Lab, points: Path, told: tuple[str, ...], message: str
) -> None:
    code, out, err = lab_command("fit", "chinchilla", points, *told)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (("frontier", "spline", "points.csv"), "unknown method 'spline'; allowed: akima"),
        (("frontier", "envelope", "points.csv", "--noise", "1"), "--noise is for akima"),
        (("allocate", "fit.json", "--flops", "many"), "--flops 'many': must be a number"),
        (("allocate", "points.csv", "--flops", "1e21"), "is a table, not a fit"),
    ],
)
def test_mistakes_of_the_other_verbs_are_one_line(
    lab_command: Lab, points: Path, told: tuple[str, ...], message: str
) -> None:
    lab_command("fit", "chinchilla", points, "--interval", "none", "--to", "fit.json")
    code, out, err = lab_command(*told)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
