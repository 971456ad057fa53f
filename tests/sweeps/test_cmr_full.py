"""The complete study of the critical mixture ratio: its plan, and its reading.

It is read on losses that a known law made, where every verdict must come out, and run once, for
seconds, through the command line.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fits import critical_foretold
from fits.critical_evidence import evidence
from fits.report import Findings
from fits.verdicts import judge
from lab.errors import Refused
from sweeps import foretold
from sweeps.claims import LEVEL, stated
from sweeps.peak_rates import peak_rule
from sweeps.plan import Plan, make_plan
from sweeps.run import open_corpora
from sweeps.studies.cmr_full import RATIOS, SCALES, STUDY, held_back, measured
from sweeps.study import ask

PARAMS = {"w24": 26_232, "w40": 60_360, "w64": 133_440}
SLOPE = 0.4  # nats of general loss for a unit of ratio
EPS = 0.05
ANY_WORLD = {"w24": 5, "w40": 3, "w64": 3}  # trunk seeds


# Plan -----------------------------------------------------------------------------------------


def plan_of(scale: str, *sets: str, axes: Any = ()) -> Plan:
    _, sweep = ask(STUDY, scale, sets, axes)
    return make_plan(sweep, open_corpora(sweep))


def test_both_domains_branch_off_the_same_trunks_and_share_the_control() -> None:
    plan = plan_of("tiny")
    roots = [one for one in plan.segments if one.parent is None and "cpt" in names(one)]
    trunks = sum(ANY_WORLD.values())
    assert len(roots) == trunks
    for size, seeds in ANY_WORLD.items():
        ends = {
            (run.arm, run.values["seed"], run.values["cpt.ratio"]): run.segments[-1]
            for run in plan.runs
            if run.arm in (f"far-{size}", f"near-{size}")
        }
        for seed in range(seeds):
            assert ends[f"far-{size}", seed, 0.0] == ends[f"near-{size}", seed, 0.0]
            assert ends[f"far-{size}", seed, 0.5] != ends[f"near-{size}", seed, 0.5]


def names(segment: Any) -> set[str]:
    return {phase.name for phase in segment.path.run.phases}


def test_the_constant_trunk_shares_what_lies_before_the_fall() -> None:
    plan = plan_of("tiny")
    of = {run.arm: run for run in plan.runs if run.values["seed"] == 0}
    far, constant, reset = of["far-w24"], of["constant-w24"], of["reset-w24"]
    assert far.segments[0] == constant.segments[0] == reset.segments[0]
    shared = plan.segments[far.segments[0]]
    assert shared.stop == 960 - 960 // 5  # the trunk less its last fifth
    assert far.segments[1] == reset.segments[1] != constant.segments[1]
    peak = peak_rule("tiny").peak_lr(24, 960 * 2048)
    assert far.path.lr[-1] == constant.path.lr[-1] == pytest.approx(0.1 * peak)


def test_no_corpus_is_read_twice_at_the_scale_that_is_run() -> None:
    plan = plan_of("tiny")
    plan.refuse_repeats()
    assert max(plan.most_epochs().values()) < 1
    assert plan.summary(2)["flops_shared"] < 9.1e13


@pytest.mark.parametrize("scale", ["small", "paper"])
def test_scales_beyond_the_built_in_corpora_are_planned_and_not_run(scale: str) -> None:
    with pytest.raises(Refused, match=r"would be read [\d,.]+ times \(at most 4\)"):
        plan_of(scale).refuse_repeats()


def test_the_union_holds_the_texts_of_trunk_and_branch() -> None:
    _, sweep = ask(STUDY, "tiny")
    trunk, branch = sweep.arms["far-w24"].base.phases
    (whole,) = sweep.arms["union-far-w24"].base.phases
    assert whole.tokens == trunk.tokens + branch.tokens
    domain, general = whole.mixture
    assert domain.corpus == "code"
    assert domain.weight * whole.tokens == pytest.approx(branch.tokens / 2)
    assert general.weight * whole.tokens == pytest.approx(trunk.tokens + branch.tokens / 2)
    (scratch,) = sweep.arms["scratch-near-w24"].base.phases
    assert (scratch.tokens, scratch.mixture[0].corpus) == (branch.tokens, "docs")


def test_claims_name_arms_of_every_scale() -> None:
    for scale in SCALES:
        settings, sweep = ask(STUDY, scale)
        rows = stated(STUDY.claims(settings, sweep), sweep)
        assert len(rows) == 11
        assert all(row["smallest"] > 0 for row in rows)
        assert set(STUDY.later(settings, sweep)) <= set(sweep.arms)


def test_what_the_study_cannot_read_is_refused_or_said() -> None:
    def said(*sets: str, axes: Any = ()) -> str:
        settings, sweep = ask(STUDY, "tiny", sets, axes)
        return "; ".join(STUDY.cautions(settings, sweep))

    assert said() == ""
    assert "far-w40: one trunk seed" in said(axes=["far-w40:seed=0"])
    assert "near-w24: no control at R = 0" in said(axes=["near-w24:cpt.ratio=1/8,1/4"])
    assert "2 horizons up to half" in said("horizons=122880,163840,819200")
    for sets, why in (
        (["claims_eps=.03"], "claims_eps = 0.03: must be one of eps = 0, 0.05"),
        (["near=code"], "general, far, near = prose, code, code: must differ"),
        (["horizons=163840,122880"], "must ascend"),
    ):
        with pytest.raises(Refused, match=why):
            said(*sets)
    with pytest.raises(Refused, match=r"reads only the axes seed and cpt\.ratio"):
        said(axes=["far-w24:batch=16,32"])


# Read: a world whose law is known -------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """Critical ratios at eps = .05 and losses, as functions of where they are asked for.

    The change of general loss is EPS + SLOPE (R - R*), so that R* is what must be read off.
    """

    base: float = 0.12
    growth: float = 0.25  # of R* with T^.5, from 0 to the last horizon
    size: float = 0.08  # of R*, a unit of ln N
    near: float = 0.2
    constant: float = 0.1
    reset: float = 0.0
    jump_late: float = 0.0  # of R* beyond half of the tokens
    jump_size: float = 0.0  # of R* at the largest size
    kink: float = 0.0  # nats of domain loss at R = 1/4, off the law
    scratch: float = 0.3  # nats, of a run from scratch above the branch at R = 1
    union: float = 0.0  # nats, of a union below the branch at R = 1/2
    noise: float = 0.003
    drift: float = 0.0  # nats that every general loss rises by over the last half
    shape: Mapping[str, float] = field(default_factory=lambda: {"alpha": -0.8, "s": 0.3})

    def critical(self, role: str, size: str, tokens: float, last: float) -> float:
        step = self.jump_late if 2 * tokens > last else 0.0
        step += self.jump_size if size == "w64" else 0.0
        grown = self.growth * (tokens / last) ** 0.5
        by_size = self.size * math.log(PARAMS[size] / PARAMS["w24"])
        return self.base + grown + by_size + step + getattr(self, role, 0.0)


BEFORE = {"prose": 1.6, "code": 6.0, "docs": 3.4}


def made(world: World, arms: Callable[[str], bool] = lambda arm: True) -> tuple[Any, ...]:
    """(results, settings, sweep): the table that this world would give, without training."""
    settings, sweep = ask(STUDY, "tiny")
    last = max(settings.horizons)
    random = np.random.default_rng(7)
    rows: list[dict[str, Any]] = []
    for arm, grid in sweep.arms.items():
        role, size = arm.rsplit("-", 1)
        for values, _ in grid.points():
            head = {
                "arm": arm,
                "seed": values["seed"],
                "run": f"{arm} {values}",
                "n_params": PARAMS[size],
                "trunk": f"{'constant' if role == 'constant' else ''}{size}-{values['seed']}",
                "status": "done",
                "epochs": 0.7,
            }
            if not arms(arm):
                continue
            if "cpt.ratio" not in values:
                rows += alone(world, head, role, random)
                continue
            ratio = values["cpt.ratio"]
            domain = "docs" if role == "near" else "code"
            shift = {
                tokens: world.noise
                * np.random.default_rng([values["seed"], tokens, len(role), PARAMS[size]]).normal()
                for tokens in settings.horizons
            }
            for tokens in (0, *settings.horizons):
                place = {
                    "phase": "cpt" if tokens else "pretrain",
                    "step": 960 + tokens // 2048,
                    "tokens_in_phase": tokens,
                    "cpt_ratio": ratio,
                }
                for corpus, before in BEFORE.items():
                    loss = before + 0.01 * values["seed"]
                    if tokens and corpus == "prose":
                        at = world.critical(role, size, tokens, last) + shift[tokens]
                        loss += EPS + SLOPE * (ratio - at)
                        loss += world.drift * (2 * tokens > last)
                    elif tokens and corpus == domain and ratio:
                        loss = 2.8 + domain_loss(world, ratio, values["seed"])
                        loss += 0.3 * world.noise * random.normal()
                    rows.append({**head, **place, "corpus": corpus, "loss_nats": loss})
    return pd.DataFrame(rows), settings, sweep


def own_noise(seed: int, tokens: int, role: str, size: int) -> float:
    """The same for every ratio: it moves R* of this seed, arm and horizon."""
    return float(np.random.default_rng([seed, tokens, len(role), size]).normal())


def domain_loss(world: World, ratio: float, seed: int) -> float:
    kink = world.kink if ratio == 0.25 else 0.0
    return world.shape["alpha"] * ratio ** world.shape["s"] + kink + 0.01 * seed


def alone(world: World, head: dict[str, Any], role: str, random: Any) -> list[dict[str, Any]]:
    """The end of a run from scratch, on the domain or on the union."""
    kind, domain_role = role.split("-")
    domain = {"far": "code", "near": "docs"}[domain_role]
    settings, _ = ask(STUDY, "tiny")
    last = max(settings.horizons)
    seed = head["seed"]
    general = BEFORE["prose"] + 0.01 * seed + EPS
    general += SLOPE * (0.5 - world.critical(domain_role, "w24", last, last)) + world.drift
    losses = {"prose": 5.0, domain: 2.8 + domain_loss(world, 1.0, seed) + world.scratch}
    if kind == "union":
        at_half = 2.8 + domain_loss(world, 0.5, seed)
        losses = {"prose": general - world.union, domain: at_half - world.union}
    return [
        {
            **head,
            "phase": "scratch",
            "step": 1440,
            "tokens_in_phase": last,
            "corpus": corpus,
            "loss_nats": loss + world.noise * random.normal(),
        }
        for corpus, loss in losses.items()
    ]


def verdicts(world: World) -> dict[str, str]:
    results, settings, sweep = made(world)
    found = evidence(measured(results, settings, sweep), held_back(sweep))
    judged = judge(STUDY.claims(settings, sweep), found, LEVEL)
    return {one.claim.name: one.decision for one in judged}


CLAIMS = {
    "nearer_larger", "grows_with_tokens", "grows_with_size", "turning_point_passed",
    "constant_trunk_larger", "reset_does_not_matter", "size_extrapolates", "tokens_extrapolate",
    "ratio_law_predicts", "continuing_beats_scratch", "continuing_matches_union",
}  # fmt: skip


def test_in_a_world_as_the_claims_have_it_all_are_supported() -> None:
    assert verdicts(World()) == dict.fromkeys(CLAIMS, "supported")


def test_in_the_contrary_world_all_are_refuted() -> None:
    contrary = World(
        base=0.4, growth=0.0, size=0.0, near=-0.1, constant=0.0, reset=0.2, jump_size=-0.15,
        kink=0.05, scratch=-0.1, union=0.2, drift=0.03,
    )  # fmt: skip
    found = verdicts(contrary)
    late = verdicts(World(jump_late=0.15))
    assert late["tokens_extrapolate"] == "refuted"
    assert {name: found[name] for name in CLAIMS - {"tokens_extrapolate"}} == dict.fromkeys(
        CLAIMS - {"tokens_extrapolate"}, "refuted"
    )


def test_where_seeds_differ_too_much_all_are_undecided() -> None:
    wide = World(growth=0.1, size=0.02, near=0.05, constant=0.05, noise=0.12, scratch=0.05)
    assert set(verdicts(wide).values()) == {"undecided"}


@pytest.fixture(scope="module")
def quiet() -> tuple[Findings, Any, Any, pd.DataFrame]:
    """The findings of a world almost without noise, with settings, sweep and results."""
    results, settings, sweep = made(World(noise=1e-4))
    return STUDY.read(results, settings, sweep), settings, sweep, results


def test_the_critical_ratios_that_made_the_losses_are_read_off(quiet: Any) -> None:
    found, settings, _, _ = quiet
    read = found.table("critical ratio")
    read = read[(read["eps"] == EPS) & (read["censored"] == "")]
    last = max(settings.horizons)
    names = {n: name for name, n in PARAMS.items()}
    assert len(read) > 40
    for row in read.itertuples():
        truth = World().critical(row.arm, names[row.n_params], row.horizon_tokens, last)
        assert row.critical_ratio == pytest.approx(truth, abs=1e-3)
        if row.seeds > 1:
            assert row.low - 1e-3 < truth < row.high + 1e-3
    for row in found.table("distance").itertuples():
        assert row.loss_nats == pytest.approx(BEFORE[row.corpus], abs=0.03)


def test_the_effects_are_those_of_the_world(quiet: Any) -> None:
    found, settings, _, _ = quiet
    world, last = World(), max(settings.horizons)
    first = min(settings.horizons) / last

    def effect(name: str) -> float:
        one = found.evidence[name]
        assert one.lows == one.highs
        assert one.epochs == pytest.approx(0.7)
        return float(np.mean(one.lows))

    wanted = {
        "nearer_larger": world.near,
        "grows_with_tokens": world.growth * (1 - first**0.5),
        "grows_with_size": world.size * math.log(PARAMS["w64"] / PARAMS["w24"]),
        "turning_point_passed": SLOPE * world.growth * (1 - 0.5**0.5),
        "constant_trunk_larger": world.constant,
        "reset_does_not_matter": 0.0,
        "size_extrapolates": 0.0,
        "ratio_law_predicts": 0.0,
        "continuing_beats_scratch": world.scratch,
        "continuing_matches_union": 0.0,
    }
    for name, value in wanted.items():
        assert effect(name) == pytest.approx(value, abs=2e-3), name
    units = {name: len(one.lows) for name, one in found.evidence.items()}
    assert units.pop("grows_with_size") == 3
    assert units.pop("size_extrapolates") == 1
    assert set(units.values()) == {5}


def test_laws_and_forms_are_recovered(quiet: Any) -> None:
    found, settings, _, _ = quiet
    late = [one for one in found.fits if "late horizons" in one.name and one.name[:3] == "far"]
    late = [one for one in late if one.group == {"n_params": PARAMS["w24"], "eps": EPS}]
    (one,) = late
    there = {"cpt_tokens": np.array([float(max(settings.horizons))])}
    assert float(one.law.predict(one.params, there)[0]) == pytest.approx(0.37, abs=5e-3)
    assert {row.variables["cpt_tokens"] for row in one.held_out} == {655_360, 819_200, 983_040}
    forms = found.table("ratio forms")
    of_far = forms[(forms["arm"] == "far") & (forms["corpus"] == "code")]
    assert set(of_far[of_far["rank"] == 1]["form"]) == {"cmr-ratio"}
    at_smallest = of_far[of_far["n_params"] == PARAMS["w24"]]
    assert set(at_smallest["ratios"]) == {len(RATIOS) - 2}
    assert "worse" in set(at_smallest["verdict"])


def test_the_largest_size_is_predicted_from_the_others_alone() -> None:
    results, settings, sweep = made(World(noise=1e-4))
    later = STUDY.later(settings, sweep)
    assert later == ("far-w64", "near-w64")
    assert STUDY.predict is not None
    earlier = results[~results["arm"].isin(later)]
    rows = STUDY.predict(earlier, settings, sweep)
    assert tuple(rows.columns) == foretold.COLUMNS
    named = rows.set_index("name")
    line = named.loc["far: critical ratio, eps 0.05"]
    truth = World().critical("far", "w64", 1.0, 1.0)
    assert line["predicted"] == pytest.approx(truth, abs=2e-3)
    assert line["low"] < truth < line["high"]
    still = named.loc["far: critical ratio, eps 0.05, were size without effect"]
    assert still["predicted"] == pytest.approx(World().critical("far", "w40", 1.0, 1.0), abs=2e-3)
    assert not still["low"] < truth < still["high"]
    came = critical_foretold.measured(measured(results, settings, sweep), PARAMS["w64"])
    assert set(came) == set(rows["name"])
    assert came[line.name] == pytest.approx(truth, abs=1e-3)


def test_a_seed_beyond_the_grid_goes_in_as_bounds() -> None:
    results, settings, sweep = made(World(near=0.6))
    read = measured(results, settings, sweep)
    near = read.critical("near", PARAMS["w24"])
    assert set(near.values()) == {(0.75, 1.0)}
    far = read.critical("far", PARAMS["w24"])
    one = evidence(read, held_back(sweep))["nearer_larger"]
    assert one.lows == pytest.approx([0.75 - far[seed][0] for seed in range(5)])
    assert one.highs == pytest.approx([1.0 - far[seed][0] for seed in range(5)])
    assert "5 of 5 seeds lie beyond the grid" in one.note


def test_without_the_largest_size_and_a_confounder_the_rest_is_read() -> None:
    left = {"far-w64", "near-w64", "reset-w24", "union-far-w24"}
    results, settings, sweep = made(World(), lambda arm: arm not in left)
    found = STUDY.read(results, settings, sweep)
    nothing = {name for name, one in found.evidence.items() if not one.lows}
    assert nothing == {
        "grows_with_size", "size_extrapolates", "reset_does_not_matter",
        "continuing_matches_union",
    }  # fmt: skip
    assert found.measured == {}
    assert any("reset-w24" in note for note in found.notes)


def test_the_figures_hold_what_they_show(quiet: Any) -> None:
    found, _, _, _ = quiet
    assert found.figures[0].name == "critical_ratio_by_arm"
    assert len({one.name for one in found.figures}) == len(found.figures) == 7
    by_arm = found.figure("critical_ratio_by_arm").data
    assert set(by_arm["kind"]) == {"measured", "foretold"}
    assert set(by_arm[by_arm["kind"] == "measured"]["arm"]) == {"far", "near", "constant", "reset"}
    for one in found.figures:
        assert one.render("png").startswith(b"\x89PNG")


# Run ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `lab run cmr_full --scale smoke`. Tests only read it."""
    from sweeps.cli import main

    out = tmp_path_factory.mktemp("cmr_full") / "smoke"
    told = ["run", "cmr_full", "--scale", "smoke", "--out", str(out), "--stack", "2", "--json"]
    assert main(told) == 0
    return out


def test_smoke_trains_foretells_judges_and_writes(run_folder: Path) -> None:
    written = json.loads((run_folder / "fit.json").read_text())
    assert {row["claim"] for row in written["verdicts"]} == CLAIMS
    assert {row["verdict"] for row in written["verdicts"]} <= {"supported", "refuted", "undecided"}
    (line,) = foretold.read(run_folder)
    assert line.beforehand
    beside = pd.read_csv(run_folder / "tables" / "foretold.csv")
    assert set(beside["name"]) == {row["name"] for row in line.rows}
    losses = beside[beside["unit"] == "nats"]
    assert len(losses) == 4
    assert losses["measured"].notna().all()
    results = pd.read_csv(run_folder / "results.csv")
    assert set(results["status"]) == {"done"}
    _, sweep = ask(STUDY, "smoke")
    assert set(results["arm"]) == set(sweep.arms)
    page = (run_folder / "report.html").read_text()
    assert "nearer to the trunk" in page
    figures = {path.name for path in (run_folder / "figures").glob("*.png")}
    assert "critical_ratio_by_arm.png" in figures
