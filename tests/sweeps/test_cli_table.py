"""The command `lab` around other people's logs: table, and fits of what it gives."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import fits
from fits.table import write_table
from tests.fits.logs.writing import event, event_file, hparams, scalar
from tests.fits.test_own import LAW

Lab = Callable[..., tuple[int, str, str]]
TRUTH = fits.law("chinchilla").published["2404.10102"]
A_STEP = 65_536  # tokens


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Twelve runs as TensorBoard logs them, on the law; a loss only at some of the steps."""
    rows = []
    for n in (1e7, 3e7, 1e8, 3e8):
        for last in (1000, 3000, 9000):
            run = f"n{n:.0e}/s{last}"
            rows.append({"run": run, "n_params": n})
            events = []
            for step in range(500, last + 1, 250):
                values = [scalar("train/lr", 0.001)]
                if step % 500 == 0:
                    x = {"n_params": n, "n_tokens": step * float(A_STEP)}
                    loss = fits.law("chinchilla").predict(TRUTH, x)
                    values.append(scalar("val/loss", float(loss)))
                events.append(event(step, *values))
            event_file(tmp_path / "logs" / run, events)
    pd.DataFrame(rows).to_csv(tmp_path / "runs.csv", index=False)
    return tmp_path / "logs"


COLUMNS = f"n_tokens=step*{A_STEP},loss_nats=val/loss"


def test_logs_and_a_table_of_runs_become_a_table_to_fit(
    lab_command: Lab, told_json: Callable[..., Any], logs: Path
) -> None:
    told = ("table", logs, "--join", "runs.csv", "--columns", COLUMNS, "--last", "run")
    code, out, err = lab_command(*told, "--to", "final.csv")
    assert code == 0
    assert out.endswith("12 rows -> final.csv\n")
    assert err == "lab: 184 rows left out that are not the last of a run (by step)\n"
    one = told_json("fit", "chinchilla", "final.csv", "--interval", "none")
    assert one["points"] == 12
    assert one["notes"] == []
    for name, value in TRUTH.items():  # event files hold 32 bits
        assert one["params"][name]["value"] == pytest.approx(value, rel=0.01)
    described = {row["column"]: row for row in told_json(*told)["columns"]}
    assert (described["step"]["low"], described["step"]["high"]) == (1000, 9000)
    assert described["run"]["different"] == 12


def test_what_a_table_of_logs_holds_is_shown(lab_command: Lab, logs: Path) -> None:
    code, out, err = lab_command("table", logs)
    assert (code, err) == (0, "")
    assert "val/loss" in out
    assert "500 .. 9000" in out


def test_a_fit_takes_logs_themselves(told_json: Callable[..., Any], tmp_path: Path) -> None:
    """Sizes are among the hyperparameters that were logged; rows of a run are one unit."""
    law = fits.law("chinchilla")
    for n in (1e7, 1e8, 1e9):
        events = [event(0, hparams({"n_params": n}))]
        for step in (500, 1000, 2000, 4000, 8000):
            loss = law.predict(TRUTH, {"n_params": n, "n_tokens": step * float(A_STEP)})
            events.append(event(step, scalar("val/loss", float(loss))))
        event_file(tmp_path / "own" / f"{n:.0e}", events)
    told = ["fit", "chinchilla", "own", "--columns", COLUMNS, "--where", "loss_nats > 0"]
    one = told_json(*told, "--interval", "none")
    assert one["points"] == 15
    assert one["params"]["E"]["value"] == pytest.approx(TRUTH["E"], rel=0.01)
    assert any("15 rows are of 3 runs" in note for note in one["notes"])
    assert told_json(*told, "--interval", "none", "--by", "run")["notes"] == []


def test_a_loss_curve_is_fitted_to_logs_with_the_rates_in_them(
    told_json: Callable[..., Any], tmp_path: Path
) -> None:
    frame, rates = fits.made_curves()
    lines = []
    for curve, rows in frame[frame["split"] == "train"].groupby("curve"):
        logged = {int(step): {"lr": float(rates[str(curve)][step - 1])} for step in rows["step"]}
        logged |= {k + 1: {"lr": float(rates[str(curve)][k])} for k in range(0, 2160, 8)}
        for step, loss in rows[["step", "loss_nats"]].iloc[::4].itertuples(index=False):
            logged[int(step)]["val/loss"] = loss
        text = "\n".join(json.dumps({"_step": s - 1, **logged[s]}) for s in sorted(logged))
        folder = tmp_path / "logs" / str(curve)
        folder.mkdir(parents=True)
        (folder / "metrics.jsonl").write_text(text)
        lines.append(len(logged))
    columns = "step=step+1,loss_nats=val/loss"
    told = ["fit", "annealing", "logs", "--columns", columns, "--where", "loss_nats > 0"]
    mine = told_json(*told, "--rates", "logs", "--interval", "none")
    write_table(frame[frame["split"] == "train"].iloc[::1], "curves.csv")
    true = told_json("fit", "annealing", "curves.csv", "--interval", "none")
    assert 0 < mine["points"] < sum(lines) / 3
    assert mine["params"]["L0"]["value"] == pytest.approx(true["params"]["L0"]["value"], rel=0.02)


def test_several_laws_read_each_their_own_columns(
    told_json: Callable[..., Any], tmp_path: Path
) -> None:
    table = fits.made_points().rename(columns={"n_tokens": "D"}).assign(U=1e15)
    table.to_csv("points.csv", index=False)
    told = ("fit", "chinchilla,data-constrained", "points.csv", "--interval", "none")
    value = told_json(*told, "--columns", "n_tokens=D,unique_tokens=U")
    assert [one["law"] for one in value["fits"]] == ["chinchilla", "data-constrained"]


def test_predict_design_and_frontier_take_columns_too(
    lab_command: Lab, told_json: Callable[..., Any], tmp_path: Path
) -> None:
    table = fits.made_points()
    own = pd.DataFrame(
        {
            "size (M)": table["n_params"] / 1e6,
            "D": table["n_tokens"],
            "val/loss": table["loss_nats"],
        }
    )
    own.to_csv("own.csv", index=False)
    columns = "n_params=size (M)*1e6,n_tokens=D"
    both = f"{columns},loss_nats=val/loss"
    told_json("fit", "chinchilla", "own.csv", "--columns", both, "--to", "fit.json")
    rows = told_json("predict", "fit.json", "own.csv", "--columns", columns)
    errors = [row["predicted"] / row["val/loss"] - 1 for row in rows]
    assert np.std(errors) < 0.02
    cost = ("--target", "alpha", "--cost", "6*n_params*n_tokens")
    value = told_json("design", "fit.json", "own.csv", "--columns", columns, *cost)
    assert value["candidates"][0]["cost"] == pytest.approx(
        6 * table["n_params"][0] * table["n_tokens"][0]
    )
    own["budget_flop"] = table["budget_flop"]
    own.to_csv("own.csv", index=False)
    where = ("--where", "n_params > 1e8")
    assert lab_command("frontier", "akima", "own.csv", "--columns", both, *where)[0] == 0


def test_a_law_of_ones_own_goes_all_the_way(
    lab_command: Lab, told_json: Callable[..., Any], tmp_path: Path
) -> None:
    Path("mine.py").write_text(LAW)
    n = np.geomspace(1e6, 1e9, 8)
    table = pd.DataFrame({"n_params": n, "loss_nats": 1.5 + 300.0 * n**-0.3, "flops": n})
    table.to_csv("losses.csv", index=False)
    one = told_json("fit", "mine.py", "losses.csv", "--interval", "none", "--to", "fit.json")
    assert one["params"]["a"]["value"] == pytest.approx(0.3, rel=1e-4)
    rows = told_json("predict", "fit.json", "losses.csv", "--law", "mine.py")
    assert rows[0]["predicted"] == pytest.approx(rows[0]["loss_nats"], rel=1e-6)
    assert lab_command("plot", "fit.json", "--law", "mine.py", "--to", "law.png")[0] == 0
    for told in (("predict", "fit.json", "losses.csv"), ("plot", "fit.json", "--to", "x.png")):
        code, _, err = lab_command(*told)
        assert (code, err.count("\n")) == (2, 1)
        assert "unknown law 'mine': if it is your own, name its file (--law FILE.py" in err


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (("table", "own.csv", "--columns", "x=D*D2"), "'D2' is neither a number nor a column"),
        (("table", "own.csv", "--columns", "x=nothing"), "no column 'nothing'"),
        (("table", "own.csv", "--last", "run"), "no column 'run'"),
        (("table", "own.csv", "--join", "own.csv"), "no column that names runs"),
        (("table", "own.csv", "--to", "x.xlsx"), "a table ends in .csv or .parquet"),
        (("table", "nowhere"), "no such file"),
        (("table", "semicolons.csv"), "commas must divide it"),
        (("table", "wide.csv"), "rows have more values than the first line has names"),
        (("fit", "chinchilla", "."), "name the table itself: lost.csv"),
        (("fit", "chinchilla", "own.csv"), "(of another name: --columns n_params=NAME)"),
        (("fit", "chinchilla", "own.csv", "--columns", "n_params=N*1e6"), "'N' is neither"),
        (("fit", "nowhere.py", "own.csv"), "no file nowhere.py"),
        (("plot", "own.csv", "--to", "x.png"), "is a table, not a fit"),
        (
            ("fit", "kaplan-size", "text.csv"),
            "'70M' in row 0 is not a finite number (1 such): write",
        ),
        (("fit", "kaplan-size", "lost.csv"), "(--where 'loss_nats > 0')"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    lab_command: Lab, tmp_path: Path, told: tuple[str, ...], said: str
) -> None:
    Path("own.csv").write_text("D,loss\n1,2\n")
    Path("semicolons.csv").write_text("D;loss\n1;2\n")
    Path("wide.csv").write_text("D,loss\n1,2,3\n4,5,6\n")
    Path("text.csv").write_text("n_params,loss_nats\n70M,2\n")
    Path("lost.csv").write_text(f"n_params,loss_nats\n1e6,{math.nan}\n")
    before = sorted(tmp_path.iterdir())
    code, out, err = lab_command(*told)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert sorted(tmp_path.iterdir()) == before
