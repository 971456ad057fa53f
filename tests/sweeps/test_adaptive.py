"""Rounds: foretold before they start, the same whatever is killed, ended by the report's number."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fits.figures.adaptive_figure import Course
from lab.errors import Refused
from lab.store import Index
from sweeps import adaptive
from sweeps.bench import adaptive as bench
from sweeps.budget import Spending
from sweeps.cli import main
from sweeps.plan import Plan, make_plan
from sweeps.remaining import remaining
from sweeps.results import table
from sweeps.rounds import ROUNDS_FILE, ExpectedRun, Round, append_round, read_rounds
from sweeps.run import open_corpora
from sweeps.studies import cmr
from sweeps.study import ask
from sweeps.target import Condition, parse_condition
from tests.sweeps.at_once import ON_IT, stand_in
from tests.sweeps.small import Stopped, files_below, stop_after, study_file, use_engine

Lab = Callable[..., tuple[int, str, str]]
SMOKE = ("cmr", "--scale", "smoke", "--stack", "2", "--quiet")
SEEDS = ("--axis", "w16:seed=0,1,2,3")
UNTIL = ("--until", "cmr_width < 0.6")


# What is asked for ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ("cmr_width > 1", "must read NAME < NUMBER, or <=; names: cmr_width"),
        ("cmr_width", "must read NAME < NUMBER"),
        ("cmr_width < 0.1 and cmr_width < 2", "must read NAME < NUMBER"),
        ("__import__('os') < 1", "must read NAME < NUMBER"),
        ("width < 1", "unknown name 'width'; cmr has cmr_width"),
        ("cmr_width < 0", "0 must be a positive number"),
        ("cmr_width < -1", "-1 must be a positive number"),
        ("cmr_width < nan", "nan must be a positive number"),
        ("cmr_width < wide", "wide must be a positive number"),
    ],
)
def test_what_is_no_condition_is_refused_in_one_line_and_nothing_is_written(
    lab_command: Lab, tmp_path: Path, told: str, why: str
) -> None:
    for verb in ("run", "plan"):
        code, out, err = lab_command(verb, "cmr", "--scale", "smoke", "--until", told)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert why in err
    assert files_below(tmp_path) == {}


def test_studies_and_sweeps_without_the_number_refuse(lab_command: Lab, tmp_path: Path) -> None:
    study = study_file(tmp_path)
    before = files_below(tmp_path)
    until = ("--until", "cmr_width < 1")
    for told, why in (
        ((study, *until), "study mine names nothing that could be narrowed"),
        (("cmr", "--scale", "paper", *until), "--axis 460M:seed=0,1,2"),
        ((*SMOKE, *UNTIL, "--budget-flops", "9"), "too small for one run"),
    ):
        code, out, err = lab_command("run", *told)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert why in err
    assert files_below(tmp_path) == before


def test_less_and_at_most() -> None:
    less = parse_condition(" cmr_width<0.1 ", "cmr", cmr.STUDY.targets)
    most = parse_condition("cmr_width <= 1e-1", "cmr", cmr.STUDY.targets)
    assert (str(less), str(most)) == ("cmr_width < 0.1", "cmr_width <= 0.1")
    assert [one.holds(0.1) for one in (less, most)] == [False, True]
    assert not most.holds(math.inf)


# A real sweep ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rounds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """A sweep in rounds, undisturbed: its folder, and what `--json` said."""
    out = tmp_path_factory.mktemp("rounds") / "out"
    with pytest.MonkeyPatch.context() as patch:
        lines: list[str] = []
        patch.setattr("builtins.print", lambda *told, **_: lines.append(" ".join(map(str, told))))
        assert main(["run", *SMOKE, *SEEDS, *UNTIL, "--out", str(out), "--json"]) == 0
    return out, json.loads(lines[-1])["until"]


def test_it_ends_with_the_width_that_the_report_prints(rounds: tuple[Path, Any]) -> None:
    out, until = rounds
    printed = pd.read_csv(out / "tables" / "critical_ratio.csv")
    last = printed[printed["horizon_tokens"] == printed["horizon_tokens"].max()].iloc[0]
    assert until["reached"] == (until["width"] is not None and until["width"] < 0.6)
    assert until["reached"]
    assert until["width"] == pytest.approx(last["high"] - last["low"], rel=1e-12)
    assert until["flops_spent"] == sum(one["flops"] for one in until["rounds"])
    assert 0 < until["flops_spent"] < until["flops_full"]


def test_predictions_stand_beside_what_was_measured(rounds: tuple[Path, Any]) -> None:
    out, until = rounds
    told = [run for one in read_rounds(out) for run in one.runs]
    rows = pd.read_csv(out / "tables" / "predictions.csv")
    assert len(rows) == len(told) == until["runs_chosen"]
    assert rows["predicted"].tolist() == pytest.approx([run.predicted for run in told])
    inside = (rows["low"] <= rows["measured"]) & (rows["measured"] <= rows["high"])
    assert rows["inside"].tolist() == inside.tolist()
    losses = pd.read_csv(out / "results.csv")
    general = losses[losses["corpus"] == "prose+docs"]
    for _, row in rows.iterrows():
        arm = general[(general["arm"] == row["arm"]) & (general["seed"] == row["seed"])]
        own = arm[np.isclose(arm["cpt_ratio"], row["cpt.ratio"])].sort_values("step")
        before = own[own["phase"] == "pretrain"]["loss_nats"].iloc[-1]
        assert row["measured"] == pytest.approx(own["loss_nats"].iloc[-1] - before, abs=1e-12)
    page = (out / "report.html").read_text()
    assert "written down before its round started" in page
    assert "adaptive rounds chose" in page


def test_asked_again_it_trains_nothing_and_decides_nothing(
    rounds: tuple[Path, Any], told_json: Callable[..., Any]
) -> None:
    out, until = rounds
    before = (out / ROUNDS_FILE).read_bytes()
    again = told_json("run", *SMOKE, *SEEDS, *UNTIL, "--out", out)
    assert again["trained_tokens"] == 0
    assert (out / ROUNDS_FILE).read_bytes() == before
    assert again["until"]["width"] == until["width"]
    planned = told_json("plan", *SMOKE[:-1], *SEEDS, *UNTIL, "--out", out)["until"]
    assert (planned["verdict"], planned["runs"]) == ("reached", [])


@pytest.mark.parametrize("calls", [1, 13])
def test_killed_anywhere_it_goes_on_to_the_same_rounds_and_bits(
    tmp_path: Path, rounds: tuple[Path, Any], calls: int
) -> None:
    out = tmp_path / "out"
    told = ["run", *SMOKE, *SEEDS, *UNTIL, "--out", str(out), "--json"]
    with pytest.MonkeyPatch.context() as patch:
        use_engine(patch, chunk_steps=20, commit_seconds=0.0)
        stop_after(patch, calls)
        with pytest.raises(Stopped):
            main(told)
    decided = (out / ROUNDS_FILE).read_bytes()
    assert not (out / "results.csv").exists()
    assert main(told) == 0
    assert (out / ROUNDS_FILE).read_bytes().startswith(decided)
    for name in (ROUNDS_FILE, "results.csv", "tables/predictions.csv"):
        assert (out / name).read_bytes() == (rounds[0] / name).read_bytes()


def test_the_rest_of_the_grid_can_follow_and_has_the_bits_of_all_at_once(
    tmp_path: Path, smoke: Path, told_json: Callable[..., Any]
) -> None:
    out = tmp_path / "out"
    first = told_json("plan", *SMOKE[:-1], "--until", "cmr_width < 0.01", "--out", out)["until"]
    value = told_json("run", *SMOKE, "--until", "cmr_width < 0.01", "--out", out)["until"]
    assert value["rounds"][0] == first
    assert (value["reached"], value["verdict"][:12]) == (False, "not reached:")
    told_json("run", *SMOKE, "--out", out)
    assert (out / "results.csv").read_bytes() == (smoke / "results.csv").read_bytes()
    assert (out / "tables" / "predictions.csv").exists()


def test_a_budget_ends_it_and_the_next_one_goes_on_with_the_same_round(
    tmp_path: Path, rounds: tuple[Path, Any], told_json: Callable[..., Any]
) -> None:
    flops = rounds[1]["rounds"][0]["flops"]
    told = ("run", *SMOKE, *SEEDS, *UNTIL, "--out", tmp_path / "out", "--budget-flops", flops)
    first = told_json(*told)["until"]
    assert first["verdict"] == "not reached: the budget is spent"
    assert first["flops_spent"] == flops
    second = told_json(*told[:-1], 1e13)["until"]
    assert second["rounds"] == rounds[1]["rounds"]
    assert second["width"] == rounds[1]["width"]


def test_on_an_engine_the_rounds_are_the_same(
    tmp_path: Path,
    rounds: tuple[Path, Any],
    told_json: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, engine = tmp_path / "out", stand_in(monkeypatch, tmp_path)
    until = told_json("run", *SMOKE, *SEEDS, *UNTIL, "--out", out, *ON_IT)["until"]
    assert until == rounds[1]
    for name in (ROUNDS_FILE, "results.csv", "tables/predictions.csv"):
        assert (out / name).read_bytes() == (rounds[0] / name).read_bytes()
    handed = {end for command in engine.commands for end in command[6].split(",")}
    status = told_json("status", out)
    assert len(handed) == status["done"]
    assert status["waiting"] > 0  # runs that no round chose


@pytest.mark.parametrize("line", ["{", "[]", '{"round": 2}', '{"round": 1}'])
def test_rounds_that_cannot_be_read_are_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / ROUNDS_FILE).write_text(line + "\n")
    with pytest.raises(Refused, match=r"rounds\.jsonl, line 1: not a round"):
        read_rounds(tmp_path)


def test_a_round_that_another_process_writes_while_this_one_decides_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = bench.grid_of()
    plan, todo = grid.plan, remaining(grid.plan, Index())
    theirs = next(run for run in plan.runs if run.values["cpt.ratio"] == 0.5)
    chosen = ExpectedRun(theirs.arm, theirs.values, 0.0, -1.0, 1.0)
    said: list[str] = []

    def read_late(plan: Plan, index: Index) -> pd.DataFrame:
        """The other process wrote its round, and has trained it, before the results are read."""
        append_round(tmp_path, Round(1, bench.NAME, "theirs", {}, {}, None, 1.0, (chosen,)))
        bench.train(bench.world(0), grid, index, [theirs])
        return table(plan, index)

    monkeypatch.setattr(adaptive, "table", read_late)
    aim = adaptive.Aim(cmr.STUDY, grid.settings, Condition(bench.NAME, "<", 0.1))
    given = adaptive.Rounds(aim, tmp_path, Spending([], said.append), said.append)(plan, todo)
    assert [one.until for one in read_rounds(tmp_path)] == ["theirs"]
    assert {work.segment for work in given.work} == set(theirs.segments)
    assert said == []


# Made-up worlds: what is claimed --------------------------------------------------------------


def test_half_of_the_grid_is_more_than_enough_for_the_width_of_the_whole() -> None:
    grid = bench.grid_of()
    whole, small = grid.flops(grid.plan.runs), grid.flops(grid.smallest)
    shares, reached, held, foretold = [], [], [], []
    for one in map(bench.world, range(40)):
        index = Index()
        bench.train(one, grid, index, grid.plan.runs)
        width = grid.reading(index).width
        if math.isinf(width):
            continue
        trial = bench.adaptive(one, grid, width)
        shares.append(trial.flops / whole)
        reached.append(trial.reached)
        held.append(one.held_by(trial.reading.values))
        foretold += trial.inside
    assert len(shares) >= 25
    assert np.median(shares) <= 0.25  # half of the grid was asked for
    assert np.median(shares) <= 0.8 * small / whole
    assert max(shares) <= grid.flops(grid.read) / whole
    assert np.mean(reached) >= 0.9
    assert np.mean(held) >= 0.85  # 95 % intervals, 30 worlds: .87 is two standard errors away
    assert np.mean(foretold) >= 0.93


def test_with_many_seeds_only_as_many_are_trained_as_a_width_needs() -> None:
    grid = bench.grid_of(12)
    trials = [bench.adaptive(bench.world(k), grid, 0.12) for k in range(12)]
    seeds = [trial.reading.values["seeds"] for trial in trials]
    assert np.mean([trial.reached for trial in trials]) >= 0.75
    assert np.median(seeds) < 9
    assert min(seeds) >= 3
    for trial in trials:
        spent = [flops for flops, _ in trial.path]
        assert spent == sorted(spent)
        assert trial.reached == (trial.path[-1][1] <= 0.12)


def test_what_is_decided_depends_on_the_results_alone() -> None:
    grid = bench.grid_of()
    one = bench.world(3)
    first, second = (bench.adaptive(one, grid, 0.15) for _ in range(2))
    assert [r.to_json() for r in first.rounds] == [r.to_json() for r in second.rounds]


def test_runs_in_no_order_at_all_are_no_mistake() -> None:
    settings, sweep = ask(cmr.STUDY, "tiny")
    grid = bench.Grid(make_plan(sweep, open_corpora(sweep)), settings)
    path = bench.in_order(bench.world(0), grid, bench.shuffled(grid, 0))
    assert path[-1][0] == grid.flops(grid.plan.runs)
    assert math.isinf(path[0][1])


def test_the_bench_says_what_scripts_read_and_refuses_other_pictures(
    lab_command: Lab, tmp_path: Path
) -> None:
    code, _, err = lab_command("bench", "adaptive", "--to", "figure.jpg")
    assert code == 2
    assert "a figure ends in .svg, .pdf, .png" in err
    assert lab_command("bench", "adaptive", "--worlds", "0")[0] == 2
    code, out, _ = lab_command("bench", "adaptive", "--worlds", "2", "--to", "a.png", "--json")
    assert code == 0
    value = json.loads(out)
    assert {"exact", "about", "many_seeds", "grid_coverage", "smallest_share"} <= set(value)
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_a_course_holds_each_width_from_its_share_on() -> None:
    course = Course("x", 0, [(0.2, 3.0), (0.5, 1.0)])
    assert course.at(np.array([0.1, 0.2, 0.49, 0.5, 1.0])).tolist() == [math.inf, 3, 3, 1, 1]
