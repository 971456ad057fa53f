"""Claims and predictions of a study, from the plan to the report."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from lab.errors import Refused
from sweeps import foretold
from tests.sweeps.at_once import ON_IT, stand_in
from tests.sweeps.small import ROOT

Lab = Callable[..., tuple[int, str, str]]
Json = Callable[..., Any]

STUDY_FILE = f"""
import dataclasses, sys
sys.path.insert(0, {str(ROOT)!r})
from dataclasses import dataclass

import pandas as pd
from fits.errors import Refused
from fits.figures.plots import Figure
from fits.report import Findings, Table
from fits.verdicts import Claim, by_unit
from sweeps.grid import Grid
from sweeps.study import Study
from sweeps.sweep import Sweep
from tests.sweeps.small import small_sweep


@dataclass(frozen=True)
class Settings:
    fails: bool = False
    needs: str = "only"


def sweep(told, scale):
    grown = small_sweep((0, 1, 2), (0.0, 0.5))
    base = grown.arms["only"].base
    wider = dataclasses.replace(base, model=dataclasses.replace(base.model, width=16))
    arms = {{**grown.arms, "larger": Grid(wider, {{"seed": (0,), "cpt.ratio": (0.5,)}})}}
    return Sweep("foretelling", scale, arms, grown.evaluate)


def last(results, arm):
    here = results[(results["arm"] == arm) & (results["corpus"] == "synthetic-markov")]
    return here.groupby(["seed", "cpt_ratio"])["loss_nats"].last()


def predict(results, told, asked):
    assert set(results["arm"]) == {{"only"}}
    if told.fails:
        raise Refused("too few runs to fit")
    known = last(results, "only").xs(0.5, level=1).mean()
    rows = [["<b>larger</b>", known, known - 9.0, known + 9.0, "nats", "the smaller one's"]]
    return pd.DataFrame(rows, columns=["name", "predicted", "low", "high", "unit", "how"])


def read(results, told, asked):
    ends = last(results, "only").unstack()
    gain = ends[0.0] - ends[0.5]
    rows = Table("last losses", "of each run", ends.rename(columns=str).reset_index())
    figure = Figure("curves", "losses", rows.frame, lambda canvas: canvas.subplots().plot(gain))
    evidence = {{"helps": by_unit(list(gain)), "alike": by_unit(list(gain))}}
    larger = last(results, "larger")
    measured = {{"<b>larger</b>": float(larger.iloc[0])}} if len(larger) else {{}}
    return Findings("read", [rows], [], [figure], [], {{}}, evidence, measured)


def claims(told, asked):
    return (
        Claim("helps", "Domain text helps <i>there</i>", "more", 1e-5, "nats", "more seeds",
              (told.needs,), sd=1e-6),
        Claim("alike", "Domain text does not matter", "same", 5.0, "nats", "more seeds", sd=9.0),
        Claim("unmeasured", "Nothing is known", "more", 1.0, "nats", "a run that measures it"),
    )


STUDY = Study(
    "foretelling", "Foretelling", "What comes?", lambda scale: Settings(), sweep, read,
    lambda told, asked: [], ("smoke", "tiny"), claims=claims,
    later=lambda told, asked: ("larger",), predict=predict,
)
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "foretelling.py"
    path.write_text(STUDY_FILE)
    return path


def test_a_prediction_is_on_disk_before_the_run_that_can_refute_it(
    study: Path, tmp_path: Path, told_json: Json, lab_command: Lab
) -> None:
    out = tmp_path / "out"
    # as a kill between the two halves leaves it: the budget pays for the first alone
    value = told_json("plan", study)
    first = sum(group["flops"] for group in value["groups"][:1])
    code, _, said = lab_command("run", study, "--out", out, "--budget-flops", first)
    assert code == 0
    assert "foretold <b>larger</b>" in said
    assert "the budget ends before the later arms do" in said
    written = (out / "foretold.jsonl").read_text()
    known = foretold.read(out)
    assert [one.beforehand for one in known] == [True]
    status = told_json("status", out)
    assert status["waiting"] == 2  # trunk and branch of the larger one

    again = told_json("run", study, "--out", out)
    assert (out / "foretold.jsonl").read_text() == written  # once
    assert again["verdicts"]["alike"] == "supported"
    assert again["verdicts"]["unmeasured"] == "undecided"
    tables = json.loads((out / "fit.json").read_text())["verdicts"]
    assert [row["claim"] for row in tables] == ["helps", "alike", "unmeasured"]
    assert (out / "tables" / "verdicts.csv").exists()
    csv = (out / "tables" / "foretold.csv").read_text().splitlines()
    assert csv[0].split(",")[:6] == ["name", "predicted", "low", "high", "measured", "inside"]
    assert csv[1].split(",")[5] == "True"
    page = (out / "report.html").read_text()
    assert "&lt;b&gt;larger&lt;/b&gt;" in page
    assert "Domain text helps &lt;i&gt;there&lt;/i&gt;" in page
    assert "Written down before the runs" in page


def test_on_an_engine_the_later_arms_wait_for_the_prediction_too(
    study: Path, tmp_path: Path, told_json: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, out = tmp_path / "alone", tmp_path / "out"
    told_json("run", study, "--out", alone, "--stack", "2")
    engine = stand_in(monkeypatch, tmp_path)
    handed = engine.submit
    foretold_by_then: list[bool] = []

    def noted(command: Sequence[str], after: Sequence[str]) -> str:
        foretold_by_then.append((out / "foretold.jsonl").exists())
        return handed(command, after)

    monkeypatch.setattr(engine, "submit", noted)
    told_json("run", study, "--out", out, "--stack", "2", *ON_IT)
    assert foretold_by_then[0] is False
    assert foretold_by_then == sorted(foretold_by_then)
    assert foretold_by_then[-1] is True
    for name in ("results.csv", "foretold.jsonl", "tables/verdicts.csv"):
        assert (out / name).read_bytes() == (alone / name).read_bytes()


def test_a_prediction_after_the_fact_says_so(study: Path, tmp_path: Path, told_json: Json) -> None:
    out = tmp_path / "out"
    told_json("run", study, "--out", out)
    (out / "foretold.jsonl").unlink()
    told_json("run", study, "--out", out)
    assert [one.beforehand for one in foretold.read(out)] == [False]
    assert "no prediction" in (out / "report.html").read_text()


def test_without_a_prediction_the_later_arms_wait(
    study: Path, tmp_path: Path, lab_command: Lab, told_json: Json
) -> None:
    out = tmp_path / "out"
    code, _, said = lab_command("run", study, "--out", out, "--set", "fails=true")
    assert code == 0
    assert "nothing foretold, so arms larger wait: too few runs to fit" in said
    assert told_json("status", out)["waiting"] == 2
    assert not (out / "foretold.jsonl").exists()


def test_the_plan_says_what_the_seeds_decide(
    study: Path, told_json: Json, lab_command: Lab
) -> None:
    value = told_json("plan", study)
    rows = {row["claim"]: row for row in value["claims"]}
    assert rows["helps"]["seeds"] == 3
    # t of two degrees of freedom at 1 - .05 / 3 over three claims, times sd / sqrt 3
    assert rows["helps"]["decides"] == pytest.approx(7.648 * 1e-6 / 3**0.5, rel=1e-3)
    assert rows["alike"]["seeds"] == 1  # the arm with the fewest
    assert rows["unmeasured"]["decides"] is None
    doubt = "too few seeds to decide the smallest effect that matters of: alike"
    assert doubt in value["warnings"]
    code, said, _ = lab_command("plan", study, "--set", "needs=none")
    assert code == 2
    assert not said


def test_a_prediction_of_one_seed_has_no_interval_and_is_not_judged(
    study: Path, tmp_path: Path, lab_command: Lab
) -> None:
    text = study.read_text()
    bare = text.replace("known, known - 9.0, known + 9.0", 'known, float("nan"), float("nan")')
    assert bare != text
    study.write_text(bare)
    out = tmp_path / "out"
    code, _, said = lab_command("run", study, "--out", out)
    assert code == 0
    assert "(no interval) nats" in said
    table = foretold.compared(foretold.read(out), {"<b>larger</b>": 5.0})
    assert table is not None
    (row,) = table.frame.to_dict("records")
    assert row["measured"] == 5.0
    assert row["inside"] is None
    lines = (out / "tables" / "foretold.csv").read_text().splitlines()
    assert lines[1].split(",")[2:4] == ["", ""]


def test_a_line_that_was_cut_off_is_written_again(tmp_path: Path) -> None:
    file = tmp_path / foretold.FILE
    row = '{"how":"h","high":2,"low":0,"name":"a","predicted":1,"unit":"nats"}'
    line = f'{{"based_on":"x","beforehand":true,"rows":[{row}],"schema":1}}'
    file.write_text(f"{line}\n{line[:30]}")
    assert len(foretold.read(tmp_path)) == 1
    foretold._append(file, line)
    assert file.read_text() == f"{line}\n{line}\n"
    assert len(foretold.read(tmp_path)) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [("[]\n", "line 1, is no prediction"), ('{"schema":9}\n', "has schema 9"), ("{\n", "line 1")],
)
def test_a_file_that_is_no_prediction_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / foretold.FILE).write_text(text)
    with pytest.raises(Refused, match=said):
        foretold.read(tmp_path)
