"""The study of order against decay: its plan, and its reading on losses that are known."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fits.order_findings import evidence
from fits.order_gain import effects, lines, order_ends
from fits.report import Findings
from fits.verdicts import Verdict, judge
from lab.errors import Refused
from sweeps.foresight import foresee
from sweeps.plan import make_plan
from sweeps.run import open_corpora
from sweeps.studies.curriculum_decay import EMA, END, SIDES, SMA, STATES, STUDY, _places
from sweeps.study import ask
from sweeps.sweep import Sweep

# Plan ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", ["smoke", "tiny"])
def test_end_rates_of_an_order_and_peak_share_their_trunk(scale: str) -> None:
    _, sweep = ask(STUDY, scale)
    plan = make_plan(sweep, open_corpora(sweep))
    plan.refuse_repeats()
    assert max(plan.most_epochs().values()) < 1
    grid = sweep.arms["ascending-high"]
    (phase,) = grid.base.phases
    begins = sum(stage.tokens or 0 for stage in phase.schedule[:1])
    held = phase.tokens - (phase.schedule[-1].tokens or 0)
    assert begins < held
    trunks = {
        run.path.state_id(grid.base.steps_in(held)) for run in plan.runs
        if run.arm == "ascending-high" and run.values["seed"] == 0
    }  # fmt: skip
    assert len(trunks) == 1
    # uniform order in one phase, and in two of which the last is sorted, part where that begins
    held_steps = grid.base.steps_in(held)
    one, two = (
        next(run for run in plan.runs if run.arm == arm) for arm in ("uniform-low", "last-low")
    )
    assert one.path.state_id(held_steps) == two.path.state_id(held_steps)
    assert one.path.state_id(held_steps + 1) != two.path.state_id(held_steps + 1)


@pytest.mark.parametrize("scale", STUDY.scales)
def test_averages_lie_within_the_stretch_over_which_the_rate_falls(scale: str) -> None:
    _, sweep = ask(STUDY, scale)
    for name, grid in sweep.arms.items():
        run = grid.base
        falls = run.phases[-1].schedule[-1].tokens
        assert falls is not None
        for steps in sweep.evaluate.averaged_steps(run).values():
            assert len(steps) == STATES
            assert steps[-1] == run.steps, name
            assert run.steps - steps[0] < run.steps_in(falls)


def test_what_is_believed_lies_within_the_plan_at_tiny() -> None:
    told, sweep = ask(STUDY, "tiny")
    assert STUDY.cautions(told, sweep) == []
    _, warnings = foresee(STUDY.foresees(told, sweep))
    assert warnings == []
    narrow = ask(STUDY, "tiny", ["rates=.05,.06", "low=.03", "high=.04"])
    assert any("grid's edge" in one for one in foresee(STUDY.foresees(*narrow))[1])


@pytest.mark.parametrize("scale", ["small", "paper"])
def test_scales_beyond_the_built_in_corpora_are_planned_and_not_run(scale: str) -> None:
    _, sweep = ask(STUDY, scale)
    plan = make_plan(sweep, open_corpora(sweep))
    with pytest.raises(Refused, match=r"would be read [\d,.]+ times \(at most 4\)"):
        plan.refuse_repeats()


def test_what_the_design_cannot_identify_is_said_or_refused() -> None:
    def said(*sets: str, axes: Any = ()) -> str:
        return "; ".join(STUDY.cautions(*ask(STUDY, "tiny", sets, axes)))

    assert "one seed, so no interval over seeds: map-" in said(axes=["seed=0"])
    assert "3 end rates: the law of the gain is ranked from 5 on" in said("ends=1,.1,0")
    assert "3 peaks: where decay begins to pay is hardly found" in said("rates=.03125")
    with pytest.raises(Refused, match=r"^axis batch: curriculum_decay reads only the axes seed"):
        said(axes=["batch=32,64"])
    with pytest.raises(Refused, match=r"^ends = .*with both 0 and 1"):
        said("ends=1,.5")
    with pytest.raises(Refused, match=r"^low = 0\.1, high = 0\.015625: must be positive, and low"):
        said("low=.1")
    with pytest.raises(Refused, match=r"^share = 1\.0: must lie between 0 and 1"):
        said("share=1")


# Read ----------------------------------------------------------------------------------------

PAYS_FROM = -8.6  # log2 of the peak


def gain_of(end: float) -> float:
    return 0.02 + 0.08 * end**0.5


def none_of(end: float) -> float:
    return 0.0


def made(
    asked: Sweep,
    gain: Callable[[float], float] = gain_of,
    averaged: tuple[float, float] = (0.01, 0.05),
    last: float = 0.0,
    noise: float = 0.002,
    epochs: float = 0.4,
    draw: int = 3,
    diverged: Callable[[str, int, float], bool] = lambda arm, seed, end: False,
) -> pd.DataFrame:
    """The table that a sweep would leave. Averaging lowers the loss of uniform and of ascending
    order by `averaged`; decay pays in proportion to the distance of the peak from the line."""
    random = np.random.default_rng(draw)
    rows = []
    for arm, grid in asked.arms.items():
        order = arm.split("-")[0]
        for values, run in grid.points():
            seed, end_lr = values["seed"], values[END]
            peak = max(stage.to_lr or 0.0 for stage in run.phases[0].schedule)
            end = round(end_lr / peak, 9)
            loss = 2.0 + 0.05 * seed + 0.02 * (math.log2(peak) - PAYS_FROM) * end
            loss -= {"ascending": gain(end), "last": last}.get(order, 0.0)
            ill = diverged(arm, seed, end)
            for average in ("", EMA, SMA):
                if average and ill:
                    continue
                for corpus in asked.evaluate.corpora:
                    lower = averaged[order == "ascending"] if average == EMA else 0.0
                    rows.append(
                        {
                            "arm": arm,
                            "run": f"{arm}-{seed}-{end}",
                            "seed": seed,
                            "pretrain_end_lr": end_lr,
                            "status": "diverged" if ill else "done",
                            "step": run.steps // 2 if ill else run.steps,
                            "corpus": corpus,
                            "epochs": epochs if corpus.startswith("damaged") else 0.0,
                            "average": average,
                            "loss_nats": loss - lower + noise * random.normal(),
                        }
                    )
    return pd.DataFrame(rows)


def read(tiny: tuple[Any, Sweep], results: pd.DataFrame) -> tuple[Findings, dict[str, Verdict]]:
    findings = STUDY.read(results, *tiny)
    found = judge(STUDY.claims(*tiny), findings.evidence)
    return findings, {one.claim.name: one for one in found}


@pytest.fixture(scope="module")
def tiny() -> tuple[Any, Sweep]:
    return ask(STUDY, "tiny")


def test_a_gain_that_shrinks_is_found_with_its_law_and_the_line(tiny: tuple[Any, Sweep]) -> None:
    findings, found = read(tiny, made(tiny[1], noise=0.0005))
    for side in SIDES:
        for name in ("shrinks", "averaging", "instead", "last"):
            assert found[f"{name}_{side}"].decision == "supported", (name, side)
        assert found[f"shrinks_{side}"].effect == pytest.approx(0.08, abs=0.005)
        assert found[f"averaging_{side}"].effect == pytest.approx(0.04, abs=0.005)
        assert found[f"last_{side}"].effect == pytest.approx(0.0, abs=0.005)
    # where decay pays, uniform order is best decayed to 0, and ascending order at (.04 / .052)^2
    assert found["best_end_high"].decision == "supported"
    assert found["best_end_high"].effect == pytest.approx((0.04 / 0.052) ** 2, abs=0.05)
    # where it does not, a constant rate is best for both at every seed: a sign test of six
    assert found["best_end_low"].decision != "supported"
    assert found["best_end_low"].effect == 0.0
    table = findings.table("gains").set_index(["side", "order", "shape", "end_ratio"])["gain"]
    for end in tiny[0].ends:
        assert table["low", "ascending", "1-sqrt", end] == pytest.approx(gain_of(end), abs=0.005)
    for one in findings.fits:
        assert one.law.name == "order-gain"
        assert one.params["s"] == pytest.approx(0.5, abs=0.15)
        assert one.params["g1"] == pytest.approx(0.08, abs=0.01)
    laws = findings.table("laws")
    assert set(laws["law"]) == {
        "order-gain", "order-gain-linear", "order-gain-saturating", "order-gain-log"
    }  # fmt: skip
    linear = laws[laws["law"] == "order-gain-linear"].set_index("side")
    assert (linear["rank"] == 4).all()
    inside = list(findings.readings["line_log2_peak"].values())
    assert np.mean(inside) == pytest.approx(PAYS_FROM, abs=0.1)
    assert "gains 0.10" in findings.headline
    for figure in findings.figures:
        assert figure.render("png").startswith(b"\x89PNG")


def test_an_order_that_does_nothing_refutes(tiny: tuple[Any, Sweep]) -> None:
    _, found = read(tiny, made(tiny[1], gain=none_of, averaged=(0.03, 0.0), last=0.05))
    for side in SIDES:
        for name in ("shrinks", "averaging", "last"):
            assert found[f"{name}_{side}"].decision == "refuted", (name, side)
    assert found["best_end_high"].decision == "refuted"
    assert abs(found["best_end_high"].effect) < 0.03  # the neighbours of 0 are as good
    assert found["instead_high"].decision == "refuted"
    # where decay costs, a constant rate beats it in any order
    assert found["instead_low"].decision == "supported"


def test_noise_leaves_it_open_but_for_one_study_in_twenty(tiny: tuple[Any, Sweep]) -> None:
    wrong = 0
    for draw in range(40):
        results = made(tiny[1], gain=none_of, averaged=(0.0, 0.0), noise=0.1, draw=draw)
        ends = order_ends(results, _places(*tiny), "prose")
        found = {side: effects(ends, side, "1-sqrt", EMA) for side in SIDES}
        verdicts = judge(STUDY.claims(*tiny), evidence(found, 0.4))
        false = [one for one in verdicts if one.decision == "supported"]
        # true of these losses: sorting the last stretch does nothing; low, a constant rate is best
        wrong += any(
            one.claim.name not in ("last_low", "last_high", "instead_low") for one in false
        )
    assert wrong <= 5  # 2 expected at most; more than 5 has a chance of 1.5 %


def test_text_that_was_read_twice_gives_no_verdict(tiny: tuple[Any, Sweep]) -> None:
    _, found = read(tiny, made(tiny[1], epochs=1.5))
    assert {one.decision for one in found.values()} == {"undecided"}
    assert "read 1.5 times" in found["shrinks_low"].why


def test_a_seed_that_diverged_takes_no_part(tiny: tuple[Any, Sweep]) -> None:
    def ill(arm: str, seed: int, end: float) -> bool:
        return (arm, seed, end) == ("ascending-high", 2, 1.0)

    findings, found = read(tiny, made(tiny[1], diverged=ill))
    assert found["shrinks_high"].units == 5
    assert found["shrinks_low"].units == 6
    losses = findings.table("losses").set_index(["side", "order", "shape", "end_ratio", "average"])
    assert losses.loc[("high", "ascending", "1-sqrt", 1.0, ""), "diverged"] == 1


def test_a_peak_on_the_wrong_side_of_the_line_is_said() -> None:
    told = ask(STUDY, "tiny", ["low=.0078125"])
    findings, _ = read(told, made(told[1]))
    assert any("not shown to lie on the low side" in note for note in findings.notes)
    beyond = ask(STUDY, "tiny", ["rates=.125,.0625", "low=.0078125"])
    findings, _ = read(beyond, made(beyond[1]))
    assert any("beyond the peaks of the map for 6 of 6 seeds (6 below" in n for n in findings.notes)


def test_the_line_is_read_between_peaks() -> None:
    peaks = [2.0**-9, 2.0**-8, 2.0**-7, 2.0**-6]
    rows = {0: [-0.3, -0.1, 0.1, 0.2], 1: [0.1] * 4, 2: [-0.1] * 4, 3: [0.1, -0.1, 0.3, 0.3]}
    pays = pd.DataFrame(
        [
            {"peak": p, "unit": u, "pays_nats": y}
            for u, ys in rows.items()
            for p, y in zip(peaks, ys, strict=True)
        ]
    )
    found = lines(pays)
    assert found[0] == pytest.approx(-7.5)
    assert (found[1], found[2]) == (-math.inf, math.inf)
    assert found[3] == pytest.approx(-7.75)  # from where on it pays at every peak


def test_a_table_of_something_else_is_refused(tiny: tuple[Any, Sweep]) -> None:
    results = made(tiny[1])
    with pytest.raises(Exception, match="the table lacks average"):
        STUDY.read(results.drop(columns="average"), *tiny)
    with pytest.raises(Exception, match="no finished run evaluated on 'prose'"):
        STUDY.read(results.assign(status="incomplete"), *tiny)


# Run -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sweeps.cli import main

    out = tmp_path_factory.mktemp("curriculum_decay") / "smoke"
    told = ["run", "curriculum_decay", "--scale", "smoke", "--out", str(out), "--stack", "2"]
    assert main([*told, "--json"]) == 0
    return out


def test_smoke_writes_verdicts_tables_and_figures(ran: Path) -> None:
    verdict = pd.read_csv(ran / "tables" / "verdicts.csv")
    assert verdict["claim"].tolist() == [one.name for one in STUDY.claims(*ask(STUDY, "smoke"))]
    assert set(verdict["verdict"]) <= {"supported", "refuted", "undecided"}
    names = {path.relative_to(ran).as_posix() for path in ran.rglob("*")}
    for table in ("gains", "best_ends", "averages", "where_decay_pays", "losses"):
        assert f"tables/{table}.csv" in names
    for figure in ("interaction", "gain", "where_decay_pays"):
        assert {f"figures/{figure}.{end}" for end in ("svg", "pdf", "png", "csv")} <= names
    gains = json.loads((ran / "fit.json").read_text())["readings"]["gains"]
    orders = {"ascending", "descending", "folded", "compression", "perplexity", "last"}
    assert {row["order"] for row in gains} == orders


def test_smoke_has_states_and_averages_of_every_run(ran: Path) -> None:
    results = pd.read_parquet(ran / "results.parquet")
    assert (results["status"] == "done").all()
    ends = results[(results["average"] != "") & (results["corpus"] == "prose")]
    assert set(ends["average"]) == {EMA, SMA}
    per_run = ends.groupby(["arm", "seed", "pretrain_end_lr"]).size()
    assert set(per_run) == {2}
    assert len(per_run) == len(results.groupby(["arm", "seed", "pretrain_end_lr"]))
