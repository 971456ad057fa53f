"""The study of the stability gap: its arms, and its reading on curves of known dips."""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fits.dip_arms import ALL, BEST, CLEAN, MIXED, PLAIN, SAME, SUBSET, SUBSET_BEST
from fits.errors import Refused as TooLittle
from fits.report import Findings
from fits.verdicts import judge
from lab.errors import Refused
from lab.mixture import Stream
from lab.schedule import realise
from sweeps.plan import make_plan
from sweeps.run import open_corpora
from sweeps.studies.stability_gap import STUDY, measured, predict
from sweeps.study import ask
from sweeps.sweep import Sweep

SHORT = ["general=prose", "domain=docs"]  # the domain that takes least time to score

# Plan ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", STUDY.scales)
def test_arms_differ_in_what_they_read_alone(scale: str) -> None:
    told, sweep = ask(STUDY, scale)
    runs = {name: grid.base for name, grid in sweep.arms.items()}
    rate = realise(runs[PLAIN])
    begun = runs[PLAIN].phase_steps()[0]
    peak = float(rate.max())
    assert rate[begun - 1] == pytest.approx(0.1 * peak)
    falls = runs[PLAIN].steps - runs[PLAIN].phase_steps()[-1]
    assert rate[begun:].max() == pytest.approx(told.rate * peak)
    assert rate[falls - 1] == pytest.approx(told.rate * peak)
    assert rate[-1] == pytest.approx(0.1 * told.rate * peak)
    for name, run in runs.items():
        np.testing.assert_array_equal(realise(run), rate)
        assert run.phases[0] == runs[PLAIN].phases[0]
        assert sweep.evaluate.steps(run) == sweep.evaluate.steps(runs[PLAIN])
        again = [phase.reread for phase in run.phases[2:]]
        text = run.phases[1].mixture[0].corpus
        assert again == [(text,) if name in (SUBSET, SUBSET_BEST, ALL) else ()] * (told.passes - 1)
        shares = {phase.mixture for phase in run.phases[1:]}
        assert len(shares) == 1
        general = {one.corpus: one.weight for one in shares.pop()}.get(told.general, 0.0)
        assert general == {MIXED: told.replay, ALL: told.replay, SAME: 1.0}.get(name, 0.0)
        assert text.startswith("best-damaged-") == (name in (BEST, SUBSET_BEST, ALL))
        assert text.startswith("damaged-") == (name in (PLAIN, SUBSET, MIXED))
    assert runs[CLEAN].phases[1].mixture[0].corpus == told.domain


def test_a_repeated_arm_reads_the_windows_of_its_first_pass_again() -> None:
    _, sweep = ask(STUDY, "smoke")
    plan = make_plan(sweep, open_corpora(sweep))
    plan.refuse_repeats()
    assert max(plan.most_epochs().values()) < 1
    read: dict[str, list[Any]] = {}
    for name in (PLAIN, SUBSET, ALL):
        path = next(run.path for run in plan.runs if run.arm == name)
        trunk, *passes = path.run.phase_steps()
        stream = Stream(path, plan.by_digest)
        text = path.run.phases[1].mixture[0].corpus
        mine = plan.corpora[text].digest
        read[name] = []
        for k, steps in enumerate(passes):
            digests, which, window = stream.window_indices(trunk + sum(passes[:k]), steps)
            read[name].append(window[which == digests.index(mine)].tolist())
            if name == ALL:  # its general text is new in every pass
                old = window[which != digests.index(mine)].tolist()
                assert not set(old) & set(read.setdefault("general", []))
                read["general"] += old
    first, second = read[PLAIN]
    assert not set(first) & set(second)
    assert read[SUBSET] == [first, first]
    assert read[ALL][0] == read[ALL][1]
    # so the two runs are one until the first pass ends
    both = [next(run for run in plan.runs if run.arm == arm) for arm in (PLAIN, SUBSET)]
    begun, until = both[0].path.run.phase_steps()[:2]
    ids = [[run.path.state_id(begun + until + k) for k in (0, 1)] for run in both]
    assert ids[0][0] == ids[1][0]
    assert ids[0][1] != ids[1][1]


def test_what_the_design_cannot_identify_is_said_or_refused() -> None:
    assert STUDY.cautions(*ask(STUDY, "tiny")) == []
    said = STUDY.cautions(*ask(STUDY, "tiny", axes=["seed=0"]))
    assert said[0].startswith("one trunk seed, so no verdict: plain, subset, ")
    with pytest.raises(Refused, match=r"^axis batch: stability_gap reads only the axis seed"):
        STUDY.cautions(*ask(STUDY, "tiny", axes=["batch=32,64"]))
    with pytest.raises(Refused, match=r"^general, domain = prose\+code, code: must differ"):
        ask(STUDY, "tiny", ["general=prose+code"])
    with pytest.raises(Refused, match=r"^passes = 1: at least 2, or nothing is read again"):
        ask(STUDY, "tiny", ["passes=1"])
    with pytest.raises(Refused, match=r"^replay = 1\.0: must lie between 0 and 1"):
        ask(STUDY, "tiny", ["replay=1"])
    with pytest.raises(Refused, match=r"^rate = 0\.0: must be positive"):
        ask(STUDY, "tiny", ["rate=0"])


def test_every_claim_has_its_arms_and_seeds_enough() -> None:
    from sweeps.claims import stated, undecidable

    told, sweep = ask(STUDY, "tiny")
    rows = stated(STUDY.claims(told, sweep), sweep)
    assert 6 <= len(rows) <= 9
    assert undecidable(rows) == []


# Read ----------------------------------------------------------------------------------------

SEEDS = 8
# arm -> (points of general accuracy lost at first, part of that back at the end; the same of the
# domain; nats of gain on the domain at the end, nats lost on general text)
Curves = Mapping[str, tuple[float, float, float, float, float, float]]
STATED: Curves = {
    PLAIN: (0.12, 0.9, 0.02, 1.5, 0.30, 0.20),
    SUBSET: (0.12, 0.95, 0.02, 1.5, 0.36, 0.20),
    BEST: (0.10, 0.95, -0.001, 1.5, 0.38, 0.20),
    SUBSET_BEST: (0.10, 0.95, 0.02, 1.5, 0.42, 0.18),
    MIXED: (0.05, 1.0, 0.02, 1.5, 0.28, 0.05),
    ALL: (0.05, 1.0, 0.02, 1.5, 0.40, 0.03),  # as the sum
    CLEAN: (0.10, 0.9, 0.02, 1.5, 0.45, 0.20),
    SAME: (0.002, 1.0, 0.001, 1.0, 0.0, -0.02),
}
LOWEST = 8  # step at which accuracy is lowest
LAST = 512


def fallen(step: Any, depth: float, back: float) -> Any:
    """0 at the switch, -depth at LOWEST, then back to -depth (1 - back) by log2 of the step."""
    up = np.clip(np.log2(np.maximum(step, 1) / LOWEST) / math.log2(LAST / LOWEST), 0.0, 1.0)
    return np.where(step <= LOWEST, -depth * step / LOWEST, -depth * (1 - back * up))


def made(
    sweep: Sweep,
    curves: Curves = STATED,
    hump: float = 0.0,
    noise: float = 0.001,
    epochs: float = 0.2,
    draw: int = 3,
) -> pd.DataFrame:
    """The table that a sweep would leave. hump: nats by which the domain's loss first rises."""
    random = np.random.default_rng(draw)
    rows = []
    for seed in range(SEEDS):
        of_trunk = 0.01 * random.normal()
        for arm, grid in sweep.arms.items():
            run = grid.base
            begun = run.phase_steps()[0]
            general, g_back, domain, d_back, gain, lost = curves[arm]
            for step in sweep.evaluate.steps(run):
                phase, inside = run.phase_of(step)
                t = max(0, step - begun)
                way = math.log2(1 + t) / math.log2(1 + LAST)
                early = hump if 0 < t <= LOWEST else 0.0
                for corpus, accuracy, loss in (
                    ("prose", 0.5 + fallen(t, general, g_back), 1.8 + lost * way),
                    ("docs", 0.45 + fallen(t, domain, d_back), 2.3 - gain * way + early),
                ):
                    told = np.array([accuracy, loss]) + of_trunk
                    told = told + noise * random.normal(size=2) * (t > 0)
                    rows.append((arm, f"{arm}/{seed}", seed, "done", phase.name, step, inside,
                                 corpus, float(told[0]), float(told[1]), epochs))  # fmt: skip
    columns = ["arm", "run", "seed", "status", "phase", "step", "step_in_phase", "corpus",
               "accuracy", "loss_nats", "epochs"]  # fmt: skip
    return pd.DataFrame(rows, columns=columns)


@pytest.fixture(scope="module")
def tiny() -> tuple[Any, Sweep]:
    return ask(STUDY, "tiny", SHORT)


def read(tiny: tuple[Any, Sweep], table: pd.DataFrame) -> tuple[Findings, dict[str, Any]]:
    findings = STUDY.read(table, *tiny)
    found = judge(STUDY.claims(*tiny), findings.evidence)
    return findings, {one.claim.name: one for one in found}


@pytest.fixture(scope="module")
def stated(tiny: tuple[Any, Sweep]) -> tuple[Findings, dict[str, Any]]:
    return read(tiny, made(tiny[1]))


def test_the_curves_reach_their_last_state(tiny: tuple[Any, Sweep]) -> None:
    assert sum(tiny[1].arms[PLAIN].base.phase_steps()[1:]) == LAST


def test_where_the_statements_hold_they_are_supported(
    stated: tuple[Findings, dict[str, Any]],
) -> None:
    findings, found = stated
    assert {name: one.decision for name, one in found.items()} == dict.fromkeys(found, "supported")
    assert found["general_falls"].effect == pytest.approx(0.118, abs=0.003)
    assert found["general_returns"].effect == pytest.approx(0.4, abs=0.02)
    assert found["domain_accuracy_dips"].effect == pytest.approx(0.02, abs=0.002)
    assert found["best_dips_less"].effect == pytest.approx(0.02, abs=0.002)
    assert found["subset_learns"].effect == pytest.approx(0.06, abs=0.002)
    assert found["best_learns"].effect == pytest.approx(0.06, abs=0.002)
    assert found["mixture_falls_less"].effect == pytest.approx(0.07, abs=0.003)
    assert found["all_is_better"].effect == pytest.approx(0.10, abs=0.002)  # on the domain
    assert re.match(
        r"The plain run loses 12\.[0-3] points of general accuracy at first and ends 1.[12] below "
        r"its start; on the domain it loses 2\.[0-3] at first; all three strategies end "
        r"\+0\.(09[89]|10[0-2]) nats below it on the domain, ",
        findings.headline,
    )
    dips = findings.table("dips").set_index(["arm", "text", "measure"])
    plain = dips.loc[(PLAIN, "general", "accuracy")]
    assert plain["depth low"] < 0.12 < plain["depth high"] + 0.002  # the lowest of some with noise
    assert plain["lowest at step"] == pytest.approx(LOWEST, abs=1)
    # half of .12 is back where .9 of the way in log2 is 1/2: a factor 2^(6 / 1.8) behind step 8
    assert plain["back"] == pytest.approx(LOWEST * 2 ** (0.5 / 0.9 * 6), rel=0.1)
    assert (plain["not back"], plain["dips"]) == (0, SEEDS)
    for figure in findings.figures:
        assert figure.render("png").startswith(b"\x89PNG")
    for note in findings.notes:
        if "rank correlation" in note:
            assert 0.95 < float(note.split("true quality is ")[1].split(":")[0]) < 1
            break
    else:
        pytest.fail("the score's correlation with the truth is not said")


def test_where_the_opposite_holds_they_are_refuted(tiny: tuple[Any, Sweep]) -> None:
    opposite: Curves = {
        **STATED,
        PLAIN: (0.03, 0.2, -0.001, 1.0, 0.30, 0.20),
        SUBSET: (0.03, 0.2, -0.001, 1.0, 0.22, 0.20),
        SUBSET_BEST: (0.03, 0.2, -0.001, 1.0, 0.20, 0.20),
        MIXED: (0.06, 0.2, -0.001, 1.0, 0.28, 0.20),
        ALL: (0.06, 0.2, -0.001, 1.0, 0.40, 0.30),  # better on the domain alone
        BEST: (0.03, 0.2, 0.02, 1.5, 0.38, 0.20),
        SAME: (0.03, 1.0, 0.001, 1.0, 0.0, 0.0),
    }
    _, found = read(tiny, made(tiny[1], opposite, hump=0.1))
    assert {name: one.decision for name, one in found.items()} == dict.fromkeys(found, "refuted")
    assert found["domain_loss_falls"].effect > 0.05
    assert found["all_is_better"].effect == pytest.approx(-0.10, abs=0.002)  # on general text


def test_noise_or_a_text_read_twice_leaves_them_undecided(tiny: tuple[Any, Sweep]) -> None:
    _, found = read(tiny, made(tiny[1], noise=0.3))
    noisy = {name for name, one in found.items() if one.decision != "undecided"}
    # the lowest of many noisy states lies far below its start, on the domain as on any text
    assert noisy <= {"domain_accuracy_dips", "domain_loss_falls"}
    _, found = read(tiny, made(tiny[1], epochs=1.5))
    decided = {name for name, one in found.items() if one.decision != "undecided"}
    assert decided == {"subset_learns", "best_learns", "all_is_better"}  # which ask for that
    findings = STUDY.read(made(tiny[1]), *tiny)
    assert findings.evidence["subset_learns"].epochs == tiny[0].passes
    assert findings.evidence["general_falls"].epochs == pytest.approx(0.2)


def test_a_run_that_is_not_back_is_counted_and_not_timed(tiny: tuple[Any, Sweep]) -> None:
    never = {**STATED, PLAIN: (0.12, 0.2, 0.02, 1.5, 0.3, 0.2)}
    findings, _ = read(tiny, made(tiny[1], never))
    row = findings.table("dips").set_index(["arm", "text", "measure"])
    assert row.loc[(PLAIN, "general", "accuracy"), "not back"] == SEEDS
    assert math.isnan(row.loc[(PLAIN, "general", "accuracy"), "back"])
    assert row.loc[(MIXED, "general", "accuracy"), "not back"] == 0


def test_all_three_are_foretold_as_the_sum_of_their_effects(tiny: tuple[Any, Sweep]) -> None:
    table = made(tiny[1])
    earlier = table[table["arm"] != ALL]
    said = predict(earlier, *tiny).set_index("name")
    from fits.stability_findings import came

    assert came(measured(earlier, *tiny)) == {}
    measured_later = came(measured(table, *tiny))
    assert set(measured_later) == set(said.index)
    for name, value in measured_later.items():
        assert said.loc[name, "predicted"] == pytest.approx(value, abs=0.003)
        assert said.loc[name, "low"] < said.loc[name, "predicted"] < said.loc[name, "high"]
    domain = said.loc["domain loss with all three, as the sum", "predicted"]
    assert domain == pytest.approx(2.3 - 0.42 - 0.28 + 0.30, abs=0.012)  # and the trunks' mean
    with pytest.raises(TooLittle, match="an interval needs two trunk seeds, there is 1"):
        predict(earlier[earlier["seed"] == 0], *tiny)
    with pytest.raises(TooLittle, match="no seed has ended in plain, subset-best and mixed"):
        predict(earlier[earlier["arm"] != MIXED], *tiny)


def test_a_seed_that_lacks_an_arm_takes_no_part(tiny: tuple[Any, Sweep]) -> None:
    table = made(tiny[1])
    gone = (table["arm"] == ALL) & (table["seed"] == 2)
    findings, found = read(tiny, table.assign(status=np.where(gone, "diverged", "done")))
    assert found["all_is_better"].units == SEEDS - 1
    assert found["best_learns"].units == SEEDS
    without, found = read(tiny, table[table["arm"] != ALL])
    assert found["all_is_better"].why == "no seed has what it needs"
    assert "all three" not in without.headline
    for figure in (*findings.figures, *without.figures):
        assert figure.render("png").startswith(b"\x89PNG")


def test_a_table_of_something_else_is_refused(tiny: tuple[Any, Sweep]) -> None:
    table = made(tiny[1])
    with pytest.raises(TooLittle, match="the table lacks accuracy"):
        STUDY.read(table.drop(columns="accuracy"), *tiny)
    with pytest.raises(TooLittle, match="the table has no finished run"):
        STUDY.read(table.assign(status="incomplete"), *tiny)
    with pytest.raises(TooLittle, match=r"no run of the plain arm \(plain\) has ended"):
        STUDY.read(table[table["arm"] != PLAIN], *tiny)
    twice = pd.concat([table, table.assign(run="again")])
    with pytest.raises(TooLittle, match="arm plain has several runs of a seed"):
        STUDY.read(twice, *tiny)


# Run -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sweeps.cli import main

    out = tmp_path_factory.mktemp("stability_gap") / "smoke"
    told = ["run", "stability_gap", "--scale", "smoke", "--out", str(out), "--stack", "2"]
    assert main([*told, "--json"]) == 0
    return out


def test_smoke_writes_verdicts_predictions_tables_and_figures(ran: Path) -> None:
    verdict = pd.read_csv(ran / "tables" / "verdicts.csv")
    assert verdict["claim"].tolist() == [one.name for one in STUDY.claims(*ask(STUDY, "smoke"))]
    assert set(verdict["verdict"]) <= {"supported", "refuted", "undecided"}
    lines = (ran / "foretold.jsonl").read_text().splitlines()
    assert [json.loads(line)["beforehand"] for line in lines] == [True]
    assert pd.read_csv(ran / "tables" / "foretold.csv")["measured"].notna().all()
    names = {path.relative_to(ran).as_posix() for path in ran.rglob("*")}
    assert {"tables/dips.csv", "tables/ends.csv"} <= names
    for figure in ("curves", "depths", "trade"):
        assert {f"figures/{figure}.{end}" for end in ("svg", "pdf", "png", "csv")} <= names
    readings = json.loads((ran / "fit.json").read_text())["readings"]
    assert {row["arm"] for row in readings["ends"]} == set(ask(STUDY, "smoke")[1].arms)


def test_runs_that_read_alike_are_one_until_they_part(ran: Path) -> None:
    results = pd.read_parquet(ran / "results.parquet")
    assert (results["status"] == "done").all()
    first = results[(results["seed"] == 0) & (results["phase"] == "pass1")]
    rows = {
        arm: first[first["arm"] == arm][["step", "corpus", "loss_nats", "accuracy"]].to_numpy()
        for arm in (PLAIN, SUBSET, BEST)
    }
    assert (rows[PLAIN] == rows[SUBSET]).all()
    assert not (rows[PLAIN] == rows[BEST]).all()
