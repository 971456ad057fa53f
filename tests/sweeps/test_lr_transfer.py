"""The study of rates against width: its plan, and its reading on losses of known optima."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fits.rate_transfer import rate_curve, rate_ends
from fits.report import Findings
from fits.verdicts import Verdict, judge
from lab.errors import Refused
from sweeps.foresight import foresee
from sweeps.peak_rates import PROBED, PeakRule, peak_rule
from sweeps.plan import make_plan
from sweeps.run import open_corpora
from sweeps.studies.lr_transfer import LONGER, RATE, STUDY
from sweeps.study import ask, built_in
from sweeps.sweep import Sweep

# Plan ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", STUDY.scales)
def test_widths_share_one_grid_of_rates_and_mup_is_based_on_the_smallest(scale: str) -> None:
    told, sweep = ask(STUDY, scale)
    widths = [grid.base.model.width for grid in sweep.arms.values()]
    for name, grid in sweep.arms.items():
        model, longer = grid.base.model, name.endswith(LONGER)
        assert name.removesuffix(f"-{LONGER}") == f"{model.parametrisation}-w{model.width}"
        assert grid.axes[RATE] == told.rates
        assert (
            model.mlp_width * min(widths)
            == model.width * sweep.arms[f"standard-w{min(widths)}"].base.model.mlp_width
        )  # F / D constant, as muP takes it to be
        assert model.base_width == (min(widths) if model.parametrisation == "mup" else 0)
        for _, run in grid.points():
            (phase,) = run.phases
            assert phase.tokens == (told.longer if longer else told.tokens)
            rise, _, fall = phase.schedule
            assert fall.to_lr == 0.0
            assert fall.tokens == pytest.approx(0.2 * phase.tokens, abs=0.51 * run.tokens_per_step)
            assert rise.to_lr in told.rates
    assert {name.rpartition("-")[0] for name in sweep.arms if LONGER in name} <= set(sweep.arms)
    short = [one for name, one in zip(sweep.arms, widths, strict=True) if LONGER not in name]
    assert short == short[: len(short) // 2] * 2


def test_longer_runs_go_on_from_the_trunks_of_the_shorter_ones() -> None:
    told, sweep = ask(STUDY, "smoke")
    plan = make_plan(sweep, open_corpora(sweep))
    cool = round(0.2 * told.tokens / 512) * 512
    shared = 3 * 2 * len(told.rates) * (told.tokens - cool)  # widths, seeds
    summary = plan.summary(stack=2)
    assert summary["tokens_naive"] - summary["tokens_shared"] == shared


@pytest.mark.parametrize("scale", ["smoke", "tiny"])
def test_rates_bracket_what_is_believed_and_the_text_is_read_once(scale: str) -> None:
    told, sweep = ask(STUDY, scale)
    plan = make_plan(sweep, open_corpora(sweep))
    plan.refuse_repeats()
    assert max(plan.most_epochs().values()) < 1
    assert STUDY.cautions(told, sweep) == []
    _, warnings = foresee(STUDY.foresees(told, sweep))
    assert warnings == []
    narrow = ask(STUDY, scale, ["rates=.03,.02,.015,.01,.008"])
    assert any("grid's edge" in one for one in foresee(STUDY.foresees(*narrow))[1])


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

    assert "one seed, so no interval over seeds: standard-w12" in said(axes=["seed=0"])
    assert "standard-w12: 3 rates" in said("rates=.01,.02,.001")
    assert "standard-w96: the rule's rate 0.0026 lies beyond" in said("rates=.1,.05,.03,.01,.005")
    with pytest.raises(Refused, match=r"^axis batch: lr_transfer reads only the axes seed and pre"):
        said(axes=["batch=32,64"])
    with pytest.raises(Refused, match=r"^arm standard-w12: a parabola needs three values"):
        said("rates=.01,.02")
    with pytest.raises(Refused, match=r"^share = 1\.0: must lie between 0 and 1"):
        said("share=1")
    with pytest.raises(Refused, match=r"^longer = 458752: must be more than tokens = 458752"):
        said("longer=458752")
    with pytest.raises(Refused, match=r"must be more than the 65536 of the warm-up"):
        said("tokens=65536")


def test_the_rule_is_shared_and_is_no_study() -> None:
    assert "lr_transfer" in built_in()
    assert "rates" not in built_in()
    assert peak_rule("paper") is PROBED
    assert [PROBED.peak_lr(width, 1e9) for width in (8, 80)] == [0.025, 0.0025]
    falling = PeakRule(0.01, 1.5, 0.5)
    assert falling.peak_lr(24, 1e6) == 0.01
    assert falling.peak_lr(96, 1e6) == 0.0013  # .01 / 8, to two figures
    assert falling.peak_lr(24, 4e6) == 0.005
    assert str(falling) == "0.01 (24 / width)^1.5 (1 M / tokens)^0.5"


# Read ----------------------------------------------------------------------------------------

Best = Callable[[str, int], float]  # log2 of the best rate of a parametrisation and width


def power(standard: float, mup: float, at_base: float = -4.6) -> Best:
    exponent = {"standard": standard, "mup": mup}
    return lambda kind, width: at_base + exponent[kind] * math.log2(width / 12)


def made(
    asked: Sweep,
    best: Best,
    bend: float = 0.03,
    noise: float = 0.1,
    loss_noise: float = 0.0005,
    skew: float = 0.0,
    epochs: float = 0.1,
    diverged: Callable[[str, int, float], bool] = lambda kind, width, lr: False,
    length: float = -0.5,
) -> pd.DataFrame:
    """The table that a sweep would leave if loss were a parabola in log2 rate about `best`.

    noise: octaves by which a seed moves the best rate; skew: cubic part, nats an octave cubed;
    length: exponent by which the best rate moves with tokens, `best` that of the shortest.
    """
    random = np.random.default_rng(5)
    shortest = min(grid.base.phases[0].tokens for grid in asked.arms.values())
    rows = []
    for arm, grid in asked.arms.items():
        model = grid.base.model
        kind, width = model.parametrisation, model.width
        longer = math.log2(grid.base.phases[0].tokens / shortest)
        moved: dict[int, float] = {}
        for values, run in grid.points():
            seed, lr = values["seed"], values[RATE]
            x = math.log2(lr) - best(kind, width) - length * longer
            x -= moved.setdefault(seed, random.normal(0, noise))
            loss = 2 + 1 / width + bend * x**2 + skew * x**3 + random.normal(0, loss_noise)
            ill = diverged(kind, width, lr)
            rows.append(
                {
                    "arm": arm,
                    "run": f"{arm}-{seed}-{lr}",
                    "seed": seed,
                    "pretrain_peak_lr": lr,
                    "status": "diverged" if ill else "done",
                    "step": 5 if ill else run.steps,
                    "corpus": "prose",
                    "epochs": epochs,
                    "loss_nats": 4.0 if ill else loss,
                }
            )
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def tiny() -> tuple[Any, Sweep]:
    return ask(STUDY, "tiny")


def read(tiny: tuple[Any, Sweep], results: pd.DataFrame) -> tuple[Findings, dict[str, Verdict]]:
    findings = STUDY.read(results, *tiny)
    found = judge(STUDY.claims(*tiny), findings.evidence)
    return findings, {one.claim.name: one for one in found}


def decisions(found: dict[str, Verdict]) -> dict[str, str]:
    return {name: one.decision for name, one in found.items()}


def test_every_statement_is_supported_where_it_holds(tiny: tuple[Any, Sweep]) -> None:
    rule = peak_rule("tiny")  # and it is right here
    at_base = rule.peak_lr(12, tiny[0].tokens)
    right = power(-rule.width_power, 0.0, math.log2(at_base))
    length = -rule.tokens_power
    findings, found = read(tiny, made(tiny[1], right, noise=0.05, length=length))
    assert set(decisions(found).values()) == {"supported"}
    units = {name: one.units for name, one in found.items()}
    assert units == {**dict.fromkeys(units, 6), "length": 4, "rule": 4}
    assert found["standard"].effect == pytest.approx(rule.width_power, abs=0.08)
    assert found["length"].effect == pytest.approx(rule.tokens_power, abs=0.05)
    assert found["mup"].effect == pytest.approx(0.0, abs=0.08)
    # so many octaves too high a rate under the standard parametrisation, bend .03; beyond the
    # parabola straight between the rates tried
    assert found["copied"].effect == pytest.approx(0.03 * (3 * rule.width_power) ** 2, rel=0.1)
    slopes = findings.table("exponents").set_index("parametrisation")
    assert slopes.loc["standard", "c"] == pytest.approx(at_base, rel=0.1)
    assert slopes.loc["standard", "p low"] < -rule.width_power < slopes.loc["standard", "p high"]
    law = findings.table("law").iloc[0]
    assert (law["p"], law["q"]) == pytest.approx((-rule.width_power, length), abs=0.05)
    assert law["c"] == pytest.approx(at_base, rel=0.1)
    best = findings.table("best_rates").set_index(["parametrisation", "width", "tokens"])
    wide = best.loc[("standard", 96, tiny[0].tokens)]
    assert wide["best rate"] == pytest.approx(rule.peak_lr(96, tiny[0].tokens), rel=0.1)
    assert wide["bend"] == pytest.approx(0.03, rel=0.05)
    long = best.loc[("standard", 48, tiny[0].longer)]
    assert long["best rate"] == pytest.approx(rule.peak_lr(48, tiny[0].longer), rel=0.1)
    assert (best["at an edge"] == 0).all()


def test_every_statement_is_refuted_where_it_does_not_hold(tiny: tuple[Any, Sweep]) -> None:
    # the standard parametrisation's best rate stays, muP's falls, and the rule is far off
    _, found = read(tiny, made(tiny[1], power(0.0, -0.6, -5.0), noise=0.05, length=0.0))
    assert set(decisions(found).values()) == {"refuted"}
    assert found["mup"].effect == pytest.approx(-0.6, abs=0.05)
    assert found["less"].effect < 0
    assert found["copied"].effect < 0
    octaves = -5.0 - math.log2(peak_rule("tiny").peak_lr(96, tiny[0].tokens))
    assert found["rule"].effect == pytest.approx(0.03 * octaves**2, rel=0.1)


def test_noise_or_a_text_read_twice_leaves_it_undecided(tiny: tuple[Any, Sweep]) -> None:
    _, found = read(tiny, made(tiny[1], power(-0.3, 0.15), 0.02, 0.8, 0.003, length=-0.2))
    assert set(decisions(found).values()) == {"undecided"}
    _, found = read(tiny, made(tiny[1], power(-1.0, 0.0), epochs=1.5))
    assert set(decisions(found).values()) == {"undecided"}
    assert "a corpus was read 1.5 times" in found["mup"].why


def test_a_skewed_loss_moves_best_rates_and_spares_exponents(tiny: tuple[Any, Sweep]) -> None:
    findings, _ = read(tiny, made(tiny[1], power(-0.8, 0.1), skew=0.004, noise=0.05))
    slopes = findings.table("exponents").set_index("parametrisation")
    assert slopes.loc["standard", "p"] == pytest.approx(-0.8, abs=0.06)
    assert slopes.loc["mup", "p"] == pytest.approx(0.1, abs=0.06)


# Edges ---------------------------------------------------------------------------------------


def test_a_best_rate_at_the_edge_is_said_and_not_counted(tiny: tuple[Any, Sweep]) -> None:
    def low(kind: str, width: int) -> float:
        return -14.0 if (kind, width) == ("standard", 96) else power(-0.8, 0.0)(kind, width)

    findings, found = read(tiny, made(tiny[1], low))
    best = findings.table("best_rates").set_index(["parametrisation", "width"])
    assert best.loc[("standard", 96), "seeds"] == 0
    assert best.loc[("standard", 96), "why"] == "the smallest rate tried is best"
    assert math.isnan(best.loc[("standard", 96), "best rate"])
    said = "standard at width 96, 6 of 6 seeds: the smallest rate tried is best; not counted"
    assert f"458,752 tokens: {said}" in findings.notes
    # the other three widths still give an exponent; what the edge is needed for is not decided
    assert found["standard"].effect == pytest.approx(0.8, abs=0.1)
    assert "6 best rates at an edge are not counted" in found["standard"].why
    why = "the smallest rate tried is best"
    for name, where in (("copied", "width 96"), ("rule", "width 96, 458,752 tokens")):
        assert (found[name].decision, found[name].why) == ("undecided", f"{where}: {why}")


def test_too_few_widths_inside_leave_no_exponent(tiny: tuple[Any, Sweep]) -> None:
    findings, found = read(tiny, made(tiny[1], power(-3.0, 0.0)))  # 2^-10.6 at 48: one below
    assert found["standard"].decision == "undecided"
    assert "6 of 6 seeds have fewer than 3 widths left" in found["standard"].why
    assert found["mup"].decision == "supported"
    assert "Standard: no exponent" in findings.headline
    for figure in findings.figures:  # and they can still be drawn
        assert figure.render("png").startswith(b"\x89PNG")


def test_a_copied_rate_that_diverges_costs_at_least_the_worst_loss(tiny: tuple[Any, Sweep]) -> None:
    def ill(kind: str, width: int, lr: float) -> bool:
        return (kind, width) == ("standard", 96) and lr > 2**-5.5

    findings, found = read(tiny, made(tiny[1], power(-0.9, 0.0), diverged=ill))
    costs = findings.table("costs").set_index(["parametrisation", "width", "rate"])
    row = costs.loc[("standard", 96, "copied from 12")]
    assert row["at least"] == 6
    assert row["cost in nats"] == pytest.approx(0.03 * (10 + -4.6 - 0.9 * 3) ** 2, rel=0.2)
    assert found["copied"].decision == "supported"
    assert found["copied"].high == math.inf
    assert "costs at least" in findings.headline
    losses = findings.table("losses").set_index(["parametrisation", "width", "lr"])
    assert losses.loc[("standard", 96, 2.0**-5), "diverged"] == 6


def test_a_curve_is_read_by_its_parabola_and_beyond_it_between_the_rates() -> None:
    rates = [2.0**k for k in range(-9, -2)]
    loss = [0.1 * abs(k + 6.2) ** 2 + 1 for k in range(-9, -2)]
    curve = rate_curve(rates[::-1], loss[::-1])
    assert (curve.best, curve.bend, curve.least) == pytest.approx((-6.2, 0.1, 1.0))
    assert curve.window == (-8.0, -4.0)
    assert curve.cost(2**-7.2) == pytest.approx((0.1, 0.1))
    between = (loss[5] + loss[6]) / 2 - 1
    assert curve.cost(2**-3.5) == pytest.approx((between, between))
    with pytest.raises(Exception, match=r"the rate 0\.5 lies beyond those tried"):
        curve.cost(0.5)
    assert rate_curve(rates[4:], loss[4:]).edge == "the smallest rate tried is best"
    assert rate_curve(rates[:3], loss[:3]).edge == "the largest rate tried is best"
    assert "a parabola needs 3" in rate_curve(rates, [*loss[:2], *[math.inf] * 5]).edge
    # best just below a rate that diverged: nothing tells how far up the best lies
    cut = rate_curve(rates, [*loss[:4], *[math.inf] * 3])
    assert cut.edge == "the rates beside the best one diverged, or lie too far from it"
    assert rate_curve(rates, [1.0, 0.9, 0.95, 0.5, 0.96, 0.9, 1.0]).edge == ""


def test_a_table_of_something_else_is_refused(tiny: tuple[Any, Sweep]) -> None:
    results = made(tiny[1], power(-1.0, 0.0))
    with pytest.raises(Exception, match="the table lacks pretrain_peak_lr"):
        STUDY.read(results.drop(columns="pretrain_peak_lr"), *tiny)
    with pytest.raises(Exception, match="no finished run evaluated on 'prose'"):
        STUDY.read(results.assign(status="incomplete"), *tiny)
    only = results[results["arm"].str.startswith("mup")]
    with pytest.raises(Exception, match="no run of the parametrisation standard has ended"):
        STUDY.read(only, *tiny)
    with pytest.raises(Exception, match="1 arms are of a parametrisation, width and tokens that"):
        rate_ends(results, dict.fromkeys(("standard-w12", "mup-w12"), ("mup", 12, 1)), "prose")


# Run -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sweeps.cli import main

    out = tmp_path_factory.mktemp("lr_transfer") / "smoke"
    told = ["run", "lr_transfer", "--scale", "smoke", "--out", str(out), "--stack", "2", "--json"]
    assert main(told) == 0
    return out


def test_smoke_writes_verdicts_tables_and_figures(ran: Path) -> None:
    verdict = pd.read_csv(ran / "tables" / "verdicts.csv")
    assert verdict["claim"].tolist() == [one.name for one in STUDY.claims(*ask(STUDY, "smoke"))]
    assert set(verdict["verdict"]) <= {"supported", "refuted", "undecided"}
    names = {path.relative_to(ran).as_posix() for path in ran.rglob("*")}
    for table in ("exponents", "best_rates", "costs", "losses"):
        assert f"tables/{table}.csv" in names
    for figure in ("loss_against_rate", "best_rate"):
        assert {f"figures/{figure}.{end}" for end in ("svg", "pdf", "png", "csv")} <= names
    readings = json.loads((ran / "fit.json").read_text())["readings"]
    assert [row["parametrisation"] for row in readings["exponents"]] == ["standard", "mup"]


def test_smoke_trains_the_base_width_alike_under_both(ran: Path) -> None:
    results = pd.read_parquet(ran / "results.parquet")
    assert (results["status"] == "done").all()
    places = ["seed", "pretrain_peak_lr", "step"]
    losses = results.set_index(places)["loss_nats"]
    standard, mup = (losses[(results["arm"] == f"{kind}-w12").to_numpy()] for kind in
                     ("standard", "mup"))  # fmt: skip
    assert standard.equals(mup)
    wide = [losses[(results["arm"] == f"{kind}-w48").to_numpy()] for kind in ("standard", "mup")]
    assert not wide[0].equals(wide[1])


def test_smoke_already_shows_the_best_rate_falling_without_mup(ran: Path) -> None:
    best = pd.read_csv(ran / "tables" / "best_rates.csv")
    short = best[best["tokens"] == best["tokens"].min()]
    rate = short.set_index(["parametrisation", "width"])["best rate"]
    assert rate["standard", 48] < 0.5 * rate["standard", 12]
    assert rate["mup", 48] > 1.5 * rate["standard", 48]
