"""Every verb: an example that can be typed, one JSON value for machines, quiet where asked for."""

import argparse
import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fits import made_points
from fits.table import write_table
from sweeps.bench import adaptive, data, device, fit, soak, step, sweep
from sweeps.cli import parser
from sweeps.verbs.complete import parsers
from tests.sweeps.small import ROOT, study_file

Lab = Callable[..., tuple[int, str, str]]


def verbs() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every verb and verb of a verb, as it is typed."""
    for one in parsers(parser()):
        yield one.prog.removeprefix("lab").strip(), one


VERBS = [name for name, one in verbs() if one.get_default("declared") is one]

# SMOKE is a folder of `lab run cmr --scale smoke`; the other names are files that a test makes.
COMMANDS = {
    "plan": "cmr --scale smoke",
    "run": "mine.py --out out --stack 2",
    "work": "out",
    "studies": "",
    "new study": "own_question.py",
    "status": "SMOKE",
    "results": "SMOKE",
    "report": "SMOKE --to a.md",
    "plot": "SMOKE --to a.png",
    "merge": "copy SMOKE",
    "gc": "SMOKE",
    "export": "SMOKE --run TRUNK --to trunk.npz",
    "adopt": "trunk.npz",
    "table": "points.csv",
    "laws": "",
    "fit": "chinchilla points.csv --interval covariance --to fit.json",
    "predict": "fit.json points.csv",
    "allocate": "fit.json --flops 1e21",
    "design": "fit.json points.csv --target alpha --cost budget_flop",
    "frontier": "akima points.csv",
    "doctor": "",
    "completion": "bash",
    "data list": "",
    "data prepare": "mine a.txt b.txt",
    "data scores": "damaged-prose",
    "bench step": "--repeats 1",
    "bench sweep": "--repeats 1",
    "bench data": "--repeats 1",
    "bench fit": "--repeats 1",
    "bench device": "--repeats 1",
    "bench plan": "--runs 20 --segments 4",
    "bench adaptive": "--worlds 1",
    "bench fleet": "--runs 20 --workers 2",
    "bench soak": "--kills 1",
}
# What these measure takes minutes and has tests of its own; here only what is printed counts.
MEASURED: dict[str, tuple[Any, Any]] = {
    "bench step": (step, {"rows": [], "cores": 2, "platform": "x"}),
    "bench sweep": (sweep, {"ratio": 4.0}),
    "bench data": (data, {"ratio": 600.0}),
    "bench fit": (fit, {"starts": 4500}),
    "bench device": (device, {"ways": {}}),
    "bench adaptive": (adaptive, ({"worlds": 1}, None)),
    "bench soak": (soak, {"kills": 1}),
}


def test_every_verb_has_an_example_that_can_be_typed() -> None:
    for name, one in verbs():
        example = str(one.epilog).removeprefix("example: ").partition(". Exit codes")[0]
        inner = example.removeprefix('eval "$(').removesuffix(')"')
        words = shlex.split(inner)
        assert words[0] == "lab", name
        assert inner.startswith(f"lab {name}".strip()), name
        told = parser().parse_args(words[1:])  # ends the test with SystemExit if it cannot be
        assert callable(getattr(__import__(told.module, fromlist=["x"]), told.function))


def test_every_verb_is_asked_for_json_here() -> None:
    assert list(COMMANDS) == VERBS


PARTS = [VERBS[: VERBS.index("laws")], VERBS[VERBS.index("laws") : VERBS.index("doctor")]]
PARTS.append(VERBS[VERBS.index("doctor") :])


@pytest.mark.parametrize("part", PARTS, ids=["sweeps", "tables", "machine"])
def test_every_verb_prints_one_json_value_and_nothing_else(
    lab_command: Lab,
    smoke: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    part: list[str],
) -> None:
    study_file(tmp_path)
    write_table(made_points(0.005), "points.csv")
    for name in "ab":
        Path(f"{name}.txt").write_text(f"document {name} " * 2000)
    trunk = str(pd.read_csv(smoke / "results.csv")["trunk"].iloc[0])
    for name, (module, value) in MEASURED.items():
        measure = f"bench_{name.removeprefix('bench ')}"
        monkeypatch.setattr(module, measure, lambda *told, value=value: value)
    monkeypatch.setattr("sweeps.speed.note_bench", lambda *told: None)
    for verb in part:
        words = (
            f"{verb} {COMMANDS[verb]}".replace("SMOKE", str(smoke)).replace("TRUNK", trunk).split()
        )
        with monkeypatch.context() as patch:
            if verb in ("adopt", "data prepare"):  # which put something there
                patch.setenv("LAB_HOME", str(tmp_path / "home"))
            code, out, err = lab_command(*words, "--json")
        assert code == 0, (verb, err)
        assert out.count("\n") == 1, verb
        assert json.loads(out) is not None, verb


def test_quiet_work_says_the_answer_alone(lab_command: Lab, tmp_path: Path) -> None:
    study = study_file(tmp_path)
    assert lab_command("run", study, "--out", "out", "--stack", "2", "--quiet") == (
        0,
        "2 runs\n",
        "",
    )
    code, out, err = lab_command("work", "out", "--quiet")
    assert (code, out.count("\n"), err) == (0, 1, "")


def test_quiet_soaking_says_the_answer_alone(
    lab_command: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bench(kills: int, processes: int, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
        say("killed one")
        return {"kills": kills, "processes": processes, "tables": 1, "ended": {}, "seconds": 1.0}

    monkeypatch.setattr(soak, "bench_soak", bench)
    assert lab_command("bench", "soak")[2] == "lab: killed one\n"
    code, out, err = lab_command("bench", "soak", "--quiet")
    assert (code, out.count("\n"), err) == (0, 1, "")


def test_the_page_of_the_command_names_every_verb() -> None:
    page = (ROOT / "notebooks" / "pages" / "command.md").read_text(encoding="utf-8")
    for name in VERBS:
        assert f"`{name}`" in page or f"`{name.split()[-1]}`" in page, name
