"""The study of the base law: its plan at every scale, its reading on losses of a known law."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import fits.errors
from fits.report import Findings
from fits.verdicts import Verdict, judge
from lab.errors import Refused
from lab.flops import parameters, train_flops_per_token
from lab.ideal import known_floor
from sweeps.foresight import foresee
from sweeps.peak_rates import peak_rule
from sweeps.plan import make_plan
from sweeps.run import open_corpora
from sweeps.studies.chinchilla import FLOORS, LARGER, PROBED, STUDY
from sweeps.study import ask
from sweeps.sweep import Sweep

Law = Callable[[float, float], float]


# Plan ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["smoke", "tiny"])
def test_all_horizons_of_a_size_and_seed_share_one_trunk(scale: str) -> None:
    told, sweep = ask(STUDY, scale)
    plan = make_plan(sweep, open_corpora(sweep))
    seeds = len(sweep.arms[LARGER].axes["seed"])
    roots = [one for one in plan.segments if one.parent is None]
    assert len(roots) == seeds * len(sweep.arms)  # the larger run's trunk is its own
    for arm in sweep.arms:
        runs = [run for run in plan.runs if run.arm == arm and run.values["seed"] == 0]
        trained = sum(plan.segments[k].tokens for k in {k for run in runs for k in run.segments})
        longest = max(run.path.run.phases[0].tokens for run in runs)
        cools = sum(run.path.run.phases[0].schedule[-1].tokens or 0 for run in runs)
        last = round((1 - told.share) * longest)
        assert trained == pytest.approx(last + cools, abs=4096)  # whole steps
    plan.refuse_repeats()
    assert max(plan.most_epochs().values()) < 1  # no verdict would be given above one epoch


@pytest.mark.parametrize("scale", STUDY.scales)
def test_every_run_is_warmed_held_and_cooled_over_the_stated_share(scale: str) -> None:
    told, sweep = ask(STUDY, scale)
    for grid in sweep.arms.values():
        horizons = [run.phases[0].tokens for _, run in grid.points() if run.seed == 0]
        middle = math.prod(horizons) ** (1 / len(horizons))
        for _, run in grid.points():
            (phase,) = run.phases
            assert [stage.shape for stage in phase.schedule] == ["warm", "hold", "linear"]
            rise, _, fall = phase.schedule
            assert rise.to_lr == peak_rule(scale).peak_lr(run.model.width, middle)
            assert fall.to_lr == pytest.approx(told.end * rise.to_lr)
            step = run.tokens_per_step
            assert fall.tokens == pytest.approx(told.share * phase.tokens, abs=0.51 * step)


def test_a_run_costs_its_budget_to_the_rounding_of_steps() -> None:
    told, sweep = ask(STUDY, "tiny")
    costs = []
    for name, grid in sweep.arms.items():
        if name != LARGER and "-" not in name:
            assert parameters(grid.base.model).total * 6 == pytest.approx(
                train_flops_per_token(grid.base.model), rel=0.01
            )  # so that C = 6 N D holds when N counts embedding and head
            for _, run in grid.points():
                costs.append(run.phases[0].tokens * train_flops_per_token(run.model))
    nearest = [min(told.budgets, key=lambda one: abs(one - cost)) for cost in costs]
    assert np.abs(np.array(costs) / nearest - 1).max() < 0.005
    sizes = pd.Series(nearest).value_counts() / len(sweep.arms[LARGER].axes["seed"])
    assert sizes.min() >= 4  # sizes at each budget


@pytest.mark.parametrize("scale", ["small", "paper"])
def test_scales_beyond_the_built_in_corpora_are_planned_and_not_run(scale: str) -> None:
    _, sweep = ask(STUDY, scale)
    plan = make_plan(sweep, open_corpora(sweep))
    with pytest.raises(Refused, match=r"would be read [\d,.]+ times \(at most 4\)"):
        plan.refuse_repeats()


@pytest.mark.parametrize("scale", STUDY.scales)
def test_a_line_at_twenty_tokens_a_parameter_is_foreseen_to_say_nothing(scale: str) -> None:
    told, sweep = ask(STUDY, scale)
    rows, warnings = foresee(STUDY.foresees(told, sweep))
    grid, line = (next(row for row in rows if text in row["what"]) for text in ("grid", "line"))
    assert grid["points"] == line["points"]  # as many runs
    assert grid["identified"]
    assert not any(one["wide"] for name, one in grid["params"].items() if name in ("E", "alpha"))
    wide = [name for name, one in line["params"].items() if one["wide"]]
    assert not line["identified"] or {"A", "B", "alpha", "beta"} <= set(wide)
    assert line["condition"] is None or line["condition"] > 50 * grid["condition"]
    assert any("the line D = 20 N" in one for one in warnings)


def test_what_the_design_cannot_identify_is_said_or_refused() -> None:
    def said(*sets: str, axes: Any = ()) -> str:
        told, sweep = ask(STUDY, "tiny", sets, axes)
        return "; ".join(STUDY.cautions(told, sweep))

    assert said() == ""
    assert "one trunk seed, so no interval over seeds: w8, w12" in said(axes=["seed=0"])
    assert "2 budgets: the IsoFLOP reading needs 3" in said("budgets=1e11,4e11")
    with pytest.raises(Refused, match=r"^axis batch: chinchilla reads only the axes seed and pha"):
        said(axes=["batch=32,64"])
    with pytest.raises(Refused, match=r"^budgets 1e\+11 and 1\.1e\+11: must be a factor 1\.2"):
        said("budgets=1e11,1.1e11,2e11")
    with pytest.raises(Refused, match=r"^share = 1\.0: must lie between 0 and 1"):
        said("share=1")
    with pytest.raises(Refused, match=r"must be more than the 65536 of the warm-up"):
        said("floors=65536")
    with pytest.raises(Refused, match=r"^5 places of N and D: the law has 5 parameters"):
        said("budgets=1e11")


# Read ----------------------------------------------------------------------------------------


def made(
    asked: Sweep,
    law: Law,
    floors: dict[str, Law],
    larger: float = 1.0,
    noise: float = 0.002,
    epochs: float = 0.3,
) -> pd.DataFrame:
    """The table that a sweep would leave if losses followed laws of N and D.

    larger: factor on the larger run's loss, which the law then does not foresee. noise: relative,
    half of it common to a seed and size.
    """
    random = np.random.default_rng(7)
    rows = []
    for arm, grid in asked.arms.items():
        which = arm.rpartition("-")[0]
        common: dict[int, float] = {}
        for values, run in grid.points():
            count, tokens, seed = parameters(run.model), run.phases[0].tokens, values["seed"]
            drift = common.setdefault(seed, random.normal(0, noise * 0.7))
            loss = (floors[which] if which in FLOORS else law)(count.total, tokens)
            loss *= 1 + drift + random.normal(0, noise * 0.7)
            rows.append(
                {
                    "arm": arm,
                    "run": f"{arm}-{seed}-{tokens}",
                    "seed": seed,
                    "status": "done",
                    "step": tokens // run.tokens_per_step,
                    "tokens": tokens,
                    "train_flops": tokens * train_flops_per_token(run.model),
                    "n_params": count.total,
                    "n_params_non_embedding": count.non_embedding,
                    "corpus": FLOORS.get(which, "prose+docs+code"),
                    "epochs": epochs,
                    "loss_nats": loss * (larger if arm == LARGER else 1.0),
                }
            )
    return pd.DataFrame(rows)


def chinchilla(**params: float) -> Law:
    p = {**PROBED, **params}
    return lambda n, d: p["E"] + p["A"] / n ** p["alpha"] + p["B"] / d ** p["beta"]


def floor(name: str, above: float = 0.0) -> Law:
    """A law whose irreducible loss is what the evaluated windows allow, plus something."""
    least = known_floor(FLOORS[name], 256, 64)[1] + above
    return chinchilla(E=least, A=4000.0, B=6000.0)


def verdicts(findings: Findings, told: Any, asked: Sweep) -> dict[str, Verdict]:
    return {one.claim.name: one for one in judge(STUDY.claims(told, asked), findings.evidence)}


@pytest.fixture(scope="module")
def tiny() -> tuple[Any, Sweep]:
    return ask(STUDY, "tiny")


@pytest.fixture(scope="module")
def supported(tiny: tuple[Any, Sweep]) -> Findings:
    floors = {name: floor(name) for name in FLOORS}
    return STUDY.read(made(tiny[1], chinchilla(), floors), *tiny)


def test_the_law_and_its_exponents_are_recovered(supported: Findings) -> None:
    law = supported.fits[0]
    assert law.law_name == "chinchilla"
    for name in ("E", "alpha", "beta"):
        assert law.params[name] == pytest.approx(PROBED[name], rel=0.02)
        low, high = law.intervals[name].low, law.intervals[name].high
        assert low is not None
        assert high is not None
        assert low < law.params[name] < high
    table = supported.table("exponents").set_index(["parameters", "approach"])
    truth = PROBED["beta"] / (PROBED["alpha"] + PROBED["beta"])
    own = table.loc["with embeddings"]
    assert own.loc["parametric", "a"] == pytest.approx(truth, abs=0.01)
    assert own.loc["isoflop", "a"] == pytest.approx(truth, abs=0.03)
    assert own.loc["envelope", "a"] == pytest.approx(truth, abs=0.06)  # a staircase of 7 sizes
    assert (own["seeds"] == 5).all()
    assert (own["a"] + own["b"]).tolist() == pytest.approx([1, 1, 1])
    # 2406.12907: without embeddings small models seem to need growing faster
    assert table.loc[("without embeddings", "parametric"), "low"] > own.loc["parametric", "high"]
    assert supported.table("rivals").iloc[0]["law"] == "chinchilla"


def test_every_statement_is_supported_where_it_holds(
    tiny: tuple[Any, Sweep], supported: Findings
) -> None:
    found = verdicts(supported, *tiny)
    decided = {name: one.decision for name, one in found.items()}
    assert decided.pop("envelope") in ("supported", "undecided")  # seven sizes scatter it
    assert decided == dict.fromkeys(("larger", "isoflop", "kaplan", "markov", "words"), "supported")
    for one in found.values():
        assert one.units == 5
    truth = 0.73 - found["kaplan"].effect
    assert 0.5 < truth < 0.65


def test_every_statement_is_refuted_where_it_does_not_hold(tiny: tuple[Any, Sweep]) -> None:
    floors = {name: floor(name, above=0.3) for name in FLOORS}
    steep = chinchilla(alpha=0.25, A=40.0, beta=1.1, B=3e6)  # a = .81
    found = verdicts(STUDY.read(made(tiny[1], steep, floors, larger=1.05), *tiny), *tiny)
    for name in ("larger", "kaplan", "markov", "words"):
        assert found[name].decision == "refuted", name
    assert found["larger"].effect == pytest.approx(1 / 1.05 - 1, abs=0.01)
    assert found["words"].effect == pytest.approx(0.3, abs=0.05)
    assert found["kaplan"].effect < 0


def test_noise_or_a_text_read_twice_leaves_it_undecided(tiny: tuple[Any, Sweep]) -> None:
    floors = {name: floor(name) for name in FLOORS}
    loud = made(tiny[1], chinchilla(), floors, noise=0.05)
    found = verdicts(STUDY.read(loud, *tiny), *tiny)
    for name in ("larger", "isoflop", "envelope", "words"):
        assert found[name].decision == "undecided", name
    twice = made(tiny[1], chinchilla(), floors, epochs=1.5)
    found = verdicts(STUDY.read(twice, *tiny), *tiny)
    assert {one.decision for one in found.values()} == {"undecided"}
    assert "a corpus was read 1.5 times" in found["kaplan"].why


def test_an_irreducible_loss_at_its_bound_is_no_evidence(tiny: tuple[Any, Sweep]) -> None:
    floors: dict[str, Law] = {
        name: chinchilla(E=0.0, A=5.0, alpha=0.2, B=9.0, beta=0.2) for name in FLOORS
    }
    curved: dict[str, Law] = {
        name: lambda n, d: np.log(floors["words"](n, d) + 0.8) for name in FLOORS
    }
    findings = STUDY.read(made(tiny[1], chinchilla(), curved, noise=1e-4), *tiny)
    found = verdicts(findings, *tiny)
    assert found["words"].decision == "undecided"
    assert "sits at its bound 0 in 5 of 5 seeds" in found["words"].why


def test_the_larger_run_is_predicted_from_the_grid_alone(tiny: tuple[Any, Sweep]) -> None:
    told, asked = tiny
    floors = {name: floor(name) for name in FLOORS}
    results = made(asked, chinchilla(), floors)
    earlier = results[results["arm"] != LARGER]
    said = STUDY.predict(earlier, told, asked)
    first = said.iloc[0]
    assert first["name"] == "larger, chinchilla"
    base = asked.arms[LARGER].base
    truth = chinchilla()(parameters(base.model).total, base.phases[0].tokens)
    assert first["low"] < truth < first["high"]
    assert first["predicted"] == pytest.approx(truth, rel=0.005)
    spoilt = results.assign(
        loss_nats=results["loss_nats"] * np.where(results["arm"] == LARGER, 9, 1)
    )
    pd.testing.assert_frame_equal(STUDY.predict(spoilt, told, asked), said)
    findings = STUDY.read(earlier, told, asked)
    assert findings.measured == {}
    assert verdicts(findings, told, asked)["larger"].why == "the larger run is not there"
    whole = STUDY.read(results, told, asked)
    assert set(said["name"]) <= set(whole.measured)


def test_a_grid_that_is_not_there_yet_predicts_nothing(tiny: tuple[Any, Sweep]) -> None:
    results = made(tiny[1], chinchilla(), {name: floor(name) for name in FLOORS})
    few = results[(results["arm"] == "w8") | results["arm"].str.contains("-")]
    with pytest.raises(fits.errors.Refused):
        STUDY.predict(few, *tiny)
    with pytest.raises(fits.errors.Refused, match="no finished run evaluated on"):
        STUDY.predict(results.assign(status="diverged"), *tiny)


def test_seeds_that_diverged_take_no_part(tiny: tuple[Any, Sweep], supported: Findings) -> None:
    results = made(tiny[1], chinchilla(), {name: floor(name) for name in FLOORS})
    ill = (results["arm"] == "w24") & (results["seed"] == 2)
    results.loc[ill, ["status", "loss_nats"]] = ["diverged", np.nan]
    left = STUDY.read(results, *tiny)
    before, after = (
        one.table("losses").set_index(["arm", "n_tokens"]) for one in (supported, left)
    )
    fewer = (before["seeds"] - after["seeds"])["w24"]
    assert set(fewer) == {1}
    assert (before["seeds"] - after["seeds"]).sum() == len(fewer)
    assert left.fits[0].params["beta"] == pytest.approx(PROBED["beta"], rel=0.02)


# Run -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sweeps.cli import main

    out = tmp_path_factory.mktemp("chinchilla") / "smoke"
    told = ["run", "chinchilla", "--scale", "smoke", "--out", str(out), "--stack", "2", "--json"]
    assert main(told) == 0
    return out


def test_smoke_foretells_the_larger_run_and_then_runs_it(ran: Path) -> None:
    written = json.loads((ran / "foretold.jsonl").read_text().splitlines()[0])
    assert written["beforehand"] is True
    assert written["rows"][0]["name"] == "larger, chinchilla"
    results = pd.read_parquet(ran / "results.parquet")
    assert (results[results["arm"] == LARGER]["status"] == "done").all()
    table = pd.read_csv(ran / "tables" / "foretold.csv")
    last = results[(results["arm"] == LARGER) & (results["corpus"] == "prose+docs+code")]
    ends = last.sort_values("step").groupby("seed")["loss_nats"].last()
    assert table["measured"].tolist() == pytest.approx([ends.mean()] * len(table))


def test_smoke_writes_verdicts_tables_and_figures(ran: Path) -> None:
    settings, sweep = ask(STUDY, "smoke")
    verdict = pd.read_csv(ran / "tables" / "verdicts.csv")
    assert verdict["claim"].tolist() == [one.name for one in STUDY.claims(settings, sweep)]
    assert set(verdict["verdict"]) <= {"supported", "refuted", "undecided"}
    names = {path.relative_to(ran).as_posix() for path in ran.rglob("*")}
    for table in ("exponents", "irreducible_loss", "rivals", "allocation", "losses"):
        assert f"tables/{table}.csv" in names
    for figure in ("law", "exponents", "floors"):
        assert {f"figures/{figure}.{end}" for end in ("svg", "pdf", "png", "csv")} <= names
    floors = pd.read_csv(ran / "tables" / "irreducible_loss.csv").set_index("text")
    rate, least = known_floor("synthetic-words", settings.windows, 32)
    assert floors.loc["words", "windows allow"] == pytest.approx(least)
    assert floors.loc["words", "entropy rate"] == pytest.approx(rate)


def test_smoke_again_trains_nothing_and_foretells_nothing_anew(
    ran: Path, told_json: Callable[..., Any]
) -> None:
    before = (ran / "foretold.jsonl").read_bytes()
    again = told_json("run", "chinchilla", "--scale", "smoke", "--out", ran, "--stack", "2")
    assert again["trained_tokens"] == 0
    assert (ran / "foretold.jsonl").read_bytes() == before
