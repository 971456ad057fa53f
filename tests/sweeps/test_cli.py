"""The command `lab` around a folder: one JSON value for machines, the same files again."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.sweeps.small import ROOT, files_below, study_file

Lab = Callable[..., tuple[int, str, str]]


# Studies -------------------------------------------------------------------------------------


def test_plan_as_json(told_json: Callable[..., Any]) -> None:
    value = told_json("plan", "cmr", "--scale", "paper")
    keys = "runs segments tokens_naive tokens_shared flops_naive flops_shared groups warnings"
    assert set(keys.split()) <= set(value)
    assert (value["runs"], value["segments"]) == (28, 32)
    assert any("lab run will refuse" in warning for warning in value["warnings"])


def test_plan_leaves_nothing_on_disk(lab_command: Lab, tmp_path: Path) -> None:
    code, out, err = lab_command("plan", "cmr")
    assert (code, err) == (0, "")
    assert "35 runs in 40 segments, each trained once" in out
    assert "warning: arms w40, w64: one trunk seed" in out
    assert list(tmp_path.iterdir()) == []


def test_studies_as_json(told_json: Callable[..., Any]) -> None:
    names = {one["name"]: one for one in told_json("studies")}
    assert names["cmr"]["scales"] == ["smoke", "tiny", "small", "paper"]
    assert names["cmr"]["question"].endswith("?")


def test_status_and_results_as_json(told_json: Callable[..., Any], smoke: Path) -> None:
    status = told_json("status", smoke)
    expected = {"done": 24, "running": 0, "waiting": 0, "failed": 0, "diverged": 0}
    assert {key: status[key] for key in expected} == expected
    rows = told_json("results", smoke)
    assert rows == json.loads(pd.read_csv(smoke / "results.csv").to_json(orient="records"))
    steps = told_json("results", smoke, "--steps")
    assert len(steps) * 512 == sum(
        group["tokens"] for group in told_json("plan", "cmr", "--scale", "smoke")["groups"]
    )


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_results_are_written_again_as_the_run_wrote_them(
    told_json: Callable[..., Any], smoke: Path, tmp_path: Path, name: str
) -> None:
    value = told_json("results", smoke, "--to", name)
    written = (smoke / name.replace("t.", "results.")).read_bytes()
    assert (tmp_path / name).read_bytes() == written
    assert value["rows"] == len(pd.read_csv(smoke / "results.csv"))


def test_the_report_of_a_folder_is_the_one_of_its_run(
    lab_command: Lab, smoke: Path, tmp_path: Path
) -> None:
    code, out, err = lab_command("report", smoke, "--to", "again.html")
    assert (code, out, err) == (0, "-> again.html\n", "")
    assert (tmp_path / "again.html").read_text() == (smoke / "report.html").read_text()


def test_a_figure_of_a_folder_or_of_a_fit_is_drawn(
    told_json: Callable[..., Any], smoke: Path, tmp_path: Path
) -> None:
    told_json("plot", smoke, "--figure", "critical_ratio", "--to", "a.svg")
    drawn = (smoke / "figures" / "critical_ratio.svg").read_bytes()
    assert (tmp_path / "a.svg").read_bytes() == drawn
    told_json("plot", smoke / "fit.json", "--figure", "cmr-ratio", "--to", "b.pdf")
    assert (tmp_path / "b.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("told", "width"),
    [(("--columns", "1"), 3.25), (("--columns", "2"), 6.75), (("--style", "talk"), 10.0)],
)
def test_a_figure_is_as_wide_as_the_page_it_is_for(
    told_json: Callable[..., Any], smoke: Path, tmp_path: Path, told: tuple[str, ...], width: float
) -> None:
    value = told_json("plot", smoke, "--figure", "critical_ratio", "--to", "a.svg", *told)
    assert value["inches"][0] == width
    svg = (tmp_path / "a.svg").read_text()
    assert f'width="{72 * width:g}pt"' in svg


def test_a_look_that_is_none_is_refused_and_nothing_is_drawn(
    lab_command: Lab, smoke: Path, tmp_path: Path
) -> None:
    for told, why in (
        (("--style", "tlak"), "paper, talk"),
        (("--columns", "3"), "1 or 2"),
        (("--style", "talk", "--columns", "1"), "columns"),
    ):
        code, out, err = lab_command("plot", smoke, "--to", "a.svg", *told)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert why in err
    assert files_below(tmp_path) == {}


def test_a_study_of_ones_own_is_run_reported_and_found_done(
    lab_command: Lab, told_json: Callable[..., Any], tmp_path: Path
) -> None:
    study = study_file(tmp_path)
    told = ["run", study, "--out", "out", "--stack", "2"]
    value = told_json(*told)
    assert (value["runs"], value["segments"], value["trained_tokens"]) == (2, 3, 16 * 64)
    assert value["headline"] == "2 runs"
    assert all(Path(file).is_file() for file in value["files"])
    code, out, _ = lab_command(*told)
    assert code == 0
    assert "nothing was left to train" in out
    code, _, err = lab_command("report", "out", "--to", "a.html")
    assert code == 2
    assert "name its file with --study" in err
    told_json("report", "out", "--to", "a.html", "--study", study)
    assert Path("a.html").read_text() == Path("out/report.html").read_text()


def test_diverged_runs_are_named_and_the_others_are_read(lab_command: Lab, tmp_path: Path) -> None:
    told = ["--out", "out", "--stack", "2", "--axis", "cpt.peak_lr=1/200,1e30"]
    code, out, err = lab_command("run", study_file(tmp_path), *told)
    assert code == 0
    assert out.count("\n2 runs\n") == 1
    assert err.count("of arm only: diverged; the fit leaves it out") == 2
    _, out, _ = lab_command("status", "out")
    counts, kept, *_ = out.splitlines()
    assert counts == "3 of 5 segments done, 0 running, 0 waiting, 2 diverged, 0 damaged"
    assert re.fullmatch(r"\d+ states kept, \d+\.\d kB", kept)


# Machine -------------------------------------------------------------------------------------


def test_the_corpora_as_json(told_json: Callable[..., Any]) -> None:
    rows = {one["name"]: one for one in told_json("data", "list")}
    assert {"prose", "docs", "code", "synthetic-words", "synthetic-markov"} <= set(rows)
    assert all(one["train_tokens"] > one["validation_tokens"] > 0 for one in rows.values())
    assert rows["code"]["entropy_rate_nats"] is None
    assert rows["synthetic-words"]["entropy_rate_nats"] > 0


def test_prepared_text_is_a_corpus_to_plan_with(
    told_json: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_HOME", str(tmp_path / "home"))
    for number in range(3):
        Path(f"{number}.txt").write_text(f"document {number} " * 2000)
    made = told_json("data", "prepare", "mine", "0.txt", "1.txt", "2.txt")
    assert made["name"] == "mine"
    assert "mine" in told_json("doctor")["corpora"]
    told = ["--set", "windows=8", "--set", "general=mine", "--set", "domain=synthetic-words"]
    assert "mine" in told_json("plan", "cmr", "--scale", "smoke", *told)["epochs"]


def test_scores_say_how_well_they_rank_documents(told_json: Callable[..., Any]) -> None:
    found = {one["score"]: one for one in told_json("data", "scores", "damaged-prose")}
    assert list(found) == ["truth", "compression", "perplexity", "length", "letters", "symbols"]
    assert found["truth"]["spearman_truth"] == pytest.approx(1.0)
    # measured: .934 and .999
    assert 0.9 < found["compression"]["spearman_truth"] < found["perplexity"]["spearman_truth"]
    unknown = told_json("data", "scores", "prose", "--only", "letters,compression")
    assert [one["score"] for one in unknown] == ["letters", "compression"]
    assert [one["spearman_truth"] for one in unknown] == [None, None]


def in_a_process(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize("told", ["plan cmr", "laws", "status SMOKE"])
def test_what_only_reads_starts_no_device(smoke: Path, told: str) -> None:
    code = f"""
import sys
from sweeps.cli import main
assert main({told.replace("SMOKE", str(smoke)).split()!r}) == 0
print("LOADED", "jax" in sys.modules and bool(sys.modules["jax"]._src.xla_bridge._backends))
"""
    assert in_a_process(code).splitlines()[-1] == "LOADED False"


def test_a_reader_that_stops_reading_is_no_failure(smoke: Path) -> None:
    lab_results = f"{sys.executable} -m sweeps.cli results {smoke} --json"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{lab_results} | head -c 1"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[", "")
