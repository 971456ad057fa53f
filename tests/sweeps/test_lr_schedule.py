"""The study of schedules: its plan, and its reading on losses that a known law made."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fits.laws import law
from fits.rates import Rates
from fits.report import Findings
from fits.schedule_findings import evidence, loss_table
from fits.schedules import Curves, curves, errors, ranking, unit_fits
from fits.verdicts import Evidence, Verdict, judge
from lab.errors import Refused
from lab.schedule import realise
from sweeps.foresight import foresee
from sweeps.plan import make_plan
from sweeps.run import open_corpora
from sweeps.studies.lr_schedule import (
    COSINE,
    FITTED,
    LATER,
    LAWS,
    LOW_WSD,
    PROBED,
    RANKED,
    REWARMED,
    STUDY,
    WSD,
    question,
)
from sweeps.study import ask
from sweeps.sweep import Sweep

Asked = tuple[Any, Sweep]

# Plan ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", STUDY.scales)
def test_schedules_end_where_they_should(scale: str) -> None:
    told, sweep = ask(STUDY, scale)
    rates = {name: realise(grid.base) for name, grid in sweep.arms.items()}
    steps = len(rates["constant"])
    for name, grid in sweep.arms.items():
        base = grid.base
        assert (
            base.batch * base.model.context * base.steps == told.tokens * len(rates[name]) / steps
        )
        peak = told.low if name in ("constant-low", "wsd-low") else told.peak
        assert rates[name].max() == np.float32(peak)
        ends = {"constant": 1.0, "constant-long": 1.0, "constant-low": 1.0, "two-stage": told.drop}
        assert rates[name][-1] == pytest.approx(ends.get(name, told.end) * peak, rel=1e-6)
    lengths = {name: len(rate) / steps for name, rate in rates.items()}
    assert {n: x for n, x in lengths.items() if x != 1} == {
        "cosine-long": 2,
        "constant-long": 2,
        "rewarmed": 1.5,
    }
    assert (rates["rewarmed"][:steps] == rates["wsd"]).all()
    assert (rates["constant-long"][:steps] == rates["constant"]).all()
    half = steps // 2
    assert (rates["two-stage"][:half] == rates["constant"][:half]).all()
    assert len(set(rates["two-stage"][half:].tolist())) == 1  # it drops within one step
    held = rates["infinite"] == np.float32(told.held * told.peak)
    assert held.sum() / steps == pytest.approx(1 - told.cooldown - told.cool, abs=0.02)


def test_warm_up_and_hold_are_trained_once_and_a_cosine_by_itself() -> None:
    _, sweep = ask(STUDY, "tiny", axes=["seed=0"])
    plan = make_plan(sweep, open_corpora(sweep))
    steps = {
        run.arm: {k: plan.segments[k].stop - plan.segments[k].start for k in run.segments}
        for run in plan.runs
    }

    def shared(one: str, other: str) -> int:
        return sum(n for k, n in steps[one].items() if k in steps[other])

    assert shared("constant", "two-stage") == 800
    assert shared("constant", "wsd") == 1280
    assert shared("constant", "constant-long") == 1600
    assert shared("wsd", "rewarmed") == 1600
    assert shared("constant-low", "wsd-low") == 1280
    assert shared("cosine", "constant") == 40  # the warm-up
    assert shared("cosine", "cosine-long") == 40
    assert shared("constant", "constant-low") == 0


@pytest.mark.parametrize("scale", ["smoke", "tiny"])
def test_the_text_is_read_once_and_later_arms_are_the_unseen_ones(scale: str) -> None:
    told, sweep = ask(STUDY, scale)
    plan = make_plan(sweep, open_corpora(sweep))
    assert max(plan.most_epochs().values()) < 1
    assert STUDY.cautions(told, sweep) == []
    assert STUDY.later(told, sweep) == LATER
    assert not set(LATER) & set(FITTED)
    assert 6 <= len(STUDY.claims(told, sweep)) <= 9


def test_what_is_foreseen_is_the_fits_of_one_seed() -> None:
    rows, warnings = foresee(STUDY.foresees(*ask(STUDY, "tiny")))
    assert [row["law"] for row in rows] == list(PROBED)
    assert all(row["identified"] for row in rows)
    assert any("multi-power" in one and "gamma" in one for one in warnings)


@pytest.mark.parametrize("scale", ["small", "paper"])
def test_scales_beyond_the_built_in_corpora_are_planned_and_not_run(scale: str) -> None:
    _, sweep = ask(STUDY, scale)
    plan = make_plan(sweep, open_corpora(sweep))
    with pytest.raises(Refused, match=r"would be read [\d,.]+ times \(at most 4\)"):
        plan.refuse_repeats()


def test_what_the_design_cannot_identify_is_said_or_refused() -> None:
    def said(*sets: str, axes: Any = ()) -> str:
        told, sweep = ask(STUDY, "tiny", sets, axes)
        return "; ".join(STUDY.cautions(told, sweep))

    assert "one seed, so no interval over seeds: constant, cosine" in said(axes=["seed=0"])
    assert "constant: 31 losses to fit, fewer than 40" in said("skip=409600")
    with pytest.raises(Refused, match=r"^axis batch: lr_schedule reads only the axis seed"):
        said(axes=["batch=32,64"])
    with pytest.raises(Refused, match=r"^low = 0\.008: must be above 0 and below peak = 0\.008"):
        said("low=.008")
    with pytest.raises(Refused, match=r"^end = 0\.6: must be below held = 0\.55"):
        said("end=.6")
    with pytest.raises(Refused, match=r"^cool = 1\.2: must lie between 0 and 1"):
        said("cool=1.2")
    with pytest.raises(Refused, match=r"^tokens = 3276800, 1600 steps with a cool-down of 960"):
        said("cool=.6")
    with pytest.raises(Refused, match=r"^skip = 1000: must be whole steps of 2048"):
        said("skip=1000")


# Read ----------------------------------------------------------------------------------------

TRUTH = PROBED["multi-power"]
SEEDS = 5


@pytest.fixture(scope="module")
def tiny() -> Asked:
    return ask(STUDY, "tiny", axes=[f"seed={','.join(map(str, range(SEEDS)))}"])


def made(
    tiny: Asked,
    name: str = "multi-power",
    params: Mapping[str, float] = TRUTH,
    noise: float = 0.0005,
    shift: Mapping[str, float] | None = None,
    epochs: float = 0.4,
) -> pd.DataFrame:
    """The table that the sweep would leave if a law were true.

    noise: of the logarithm of each loss, beside as much of each seed's level; shift: nats by which
    the rows that an arm has to itself lie above the law.
    """
    told, asked = tiny
    plan = make_plan(asked, open_corpora(asked))
    random = np.random.default_rng(3)
    level = random.normal(0, noise, SEEDS)
    known: dict[tuple[int, int], float] = {}
    rows = []
    for run in plan.runs:
        rate = {run.arm: realise(asked.arms[run.arm].base)}
        for k in run.segments:
            segment = plan.segments[k]
            steps = [step for step in segment.stops if step > 0]
            if not steps:
                continue
            losses = law(name).predict(
                params, {"rates": Rates(rate, [run.arm] * len(steps), steps)}
            )
            more = (shift or {}).get(run.arm, 0.0) if len(segment.runs) == 1 else 0.0
            for step, loss in zip(steps, losses, strict=True):
                off = known.setdefault((k, step), float(random.normal(0, noise)))
                rows.append(
                    {
                        "arm": run.arm,
                        "seed": run.values["seed"],
                        "segment": segment.end_id[:12],
                        "step": step,
                        "corpus": told.corpus,
                        "status": "done",
                        "epochs": epochs,
                        "loss_nats": loss * np.exp(off + level[run.values["seed"]]) + more,
                    }
                )
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def table(tiny: Asked) -> pd.DataFrame:
    return made(tiny)


@pytest.fixture(scope="module")
def base(tiny: Asked, table: pd.DataFrame) -> Findings:
    return STUDY.read(table, *tiny)


def known(tiny: Asked, results: pd.DataFrame) -> Curves:
    told, asked = tiny
    return curves(results, told.corpus, {n: realise(grid.base) for n, grid in asked.arms.items()})


def missed(tiny: Asked, results: pd.DataFrame) -> pd.DataFrame:
    asked, data = question(*tiny), known(tiny, results)
    fits = unit_fits(data, asked.fitted, asked.laws, asked.after)
    return errors(data, fits, asked.fitted, asked.held, asked.after)


def judged(tiny: Asked, given: Mapping[str, Evidence]) -> dict[str, Verdict]:
    return {one.claim.name: one for one in judge(STUDY.claims(*tiny), given)}


def verdicts(tiny: Asked, results: pd.DataFrame) -> dict[str, Verdict]:
    """As `read` comes to them, without its tables, intervals of laws and figures."""
    table = missed(tiny, results)
    return judged(tiny, evidence(known(tiny, results), table, question(*tiny)))


def decided(found: Mapping[str, Verdict], decision: str) -> set[str]:
    return {name for name, one in found.items() if one.decision == decision}


def test_what_the_multi_power_law_makes_is_found(tiny: Asked, base: Findings) -> None:
    findings, found = base, judged(tiny, base.evidence)
    # under it a cool-down of any kind gains: more than a cosine, and at the low peak it costs
    assert decided(found, "refuted") == {"equal", "infinite", "low"}
    # annealing, its momentum held or free, misses WSD by .4 % to either side: near the margin
    assert decided(found, "supported") >= set(found) - {"equal", "infinite", "low", "wsd"}
    assert found["wsd"].low > -0.6
    assert found["wsd"].high < 0.6
    assert {one.units for one in found.values()} == {SEEDS}
    true = {name: _true_end(tiny, name) for name in tiny[1].arms}
    apart = findings.table("differences").set_index(["curve", "less"])
    for (one, other), row in apart.iterrows():
        assert row["nats"] == pytest.approx(true[one] - true[other], abs=0.003)
        assert row["nats low"] < true[one] - true[other] < row["nats high"]
    order = findings.table("ranking")["law"].tolist()
    assert order[2:] == ["annealing-free", "annealing"]
    best = next(one for one in findings.fits if one.law_name == "multi-power")
    assert best.residual_rms < 0.001  # of mean curves: the noise of a seed is .0025 nats
    for name in ("L0", "A", "alpha", "B"):
        assert best.params[name] == pytest.approx(TRUTH[name], rel=0.05)
    laws = findings.table("laws").set_index("law")
    assert "gamma not bounded below" in laws.loc["multi-power", "not_bounded"]


def _true_end(tiny: Asked, name: str) -> float:
    rate = realise(tiny[1].arms[name].base)
    places = Rates({name: rate}, [name], [len(rate)])
    return float(law("multi-power").predict(TRUTH, {"rates": places})[0])


def test_what_lies_off_the_law_is_refuted(tiny: Asked) -> None:
    gap = {name: _true_end(tiny, name) for name in ("wsd", "cosine", "infinite", "constant-low")}
    shift = {
        WSD: 0.05,
        REWARMED: 0.05,
        "cosine-long": 0.05,
        COSINE: 0.0,
        "infinite": gap["cosine"] - gap["infinite"],
        LOW_WSD: gap["constant-low"] - _true_end(tiny, LOW_WSD),
    }
    results = made(tiny, shift=shift)
    # rewarmed has the states of wsd up to its end: what only these two share is moved with both
    results.loc[_own_of_wsd(results), "loss_nats"] += 0.05
    found = verdicts(tiny, results)
    assert {"wsd", "longer", "rewarmed"} <= decided(found, "refuted")
    assert found["wsd"].high < 0  # every law says less than was measured
    assert {"infinite", "low", "equal"} <= decided(found, "supported")
    ends = missed(tiny, results).groupby(["curve", "law"])["end_error"].mean()
    assert ends["wsd", "multi-power"] == pytest.approx(-2.8, abs=0.3)


def _own_of_wsd(results: pd.DataFrame) -> pd.Series:
    others = results[~results["arm"].isin([WSD, REWARMED])]["segment"]
    mine = results[results["arm"] == WSD]["segment"]
    return results["segment"].isin(set(mine) - set(others))


def test_a_law_is_not_called_better_than_the_truth(tiny: Asked) -> None:
    truth = {"L0": 1.5, "A": 0.95, "alpha": 0.45, "C": 0.01}  # lam is .999
    results = made(tiny, "annealing", truth)
    found = verdicts(tiny, results)
    assert {"rank", "free", "pays"} <= decided(found, "refuted")
    assert {"wsd", "rewarmed"} <= decided(found, "supported")
    order = ranking(missed(tiny, results), RANKED)
    assert set(order["law"].iloc[:2]) == {"annealing", "annealing-free"}
    fits = unit_fits(known(tiny, results), FITTED, ["annealing-free"], 100)
    for one in fits.values():
        assert one.params["lam"] == pytest.approx(0.999, abs=0.0005)


def test_noise_leaves_it_undecided(tiny: Asked) -> None:
    found = verdicts(tiny, made(tiny, noise=0.02))
    assert decided(found, "undecided") >= set(found) - {"free", "rank"}


# Edges ---------------------------------------------------------------------------------------


def test_a_shared_state_is_fitted_once_and_never_held_out(tiny: Asked, table: pd.DataFrame) -> None:
    fits = unit_fits(known(tiny, table), FITTED, ["annealing"], 100)
    fitted = table[table["arm"].isin(FITTED) & (table["seed"] == 0) & (table["step"] >= 100)]
    states = fitted.drop_duplicates(["segment", "step"])
    assert fits["annealing", 0].points == len(states) < len(fitted)
    held = missed(tiny, table).query("unit == 0 and law == 'annealing'").set_index("curve")
    own = table[(table["seed"] == 0) & ~table["segment"].isin(set(fitted["segment"]))]
    for name in LATER:
        assert held.loc[name, "rows"] == (own[own["arm"] == name]["step"] >= 100).sum()


def test_before_the_later_arms_all_is_foretold_and_nothing_judged_of_them(
    tiny: Asked, table: pd.DataFrame, base: Findings
) -> None:
    assert STUDY.predict
    earlier = table[~table["arm"].isin(LATER)].reset_index(drop=True).assign(epochs=1.5)
    told = STUDY.predict(earlier, *tiny)
    assert len(told) == 2 * len(LAWS) * len(LATER)
    assert told.equals(STUDY.predict(table, *tiny))  # later arms are not read
    assert (told["low"] <= told["predicted"]).all()
    rows = told.set_index("name")
    for name in LATER:
        row = rows.loc[f"multi-power: last loss of {name}"]
        assert row["low"] < _true_end(tiny, name) < row["high"]
        assert row["predicted"] == pytest.approx(_true_end(tiny, name), abs=0.01)
    findings = STUDY.read(earlier, *tiny)
    found = judged(tiny, findings.evidence)
    assert decided(found, "undecided") == set(found)
    assert "no seed has wsd" in found["wsd"].why
    assert "a corpus was read 1.5 times" in found["low"].why
    assert "laws are not ranked" in findings.headline
    assert set(told["name"]) <= set(base.measured)
    for figure in [*findings.figures, *base.figures]:
        assert figure.render("png").startswith(b"\x89PNG")


def test_a_seed_without_a_whole_curve_is_left_out(tiny: Asked, table: pd.DataFrame) -> None:
    cut = table[~((table["arm"] == "cosine") & (table["seed"] == 1) & (table["step"] > 900))]
    ill = cut.assign(
        status=cut["status"].mask((cut["arm"] == WSD) & (cut["seed"] == 2), "diverged")
    )
    found = verdicts(tiny, ill)
    assert found["wsd"].units == SEEDS - 2
    assert found["rank"].units == SEEDS - 2
    assert found["longer"].units == SEEDS - 1
    assert found["low"].units == SEEDS
    losses = loss_table(known(tiny, ill)).set_index("curve")
    assert losses.loc["cosine", "seeds"] == SEEDS - 1
    with pytest.raises(Exception, match="no seed has all of the curves constant, cosine, two-st"):
        STUDY.read(table[table["arm"] != "cosine"], *tiny)
    with pytest.raises(Exception, match="the table lacks segment"):
        STUDY.read(table.drop(columns="segment"), *tiny)
    with pytest.raises(Exception, match="no loss on 'prose"):
        STUDY.read(table.assign(corpus="code"), *tiny)


# Run -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sweeps.cli import main

    out = tmp_path_factory.mktemp("lr_schedule") / "smoke"
    told = ["run", "lr_schedule", "--scale", "smoke", "--out", str(out), "--stack", "2", "--json"]
    assert main(told) == 0
    return out


def test_smoke_writes_verdicts_tables_and_figures(ran: Path) -> None:
    verdict = pd.read_csv(ran / "tables" / "verdicts.csv")
    assert verdict["claim"].tolist() == [one.name for one in STUDY.claims(*ask(STUDY, "smoke"))]
    names = {path.relative_to(ran).as_posix() for path in ran.rglob("*")}
    for one in ("ranking", "errors", "differences", "losses", "rewarming", "laws", "foretold"):
        assert f"tables/{one}.csv" in names
    for figure in ("schedules", "loss_curves", "law_curves", "law_errors"):
        assert {f"figures/{figure}.{end}" for end in ("svg", "pdf", "png", "csv")} <= names
    readings = json.loads((ran / "fit.json").read_text())["readings"]
    assert [row["rank"] for row in readings["ranking"]] == [1, 2, 3, 4]


def test_smoke_foretells_before_it_trains_the_later_arms(ran: Path) -> None:
    (line,) = (ran / "foretold.jsonl").read_text().splitlines()
    assert json.loads(line)["beforehand"] is True
    foretold = pd.read_csv(ran / "tables" / "foretold.csv")
    assert len(foretold) == 2 * len(LAWS) * len(LATER)
    assert foretold["measured"].notna().all()
    results = pd.read_parquet(ran / "results.parquet")
    assert (results["status"] == "done").all()
    last = results[
        (results["arm"] == RANKED[0])
        & (results["step"] == results["step"].where(results["arm"] == RANKED[0]).max())
    ]
    row = foretold.set_index("name").loc[f"annealing: last loss of {RANKED[0]}"]
    assert row["measured"] == pytest.approx(last["loss_nats"].mean())
