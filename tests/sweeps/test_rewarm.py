"""The study of re-warming: its cells, and its reading on losses of known effects."""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fits.errors import Refused as TooLittle
from fits.laws.cpt import CPT_DYNAMICS
from fits.rates import Rates
from fits.report import Findings
from fits.rewarm_arms import (
    ADDITIVE,
    CONSTANT,
    EARLY,
    LENGTHS,
    LITERAL,
    OF_LAW,
    PEAKS,
    REPLAYED,
    REPLAYS,
    RESET,
    SAME,
    SAME_CONSTANT,
    SCRATCH,
    SHIFTS,
    STRONG,
    UNSEEN,
    WEAK,
    replayed,
    union,
)
from fits.rewarm_law import came
from fits.verdicts import judge
from lab.errors import Refused
from lab.schedule import realise
from sweeps.foresight import foresee
from sweeps.plan import make_plan
from sweeps.rewarm_runs import END, UNSEEN_LENGTH, UNSEEN_PEAK
from sweeps.run import open_corpora
from sweeps.studies.rewarm import STUDY, measured, predict
from sweeps.study import ask
from sweeps.sweep import Sweep

# Plan ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", STUDY.scales)
def test_arms_change_one_thing_about_the_base_cell(scale: str) -> None:
    _, sweep = ask(STUDY, scale)
    runs = {name: grid.base for name, grid in sweep.arms.items()}
    trunk, base = runs[STRONG].phases
    peak, steps = trunk.schedule[0].to_lr, runs[STRONG].phase_steps()[1]
    assert peak is not None
    for run in runs.values():
        assert run.model == runs[STRONG].model
        assert run.optimizer == runs[STRONG].optimizer
        if len(run.phases) == 2 and run is not runs[EARLY]:
            assert run.phases[0] == trunk
    rate = {name: realise(run) for name, run in runs.items()}
    begun = runs[STRONG].phase_steps()[0]
    assert rate[STRONG][begun - 1] == pytest.approx(END * peak)
    assert rate[STRONG][-1] == pytest.approx(END * peak)
    for share, name in LENGTHS.items():
        assert int(np.argmax(rate[name][begun:])) == max(1, round(share * steps)) - 1
        assert dataclasses.replace(runs[name].phases[1], schedule=base.schedule) == base
    for times, name in PEAKS.items():
        assert rate[name][begun:].max() == pytest.approx(times * peak)
    assert set(rate[CONSTANT][begun:]) == {np.float32(END * peak)}
    assert dataclasses.replace(runs[RESET].phases[1], reset_optimizer=False) == base
    early = runs[EARLY].phase_steps()[0]
    np.testing.assert_array_equal(rate[EARLY][:early], rate[STRONG][:early])
    assert runs[EARLY].phases[1] == base
    for shift in SHIFTS:
        for share in REPLAYS:
            new, old = runs[replayed(shift, share)].phases[1].mixture
            assert (new.weight, old.weight) == (1 - share, share)
            assert new.corpus == runs[shift].phases[1].mixture[0].corpus
    unseen = runs[replayed(STRONG, REPLAYED)].phases[1]
    assert dataclasses.replace(runs[LITERAL].phases[1], reread=()) == unseen
    added = runs[ADDITIVE].phases[1]
    assert added.tokens * added.mixture[0].weight == pytest.approx(base.tokens)
    assert added.mixture[1].weight == pytest.approx(REPLAYED, abs=0.01)
    assert runs[SCRATCH].steps == steps
    for shift in SHIFTS:
        assert runs[union(shift)].steps == begun + steps
    rise = round(UNSEEN_LENGTH * steps)
    assert rate[UNSEEN][begun:].max() == pytest.approx(UNSEEN_PEAK * peak)
    assert int(np.argmax(rate[UNSEEN][begun:])) == max(1, rise) - 1
    assert UNSEEN_PEAK not in PEAKS
    assert UNSEEN_LENGTH not in LENGTHS
    assert UNSEEN not in OF_LAW


@pytest.mark.parametrize("scale", ["smoke", "tiny"])
def test_the_trunk_is_trained_once_and_no_text_is_read_twice(scale: str) -> None:
    told, sweep = ask(STUDY, scale)
    plan = make_plan(sweep, open_corpora(sweep))
    plan.refuse_repeats()
    assert max(plan.most_epochs().values()) < 1
    first = {run.segments[0] for run in plan.runs if len(run.path.run.phases) == 2}
    seeds = len(sweep.arms[STRONG].axes["seed"])
    assert len(first) == seeds  # the earlier state and the whole trunk begin alike
    said = STUDY.cautions(told, sweep)
    assert (said == []) == (scale == "tiny")
    if said:
        assert said == [
            "of equal length in whole steps, so one run: length-0, length-0.5, strong, length-2"
        ]


def test_literal_replay_reads_the_trunks_own_windows() -> None:
    from lab.mixture import Stream

    _, sweep = ask(STUDY, "smoke")
    plan = make_plan(sweep, open_corpora(sweep))
    digest = plan.corpora["code"].digest
    seen: dict[str, Any] = {}
    for name in (LITERAL, replayed(STRONG, REPLAYED)):
        path = next(run.path for run in plan.runs if run.arm == name)
        begun = path.run.phase_steps()[0]
        stream = Stream(path, plan.by_digest)
        digests, which, window = stream.window_indices(0, path.steps)
        code = which == digests.index(digest)
        trunk = window[:begun][code[:begun]].tolist()
        again = window[begun:][code[begun:]].tolist()
        assert again
        seen[name] = again == trunk[: len(again)], not set(again) & set(trunk)
    assert seen == {LITERAL: (True, False), replayed(STRONG, REPLAYED): (False, True)}


def test_what_the_design_cannot_identify_is_said_or_refused() -> None:
    told, sweep = ask(STUDY, "tiny", axes=["seed=0"])
    assert STUDY.cautions(told, sweep)[0].startswith("one trunk seed, so no verdict: strong, ")
    with pytest.raises(Refused, match=r"^axis batch: rewarm reads only the axis seed"):
        STUDY.cautions(*ask(STUDY, "tiny", axes=["batch=32,64"]))
    with pytest.raises(Refused, match=r"^general, weak, strong = prose, docs, prose: must differ"):
        ask(STUDY, "tiny", ["general=prose"])


def test_the_law_is_foreseen_at_the_states_it_will_be_fitted_to(
    tiny: tuple[Any, Sweep],
) -> None:
    rows, said = foresee(STUDY.foresees(*tiny))
    fitted = made(tiny[1])
    m = measured(fitted, *tiny)
    one = m.law_rows("prose", OF_LAW).drop_duplicates(["curve", "step"])
    assert [row["points"] for row in rows] == [len(one)] * 2
    assert all(row["identified"] for row in rows)
    assert said == [
        "loss on the old text: cpt-dynamics-product from 209 points will hardly bound alpha "
        "(prior: one probe at scale tiny)"
    ]
    narrow = rows[1]["params"]["B_beta"]  # and of the new text, where less scatters, B beta
    assert narrow["high"] - narrow["low"] < 0.3 * abs(narrow["value"])


def test_every_claim_has_its_arms_and_seeds_enough() -> None:
    from sweeps.claims import stated, undecidable

    told, sweep = ask(STUDY, "tiny")
    rows = stated(STUDY.claims(told, sweep), sweep)
    assert len(rows) == 21
    assert {row["statement"][:2] for row in rows} >= {f"T{k}" for k in range(1, 10)}
    assert undecidable(rows) == []


# Read ----------------------------------------------------------------------------------------

OLD = {"L0": 1.0, "A": 0.9, "alpha": 0.5, "C1": 0.1, "C2": 0.05, "B": 2.4, "E": 5.0, "beta": 0.4}
NEW = {"L0": 2.0, "A": 1.1, "alpha": 0.5, "C1": 0.1, "C2": 0.02, "B": -1.2, "E": 8.0, "beta": 0.3}
SEEDS = 6

STRONG_SPARED, WEAK_SPARED = (-1.0, -1.05, -1.1, -1.2, -1.25), (-0.5, -0.55, -0.6, -0.6, -0.65)
# (arm, text) -> nats that its curve ends above the base cell's: what the statements say
STATED: dict[tuple[str, str], float] = {
    ("literal", "old"): -1.2,
    ("additive", "old"): -1.2,
    ("scratch", "new"): 0.3,
    ("union-strong", "old"): -1.2,
    ("union-weak", "old"): -0.55,
    **{(replayed(STRONG, r), "old"): d for r, d in zip(REPLAYS, STRONG_SPARED, strict=True)},
    **{(replayed(WEAK, r), "old"): d for r, d in zip(REPLAYS, WEAK_SPARED, strict=True)},
}  # fmt: skip
# on the trunk's own text: how high the loss rises on the way
HEIGHT = {SAME_CONSTANT: 0.0, SAME[0.5]: 0.05, SAME[1.0]: 0.12, SAME[2.0]: 0.25}


def made(
    sweep: Sweep,
    bumps: Mapping[tuple[str, str], float] = STATED,
    height: Mapping[str, float] = HEIGHT,
    spike: float = 0.2,
    noise: float = 0.002,
    epochs: float = 0.4,
    draw: int = 3,
) -> pd.DataFrame:
    """The table that a sweep would leave if the law held, and arms beside it ended `bumps` away.

    spike: nats of the old text's peak without a rewarm, early in the continuation.
    """
    random = np.random.default_rng(draw)
    rows = []
    for seed in range(SEEDS):
        of_trunk = {"old": 0.02 * random.normal(), "new": 0.02 * random.normal()}
        for arm, grid in sweep.arms.items():
            run = grid.base
            steps = sweep.evaluate.steps(run)[1:]
            rate, begun = realise(run), run.phase_steps()[0] if len(run.phases) == 2 else 0
            transfer = float(begun or run.steps)
            x = {"rates": Rates({"": rate}, [""] * len(steps), steps),
                 "transfer_step": np.full(len(steps), transfer)}  # fmt: skip
            share = np.clip((np.array(steps) - begun) / (run.steps - begun), 0.0, None)
            for what, corpus, params in (("old", "code", OLD), ("new", "prose", NEW),
                                         ("new", "docs", NEW)):  # fmt: skip
                if arm in HEIGHT:
                    loss = CPT_DYNAMICS.predict({**params, "B": 0.0, "C2": 0.0}, x)
                    way = np.where(share > 0, 4 * share * (1 - share), 0.0)
                    loss = loss + (height[arm] * way if what == "old" else 0.0)
                elif begun == 0:  # ends where the base cell does, but for its bump
                    loss = np.full(len(steps), _base_end(sweep, params))
                else:
                    loss = CPT_DYNAMICS.predict(params, x)
                if arm == ADDITIVE:  # longer, and no better for it
                    loss = loss + share * (_base_end(sweep, params) - loss[-1])
                loss = loss + bumps.get((arm, what), 0.0) * share
                if arm == LENGTHS[0.0] and what == "old":
                    loss = loss + np.where((share > 0) & (share <= 0.05), spike, 0.0)
                loss = loss + of_trunk[what] + noise * random.normal(size=len(steps)) * (share > 0)
                for step, value in zip(steps, loss, strict=True):
                    phase, inside = run.phase_of(step)
                    rows.append((arm, f"{arm}/{seed}", seed, "done", phase.name, step, inside,
                                 corpus, float(value), epochs))  # fmt: skip
    columns = ["arm", "run", "seed", "status", "phase", "step", "step_in_phase", "corpus",
               "loss_nats", "epochs"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


def _base_end(sweep: Sweep, params: dict[str, float], before: bool = False) -> float:
    """The law at the end of the base cell, or of its trunk."""
    run = sweep.arms[STRONG].base
    begun = run.phase_steps()[0]
    x = {"rates": Rates({"": realise(run)}, [""], [begun if before else run.steps]),
         "transfer_step": np.array([float(begun)])}  # fmt: skip
    return float(CPT_DYNAMICS.predict(params, x)[0])


@pytest.fixture(scope="module")
def tiny() -> tuple[Any, Sweep]:
    return ask(STUDY, "tiny", axes=[f"seed={','.join(map(str, range(SEEDS)))}"])


def read(tiny: tuple[Any, Sweep], table: pd.DataFrame) -> tuple[Findings, dict[str, Any]]:
    findings = STUDY.read(table, *tiny)
    found = judge(STUDY.claims(*tiny), findings.evidence)
    return findings, {one.claim.name: one for one in found}


@pytest.fixture(scope="module")
def stated(tiny: tuple[Any, Sweep]) -> tuple[Findings, dict[str, Any]]:
    return read(tiny, made(tiny[1]))


def test_where_the_statements_hold_they_are_supported(
    tiny: tuple[Any, Sweep], stated: tuple[Findings, dict[str, Any]]
) -> None:
    findings, found = stated
    assert {name: one.decision for name, one in found.items()} == dict.fromkeys(found, "supported")
    assert found["trunk_beats_scratch"].effect == pytest.approx(0.3, abs=0.01)
    assert found["earlier_is_no_better"].effect > 0.05
    # of what is forgotten by the law, replay of 1 % spares one nat in the strong shift
    forgotten = _base_end(tiny[1], OLD) - _base_end(tiny[1], OLD, before=True)
    replay = findings.table("replay").set_index(["shift", "replay"])
    spared = replay.loc[(STRONG, 0.01), "forgetting removed"]
    assert spared == pytest.approx(1 / forgotten, abs=0.01)
    assert found["one_percent_replay"].effect == pytest.approx(spared - 0.5, abs=1e-9)
    assert findings.headline == (
        f"Strong shift (prose): {forgotten:.2f} nats of code forgotten, {1 / forgotten:.0%} of it "
        f"spared by 1 % replay; weak shift (docs): {forgotten:.2f} nats of code forgotten, "
        f"{0.5 / forgotten:.0%} of it spared by 1 % replay."
    )


def test_where_the_opposite_holds_they_are_refuted(tiny: tuple[Any, Sweep]) -> None:
    opposite = {
        (LENGTHS[0.0], "new"): 0.1,
        (PEAKS[2.0], "new"): 0.5,
        (PEAKS[2.0], "old"): -1.0,
        (CONSTANT, "old"): 2.0,
        (CONSTANT, "new"): -1.5,
        (replayed(STRONG, 0.05), "new"): 0.1,
        (replayed(WEAK, 0.05), "old"): 0.4,
        (union(STRONG), "old"): 0.2,
        (SCRATCH, "new"): -0.3,
        (EARLY, "new"): -0.3,
        (RESET, "new"): 0.1,
        (LITERAL, "old"): 0.2,
        (ADDITIVE, "new"): 0.1,
    }
    flat = {SAME_CONSTANT: 0.2, SAME[0.5]: 0.2, SAME[1.0]: 0.15, SAME[2.0]: 0.1}
    table = made(tiny[1], opposite, flat, spike=-0.2)
    bent = table["arm"].isin([UNSEEN]) & (table["step_in_phase"] > 0)
    table.loc[bent & (table["phase"] == "cpt"), "loss_nats"] += 0.4
    _, found = read(tiny, table)
    assert {name: one.decision for name, one in found.items()} == dict.fromkeys(found, "refuted")
    assert found["trunk_beats_scratch"].effect == pytest.approx(-0.3, abs=0.01)
    assert found["reset_does_not_matter"].effect == pytest.approx(0.1, abs=0.01)
    assert found["literal_replay_serves"].effect == pytest.approx(0.2, abs=0.01)


def test_noise_or_a_text_read_twice_leaves_them_undecided(tiny: tuple[Any, Sweep]) -> None:
    _, found = read(tiny, made(tiny[1], noise=1.0))
    assert {one.decision for one in found.values()} == {"undecided"}
    _, found = read(tiny, made(tiny[1], epochs=1.5))
    decided = {name for name, one in found.items() if one.decision != "undecided"}
    assert decided == {"literal_replay_serves"}  # whose question is repetition


# The law -------------------------------------------------------------------------------------


def test_the_law_is_recovered_and_its_product_with_it(
    stated: tuple[Findings, dict[str, Any]],
) -> None:
    findings, _ = stated
    table = findings.table("law").set_index(["text", "parameter"])
    for what, truth in (("old text", OLD), ("new text", NEW)):
        product = table.loc[(what, "B beta")]
        assert product["value"] == pytest.approx(truth["B"] * truth["beta"], rel=0.25)
        assert product["low"] < product["value"] < product["high"]
        assert table.loc[(what, "C2"), "value"] == pytest.approx(truth["C2"], rel=0.2)
        assert table.loc[(what, "alpha"), "error at ends"] < 0.03
    assert [fit.law_name for fit in findings.fits] == ["cpt-dynamics-product"] * 2


@pytest.mark.parametrize("draw", range(3))
def test_an_unseen_rewarm_is_foretold_before_it_is_there(
    tiny: tuple[Any, Sweep], draw: int
) -> None:
    told, sweep = tiny
    kept = {name: grid for name, grid in sweep.arms.items() if name in (*OF_LAW, UNSEEN)}
    table = made(dataclasses.replace(sweep, arms=kept), draw=draw)
    earlier = table[table["arm"] != UNSEEN]
    said = predict(earlier, told, sweep).set_index("name")
    assert said.index.tolist() == [
        f"{what} text after an unseen rewarm, {how}"
        for what in ("old", "new")
        for how in ("cpt-dynamics", "as the others")
    ]
    m = measured(table, told, sweep)
    for what, ends in (("old", m.old(UNSEEN)), ("new", m.new(UNSEEN))):
        row = said.loc[f"{what} text after an unseen rewarm, cpt-dynamics"]
        mean = float(np.mean([*ends.values()]))
        assert row["predicted"] == pytest.approx(mean, abs=0.005)
        assert row["low"] <= mean <= row["high"]  # so were 44 of 48 (24 draws, two texts)
        # far narrower than what is known without a law
        other = said.loc[f"{what} text after an unseen rewarm, as the others"]
        assert row["high"] - row["low"] < 0.1 * (other["high"] - other["low"])
    assert came(measured(earlier, told, sweep)) == {}
    assert set(came(m)) == set(said.index)


def test_without_an_arm_the_law_is_not_fitted_and_it_is_said(tiny: tuple[Any, Sweep]) -> None:
    table = made(tiny[1])
    lacking = table[table["arm"] != EARLY]
    with pytest.raises(TooLittle, match="the law needs all arms of its shift; not there: early"):
        predict(lacking, *tiny)
    findings, found = read(tiny, lacking)
    assert "No law of the loss curves: the law needs all arms" in findings.notes[-1]
    assert found["law_predicts_new"].decision == "undecided"
    assert found["earlier_is_no_better"].why == "no seed has both arms"
    for figure in findings.figures:
        assert figure.render("png").startswith(b"\x89PNG")


def test_a_table_of_something_else_is_refused(tiny: tuple[Any, Sweep]) -> None:
    table = made(tiny[1])
    with pytest.raises(TooLittle, match="the table lacks step_in_phase"):
        STUDY.read(table.drop(columns="step_in_phase"), *tiny)
    with pytest.raises(TooLittle, match="the table has no finished run"):
        STUDY.read(table.assign(status="incomplete"), *tiny)
    with pytest.raises(TooLittle, match=r"no run of the base cell \(strong\) has ended"):
        STUDY.read(table[table["arm"] != STRONG], *tiny)


# Run -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sweeps.cli import main

    out = tmp_path_factory.mktemp("rewarm") / "smoke"
    told = ["run", "rewarm", "--scale", "smoke", "--out", str(out), "--stack", "2", "--json"]
    assert main(told) == 0
    return out


def test_smoke_writes_verdicts_predictions_tables_and_figures(ran: Path) -> None:
    verdict = pd.read_csv(ran / "tables" / "verdicts.csv")
    assert verdict["claim"].tolist() == [one.name for one in STUDY.claims(*ask(STUDY, "smoke"))]
    assert set(verdict["verdict"]) <= {"supported", "refuted", "undecided"}
    lines = (ran / "foretold.jsonl").read_text().splitlines()
    assert [json.loads(line)["beforehand"] for line in lines] == [True]
    foretold = pd.read_csv(ran / "tables" / "foretold.csv")
    assert foretold["measured"].notna().all()
    names = {path.relative_to(ran).as_posix() for path in ran.rglob("*")}
    for table in ("arms", "replay", "law"):
        assert f"tables/{table}.csv" in names
    for figure in ("losses_by_rewarm", "replay", "law"):
        assert {f"figures/{figure}.{end}" for end in ("svg", "pdf", "png", "csv")} <= names
    readings = json.loads((ran / "fit.json").read_text())["readings"]
    assert {row["arm"] for row in readings["arms"]} == set(ask(STUDY, "smoke")[1].arms)


def test_smoke_already_shows_that_a_higher_peak_learns_and_forgets_more(ran: Path) -> None:
    arms = pd.read_csv(ran / "tables" / "arms.csv").set_index("arm")
    by_peak = [CONSTANT, *(PEAKS[peak] for peak in sorted(PEAKS))]
    assert arms.loc[by_peak, "new text"].is_monotonic_decreasing
    assert arms.loc[by_peak, "old text"].is_monotonic_increasing
    replay = pd.read_csv(ran / "tables" / "replay.csv").set_index(["shift", "replay"])["old text"]
    assert replay[STRONG, 0.5] < replay[STRONG, 0.0]
    assert math.isfinite(replay[WEAK, 0.25])
