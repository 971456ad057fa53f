"""The command `lab`: one JSON value for machines, one line for a mistake, nothing half done."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import lab.store
import sweeps.run
from sweeps.cli import main
from tests.sweeps.small import ROOT, files_below, study_file

Lab = Callable[..., tuple[int, str, str]]


@pytest.fixture
def lab_command(
    smoke: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Lab:
    """`lab ...` in an empty folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)

    def run(*told: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(one) for one in told])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def told_json(lab_command: Lab) -> Callable[..., Any]:
    """`lab ... --json`, which must end well and print one JSON value and nothing else."""

    def run(*told: object) -> Any:
        code, out, _ = lab_command(*told, "--json")
        assert code == 0
        return json.loads(out)

    return run


@pytest.fixture
def losses(tmp_path: Path) -> Path:
    """A table that the chinchilla law made, in two families."""
    rows = [
        {"n_params": n, "n_tokens": d, "family": family,
         "loss_nats": 1.7 + factor * 400 * n**-0.34 + 410 * d**-0.28}
        for family, factor in (("a", 1.0), ("b", 1.5))
        for n in (1e6, 1e7, 1e8)
        for d in (1e8, 1e9, 1e10)
    ]  # fmt: skip
    path = tmp_path / "losses.csv"
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


# Mistakes ------------------------------------------------------------------------------------

REFUSED = [
    ("plan cmrr", "did you mean 'cmr'?"),
    ("plan nowhere.py", "no study file nowhere.py"),
    ("plan cmr --scale huge", "cmr has smoke, tiny, small, paper"),
    ("plan cmr --set generl=code", "did you mean 'general'?"),
    ("plan cmr --set general=novels", "unknown corpus 'novels'; known: "),
    ("plan cmr --set eps=nan", "eps = nan: must be a finite number"),
    ("plan cmr --axis cpt.rato=.5", "did you mean 'ratio'?"),
    ("plan cmr --axis w25:cpt.ratio=.5", "unknown arm 'w25'"),
    ("plan cmr --axis cpt.ratio=2", "must be a number in [0, 1]"),
    ("plan cmr --set model.vocabulary=9", "needs 256"),
    ("plan cmr --stack -1", "stack = -1: must be at least 1 lane"),
    ("run cmrr", "did you mean 'cmr'?"),
    ("run cmr --scale small", "(at most 4): prepare a larger corpus"),
    ("run cmr --scale paper", "(at most 4): prepare a larger corpus"),
    ("run cmr --set windows=99999", "evaluate fewer, or prepare more text"),
    ("run cmr --set horizons=40000", "must be whole steps of 2048 tokens"),
    ("run cmr --stack 0", "stack = 0: must be at least 1 lane"),
    ("run cmr --out losses.csv", "losses.csv is not a folder"),
    ("run cmr --out .", "no sweep's folder"),
    ("status nowhere", "nowhere holds no sweep"),
    ("results nowhere", "nowhere holds no sweep"),
    ("results SMOKE --to table.txt", "must be .parquet or .csv"),
    ("report nowhere --to a.html", "nowhere holds no sweep"),
    ("report SMOKE --to a.pdf", "a report ends in .html"),
    ("plot SMOKE --to a.txt", "svg"),
    ("plot SMOKE --to a.svg --figure zebra", "no figure 'zebra'"),
    ("plot nowhere --to a.svg", "cannot read nowhere"),
    ("plot SMOKE/fit.json --to a.svg --figure zebra", "no fit 'zebra'"),
    ("fit chinchila losses.csv", "did you mean 'chinchilla'?"),
    ("fit chinchilla nowhere.csv", "cannot read nowhere.csv: "),
    ("fit chinchilla losses.txt", "a table ends in .csv or .parquet"),
    ("fit chinchilla spoilt.parquet", "as a table"),
    ("fit cmr-ratio losses.csv", "the table has no column 'ratio_domain'"),
    ("fit chinchilla nan.csv", "is not a finite number"),
    ("fit chinchilla few.csv", "has 5 free parameters and the table 3 different points"),
    ("fit chinchilla losses.csv --bootstrap -1", "--bootstrap -1: must not be negative"),
    ("fit chinchilla losses.csv --bootstrap x", "invalid int value: 'x'"),
    ("fit chinchilla losses.csv --where n_params", "must read 'column op value'"),
    ("fit chinchilla losses.csv --where width>1", "no column 'width'"),
    ("fit chinchilla losses.csv --holdout n_params>big", "n_params holds numbers"),
    ("fit chinchilla losses.csv --per size", "no column 'size'"),
    ("fit chinchilla losses.csv --by size", "no such column"),
    ("fit chinchilla losses.csv --pin E", "must read NAME=VALUE"),
    ("fit chinchilla losses.csv --pin E=low", "--pin: "),
    ("fit chinchilla losses.csv --pin Z=1", "no parameter 'Z'"),
    ("fit chinchilla losses.csv --columns tokens=n_tokens", "no variable 'tokens'"),
    ("predict nowhere.json losses.csv", "cannot read nowhere.json"),
    ("predict losses.csv losses.csv", "is not JSON"),
    ("predict SMOKE/sweep.json losses.csv", "holds no fits"),
    ("predict SMOKE/fit.json losses.csv", "holds several laws"),
    ("predict SMOKE/fit.json losses.csv --name zebra", "no fit 'zebra'"),
    ("data prepare Mine losses.csv", "small letters, digits, - and _ only"),
    ("data prepare code losses.csv", "corpus 'code' is built in"),
    ("data prepare mine nowhere.txt", "nowhere.txt"),
    ("plann", "invalid choice: 'plann'"),
    ("data", "the following arguments are required: VERB"),
    ("", "the following arguments are required: VERB"),
    ("studies --colour", "unrecognized arguments: --colour"),
]


@pytest.mark.parametrize(("told", "said"), REFUSED)
def test_a_mistake_is_one_line_exit_code_2_and_nothing_on_disk(
    lab_command: Lab, smoke: Path, losses: Path, tmp_path: Path, told: str, said: str
) -> None:
    frame = pd.read_csv(losses)
    frame.assign(loss_nats=frame["loss_nats"].where(frame.index != 4)).to_csv("nan.csv")
    frame.head(3).to_csv("few.csv")
    Path("spoilt.parquet").write_bytes(b"PAR1")
    before = files_below(tmp_path), files_below(smoke)
    code, out, err = lab_command(*told.replace("SMOKE", str(smoke)).split())
    assert (code, out) == (2, "")
    assert said in err
    assert err.startswith("lab")
    assert err.count("\n") == 1
    assert (files_below(tmp_path), files_below(smoke)) == before


def test_a_full_disk_is_one_line_and_exit_code_1(
    lab_command: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(lab.store, "_write", full)
    told = ["run", study_file(tmp_path), "--out", "out", "--stack", "2", "--quiet"]
    code, out, err = lab_command(*told)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("lab: disk full while writing to out")


def test_an_interrupt_is_one_line_and_exit_code_130(
    lab_command: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(sweeps.run.Display):
        def trained(self, tokens: int, flops: int) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(sweeps.run, "Display", Interrupted)
    told = ["run", study_file(tmp_path), "--out", "out", "--stack", "2", "--quiet"]
    code, out, err = lab_command(*told)
    assert (code, out, err.count("\n")) == (130, "", 1)
    assert "run again to go on" in err


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
    assert "warning: arm w40: one trunk seed" in out
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
    assert out == "3 of 5 segments done, 0 running, 0 waiting, 2 diverged, 0 damaged\n"


# Laws ----------------------------------------------------------------------------------------


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


def in_a_process(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize("told", ["--help", "plan --help", "fit --help", "data list --help"])
def test_help_loads_no_heavy_library(told: str) -> None:
    heavy = ("jax", "scipy", "pandas", "numpy", "matplotlib", "orbax", "grain", "pyarrow")
    code = f"""
import sys
from sweeps.cli import main
assert main({told.split()!r}) == 0
print("LOADED", [name for name in {heavy!r} if name in sys.modules])
"""
    out = in_a_process(code)
    assert "usage: lab" in out
    assert out.splitlines()[-1] == "LOADED []"


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
