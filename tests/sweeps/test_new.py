"""`lab new study`: a file that runs as it is, and is never put in another's place."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sweeps.study import ask, built_in, find_study

Lab = Callable[..., tuple[int, str, str]]


def test_a_new_study_plans_runs_and_reports_as_it_is(
    lab_command: Lab, told_json: Callable[..., Any], tmp_path: Path
) -> None:
    assert told_json("new", "study", "my_rates.py") == {"study": "my_rates", "file": "my_rates.py"}
    assert "my_question" not in Path("my_rates.py").read_text()
    planned = told_json("plan", "my_rates.py", "--scale", "smoke")
    assert planned["runs"] == 24
    assert planned["warnings"] == []
    (claim,) = planned["claims"]
    assert claim["decides"] <= claim["smallest"]
    value = told_json("run", "my_rates.py", "--scale", "smoke", "--stack", "2")
    assert value["out"] == "runs/my_rates-smoke"
    assert value["verdicts"].keys() == {"linear"}
    assert abs(value["readings"]["gain_nats"]) < 1
    told = ("report", "runs/my_rates-smoke", "--study", "my_rates.py", "--to", "report.html")
    assert lab_command(*told)[0] == 0
    assert "Linear fall against cosine" in Path("report.html").read_text()


def test_a_prediction_before_the_last_arm_is_there_to_be_uncommented(
    lab_command: Lab, told_json: Callable[..., Any]
) -> None:
    lab_command("new", "study", "mine.py")
    text = Path("mine.py").read_text()
    before, marked, after = text.partition("# def later(")
    body, end, rest = after.partition("\n\n\nSTUDY = ")
    lines = (marked + body).splitlines()
    assert all(line.startswith("#") for line in lines)
    opened = "\n".join(re.sub(r"^# ?", "", line) for line in lines)
    rest = rest.replace("# later=later", "later=later").replace("# predict=", "predict=")
    Path("mine.py").write_text(before + opened + end + rest)
    told = ["--set", "steps=20", "--set", "seeds=0,1", "--set", "rates=.01,.02", "--stack", "2"]
    told_json("run", "mine.py", "--scale", "smoke", *told)
    foretold = Path("runs/mine-smoke/foretold.jsonl").read_text()
    assert '"best loss of cosine"' in foretold


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("cmr.py", "cmr is a built-in study"),
        ("My question.py", "a study file is called by its study"),
        ("1st.py", "a study file is called by its study"),
        ("mine", "a study file is called by its study"),
        ("../.py", "a study file is called by its study"),
        ("nowhere/mine.py", "no folder nowhere"),
    ],
)
def test_what_cannot_be_a_study_is_refused(lab_command: Lab, file: str, said: str) -> None:
    code, out, err = lab_command("new", "study", file)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert not Path(file).exists()


def test_a_file_that_is_there_is_not_replaced(lab_command: Lab) -> None:
    Path("mine.py").write_text("mine")
    code, _, err = lab_command("new", "study", "mine.py")
    assert (code, err) == (2, "lab: mine.py is there already, and is not replaced\n")
    assert Path("mine.py").read_text() == "mine"


def test_other_axes_than_its_own_are_refused(lab_command: Lab) -> None:
    """Their values would be taken for seeds."""
    lab_command("new", "study", "mine.py")
    code, _, err = lab_command("plan", "mine.py", "--scale", "smoke", "--axis", "batch=8,16")
    assert (code, err.count("\n")) == (2, 1)
    assert "axis batch" in err


def test_the_template_is_a_study_and_no_built_in_one(tmp_path: Path, lab_command: Lab) -> None:
    assert "my_question" not in built_in()
    lab_command("new", "study", "mine.py")
    study = find_study("mine.py")
    settings, asked = ask(study, "tiny")
    assert len(list(asked.arms)) == 2
    assert study.cautions(settings, asked) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\ny = x +\n", "mine.py, line 2: SyntaxError"),
        ("import os\n\nSTUDY = Study()\n", "mine.py, line 3: NameError: name 'Study'"),
        ("from sweeps.studie import x\n", "mine.py, line 1: ModuleNotFoundError"),
    ],
)
def test_a_slip_in_a_study_file_is_said_with_its_line(
    lab_command: Lab, text: str, said: str
) -> None:
    Path("mine.py").write_text(text)
    code, _, err = lab_command("plan", "mine.py")
    assert (code, err.count("\n")) == (2, 1)
    assert said in err
