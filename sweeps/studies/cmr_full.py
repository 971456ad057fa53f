"""The critical mixture ratio as a paper would answer it: claims, controls, rivals, held-out runs.

Gu et al. (EMNLP 2024, arXiv 2407.17467) find that the critical mixture ratio grows with tokens and
with size, each size fitted alone, one domain, one seed. Here a far and a near domain branch off the
same trunks; trunk end and optimizer reset, which move the ratio and are named by nobody, are arms;
runs from scratch and on the union stand beside the branches; the largest size and the late horizons
are predicted before they are looked at. `cmr` is the short form.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab import flops
from lab.errors import Refused
from lab.spec import Phase, RunSpec, Share, decay, hold
from sweeps.arms import one_seed, refuse_other_axes
from sweeps.continual_runs import Scale, branched, fallen, small_model
from sweeps.foresight import Expected, Foreseen, Sought
from sweeps.grid import Grid
from sweeps.studies import cmr
from sweeps.study import Study
from sweeps.sweep import Evaluations, Sweep

if TYPE_CHECKING:
    import pandas as pd

    from fits.critical_evidence import Measured
    from fits.report import Findings
    from fits.verdicts import Claim, Sense

# The paper's ratios, and 1/16: off prose alone little code harms; and of six between 0 and 1, left
# out in turn, forms of the law can be told apart, of five not (`fits.comparing`).
RATIOS = (0.0, 1 / 16, 1 / 8, 1 / 4, 1 / 3, 1 / 2, 3 / 4, 1.0)
INNER = RATIOS[:-1]  # of arms from which only the critical ratio is read
UNION = 0.5  # the branch whose texts the union is of
DOMAINS = ("far", "near")
KINDS = ("scratch", "union")  # runs of one phase, one arm a domain


@dataclass(frozen=True)
class Settings:
    """What the study can be told with --set. Horizons are in tokens of continual pre-training.

    The claims are about the tolerance `claims_eps`, in nats, the paper's; `lam` are the multipliers
    of its turning-point criterion, from its range of 100 to 7000.
    """

    general: str
    far: str
    near: str
    horizons: tuple[int, ...]
    eps: tuple[float, ...] = (0.0, 0.05)
    claims_eps: float = 0.05
    held_out_ratio: float = 1 / 4  # as in the paper's Table 2
    lam: tuple[float, ...] = (100.0, 1000.0, 7000.0)
    windows: int = 256
    per_octave: int = 1


def _scales() -> dict[str, Scale]:
    """Those of `cmr`, with more trunk seeds and horizons."""
    small = tuple(
        (f"w{width}", small_model(width, 1, 1, 32), peak, 0)
        for width, peak in ((8, 2e-2), (16, 1e-2), (24, 8e-3))
    )
    sizes = {name: one.sizes for name, one in cmr.SCALES.items()} | {"smoke": small}
    horizons = {
        "smoke": (8, 12, 16, 20, 24, 32, 40, 48),
        "tiny": (60, 80, 120, 160, 200, 240, 320, 400, 480),
        "small": (500, 1000, 1500, 2000, 2500, 3000, 4000, 5000, 6000),
        "paper": (1250, 2000, 2500, 3750, 5000, 6250, 7500, 8750, 10_000),
    }
    seeds = {"smoke": (2, 2, 2)}
    batches = {"smoke": 8}  # it branches four times as often as that of `cmr`
    return {
        name: dataclasses.replace(
            one,
            batch=batches.get(name, one.batch),
            horizons=horizons[name],
            sizes=tuple(
                (*size[:3], count)
                for size, count in zip(sizes[name], seeds.get(name, (5, 3, 3, 3)), strict=False)
            ),
        )
        for name, one in cmr.SCALES.items()
    }


SCALES = _scales()


def settings(scale: str) -> Settings:
    """The study's settings at a scale."""
    chosen = SCALES[scale]
    return Settings("prose", "code", "docs", chosen.horizon_tokens, windows=chosen.windows)


def sweep(told: Settings, scale: str) -> Sweep:
    """Far and near for every size; confounders and controls at the smallest."""
    chosen, corpora = SCALES[scale], {"far": told.far, "near": told.near}
    arms: dict[str, Grid] = {}
    for name, model, peak, count in chosen.sizes:
        for role, domain in corpora.items():
            base = branched(chosen, model, peak, told.general, domain, told.horizons)
            arms[f"{role}-{name}"] = Grid(base, {"seed": tuple(range(count)), "cpt.ratio": RATIOS})
    name, _, peak, count = chosen.sizes[0]
    base, seeds = arms[f"far-{name}"].base, tuple(range(count))
    trunk, branch = base.phases
    held = dataclasses.replace(trunk, schedule=(*trunk.schedule[:1], hold()))
    # off a rate that never fell the branch falls to where the others rise to, in as many steps
    falls = decay(chosen.rewarm * chosen.tokens_per_step, chosen.cpt_peak * peak)
    fallen_branch = dataclasses.replace(branch, schedule=(falls, hold()))
    reset = dataclasses.replace(branch, reset_optimizer=True)
    for role, phases in (("constant", (held, fallen_branch)), ("reset", (trunk, reset))):
        changed = dataclasses.replace(base, phases=phases)
        arms[f"{role}-{name}"] = Grid(changed, {"seed": seeds, "cpt.ratio": INNER})
    for role, domain in corpora.items():
        alone = (Share(domain, 1.0),)
        arms[f"scratch-{role}-{name}"] = Grid(
            _scratch(chosen, base, peak, branch.tokens, alone), {"seed": seeds}
        )
        whole = trunk.tokens + branch.tokens
        share = UNION * branch.tokens / whole
        mixed = (Share(domain, share), Share(told.general, 1.0 - share))
        arms[f"union-{role}-{name}"] = Grid(
            _scratch(chosen, base, peak, whole, mixed), {"seed": seeds}
        )
    evaluate = Evaluations(
        (told.general, told.far, told.near), told.windows, "cpt", told.horizons, told.per_octave
    )
    return Sweep("cmr_full", scale, arms, evaluate)


def _scratch(
    chosen: Scale, base: RunSpec, peak: float, tokens: int, mixture: tuple[Share, ...]
) -> RunSpec:
    """A run of one phase, on the trunk's schedule, from its own beginning."""
    phase = Phase("scratch", tokens, mixture, fallen(chosen, tokens, peak))
    return dataclasses.replace(base, phases=(phase,))


# Claims -----------------------------------------------------------------------------------------

SD_RATIO = 0.03  # of a seed's critical ratio at eps = .05: half widths of .07 in `cmr`, three seeds
SD_LOSS = 0.015  # of a difference of domain losses, nats: `cmr` has .012 of one
SD_SHAPE = 0.005  # within one trunk, nats: of a fall between horizons, of one ratio among others


def claims(told: Settings, asked: Sweep) -> "tuple[Claim, ...]":
    """The statements, and the smallest effect that matters: .05 in ratio, what 460 M and 940 M
    parameters are apart in the paper."""
    from fits.verdicts import Claim

    name, largest = _smallest(asked), _sizes(asked)[-1]
    far, near = f"far-{name}", f"near-{name}"
    last, first = f"after {max(told.horizons):,} tokens", f"after {min(told.horizons):,}"
    says = {
        "nearer_larger": "The domain that is nearer to the trunk has the larger critical ratio "
        f"{last}.",
        "grows_with_tokens": f"The far domain's critical ratio is larger {last} than {first} (Gu "
        "et al. 2024).",
        "grows_with_size": "The far domain's critical ratio is larger at the largest size than at "
        "the smallest (Gu et al. 2024).",
        "turning_point_passed": "At the critical ratio by tolerance the general loss still falls "
        "over the last half of continual pre-training, in both domains: the turning point does "
        "not bind.",
        "constant_trunk_larger": "Off a trunk whose rate never fell the critical ratio is larger, "
        "all else equal.",
        "reset_does_not_matter": "Resetting the optimizer at the branch point does not change the "
        "critical ratio.",
        "size_extrapolates": "A line in ln N through the smaller sizes predicts the critical ratio "
        "of the largest.",
        "tokens_extrapolate": "R_CMR = a T^s + b, fitted up to half the tokens, predicts the "
        "critical ratio at the last (Gu et al. 2024).",
        "ratio_law_predicts": "L = alpha R^s + beta predicts the far domain's loss at R = "
        f"{told.held_out_ratio:g} (Gu et al. 2024, Table 2).",
        "continuing_beats_scratch": "On domain text alone, continuing the trunk ends lower than as "
        "many tokens from scratch, in both domains.",
        "continuing_matches_union": f"The branch at R = {UNION:g} ends where a run from scratch on "
        "the union of the same texts ends (mean of general and domain loss; Ibrahim et al. 2024, "
        "2403.08763).",
    }
    seeds, longer = "more trunk seeds", "more trunk seeds, or longer branches"

    def ratio(called: str, sense: "Sense", *arms: str, by: str = seeds) -> "Claim":
        return Claim(called, says[called], sense, 0.05, "ratio", by, arms, SD_RATIO)

    def nats(
        called: str, sense: "Sense", m: float, sd: float, *arms: str, by: str = seeds
    ) -> "Claim":
        return Claim(called, says[called], sense, m, "nats", by, arms, sd)

    alone = [f"scratch-{role}-{name}" for role in DOMAINS]
    union = [f"union-{role}-{name}" for role in DOMAINS]
    return (
        ratio("nearer_larger", "more", far, near, by="more trunk seeds; more domains than two"),
        ratio("grows_with_tokens", "more", far, by=longer),
        ratio("grows_with_size", "more", far, f"far-{largest}", by="more trunk seeds of each size"),
        nats("turning_point_passed", "more", 0.01, SD_SHAPE, far, near, by=longer),
        ratio("constant_trunk_larger", "more", far, f"constant-{name}"),
        ratio("reset_does_not_matter", "same", far, f"reset-{name}"),
        ratio("size_extrapolates", "same", far, f"far-{largest}", by="more sizes, and more seeds"),
        ratio("tokens_extrapolate", "same", far),
        nats("ratio_law_predicts", "same", 0.01, SD_SHAPE, far),
        nats("continuing_beats_scratch", "more", 0.05, SD_LOSS, far, near, *alone, by=longer),
        nats("continuing_matches_union", "same", 0.05, SD_LOSS, far, near, *union, by=longer),
    )


def _sizes(asked: Sweep) -> list[str]:
    """Names of the sizes, ascending."""
    return [name.removeprefix("far-") for name in asked.arms if name.startswith("far-")]


def _smallest(asked: Sweep) -> str:
    return _sizes(asked)[0]


def later(told: Settings, asked: Sweep) -> tuple[str, ...]:
    """The largest size is predicted from the others before it is trained."""
    return tuple(f"{role}-{_sizes(asked)[-1]}" for role in DOMAINS)


def cautions(told: Settings, asked: Sweep) -> list[str]:
    """What this design cannot identify. Raises Refused if nothing can be read off it."""
    refuse_other_axes(asked, "cpt.ratio")
    if told.claims_eps not in told.eps:
        known = ", ".join(f"{one:g}" for one in told.eps)
        raise Refused(f"claims_eps = {told.claims_eps:g}: must be one of eps = {known}")
    if len({told.general, told.far, told.near}) < 3:
        raise Refused(f"general, far, near = {told.general}, {told.far}, {told.near}: must differ")
    if told.horizons != tuple(sorted(told.horizons)):
        raise Refused(f"horizons = {list(told.horizons)}: must ascend")
    said = [f"arm {name}: one trunk seed, so no verdict rests on it" for name in one_seed(asked)]
    for name, grid in asked.arms.items():
        if "cpt.ratio" not in grid.axes:
            continue
        ratios = [r for r in grid.axes["cpt.ratio"] if 0 < r < 1]
        if len(ratios) < 2:
            raise Refused(f"arm {name}: a critical ratio needs two values of cpt.ratio in (0, 1)")
        if 0.0 not in grid.axes["cpt.ratio"]:
            said.append(f"arm {name}: no control at R = 0")
    early = [h for h in told.horizons if 2 * h <= max(told.horizons)]
    if len(early) < 5:
        said.append(f"{len(early)} horizons up to half the last: R_CMR(T) is fitted through 5")
    return said


# What is believed before anything runs: one trunk (seed 100, which the study does not train) at
# 26,232 parameters, branches on code and docs off prose; seed noise as `cmr` measured it.
PRIOR = "prior: one seed tried at w24"
PRIOR_LAST = 983_040  # tokens of its last horizon
CRITICAL = {"a4": 2.65, "s4": 0.573, "b3": 0.127}  # far, at eps = .05; rms about it .014
CRITICAL_LAST = {"far": 0.252, "near": 0.318}
GENERAL = {"alpha": 0.467, "s": 1.98, "beta": 1.529}  # far, at the last horizon; nats


def foresees(told: Settings, asked: Sweep) -> Foreseen:
    """The laws of the smallest size, and where the critical ratios of each size will lie."""
    fits: list[Expected] = []
    places: list[Sought] = []
    last = max(told.horizons)
    for size in _sizes(asked):
        for role in DOMAINS:
            axes = asked.arms[f"{role}-{size}"].axes
            ratios = sorted(r for r in axes.get("cpt.ratio", ()) if 0 < r < 1)
            sd = SD_RATIO / math.sqrt(len(axes.get("seed", (0,))))
            what = f"{role}-{size}: critical ratio at {last:,} tokens, eps {told.claims_eps:g}"
            place = CRITICAL_LAST[role]
            places.append(Sought(what, place, sd, ratios[0], ratios[-1], PRIOR))
    axes = asked.arms[f"far-{_smallest(asked)}"].axes
    fewer = 1 / math.sqrt(len(axes.get("seed", (0,))))
    early = [h for h in told.horizons if 2 * h <= last]
    if len(early) >= 5:
        params = cmr.at_scale(CRITICAL, last / PRIOR_LAST)
        what = f"critical ratio against tokens, eps {told.claims_eps:g}, early horizons"
        points = {"cpt_tokens": early}
        fits.append(Expected(what, "cmr-critical", params, points, SD_RATIO * fewer, PRIOR))
    ratios = sorted(r for r in axes.get("cpt.ratio", ()) if 0 < r < 1)
    away = min(ratios, key=lambda ratio: abs(ratio - told.held_out_ratio))
    if len(ratios) >= 4:
        kept = {"ratio_domain": [ratio for ratio in ratios if ratio != away]}
        what = "general loss against ratio, far"
        fits.append(Expected(what, "cmr-ratio", GENERAL, kept, 0.006 * fewer, PRIOR))
    return Foreseen(tuple(fits), tuple(places))


# Read -------------------------------------------------------------------------------------------


def measured(results: "pd.DataFrame", told: Settings, asked: Sweep) -> "Measured":
    """The table by role: what evidence and predictions are read off."""
    from fits.critical_evidence import Measured

    name = _smallest(asked)
    arms = {role: [one for one in asked.arms if one.startswith(f"{role}-")] for role in DOMAINS}
    single = ("constant", "reset", *(f"{kind}-{role}" for kind in KINDS for role in DOMAINS))
    arms |= {role: [f"{role}-{name}"] for role in single}
    return Measured(
        results,
        told.general,
        {"far": told.far, "near": told.near},
        arms,
        told.horizons,
        told.claims_eps,
        told.eps,
        told.held_out_ratio,
    )


def held_back(asked: Sweep) -> int:
    """Parameters of the size that is trained last."""
    return flops.parameters(asked.arms[f"far-{_sizes(asked)[-1]}"].base.model).total


def predict(results: "pd.DataFrame", told: Settings, asked: Sweep) -> "pd.DataFrame":
    """The largest size, from the others. Raises Refused where nothing can be said of it."""
    from fits.critical_foretold import foretold

    seeds = len(asked.arms[later(told, asked)[0]].axes.get("seed", (0,)))
    return foretold(measured(results, told, asked), held_back(asked), seeds)


def read(results: "pd.DataFrame", told: Settings, asked: Sweep) -> "Findings":
    """Evidence for every claim, with the tables it stands on."""
    from fits.critical_findings import findings

    base = asked.arms[f"far-{_smallest(asked)}"].base
    trunk, branch = base.phases
    peak, end = trunk.schedule[0].to_lr or 0.0, trunk.schedule[-1].to_lr or 0.0
    rewarmed = branch.schedule[0].to_lr or 0.0
    notes = [
        f"Trunk's rate ends at {end / peak:g} of its peak (constant: at the peak); continual "
        f"pre-training goes to {rewarmed / peak:g} of it and holds; optimizer state is kept "
        "(reset: set to zero at the branch point). Runs from scratch warm to the peak, hold, and "
        f"fall to {end / peak:g} of it over their last fifth.",
        f"Evaluated on {told.windows} fixed windows of each corpus: intervals cover trunk seeds, "
        "not the choice of text, and two domains are two.",
    ]
    return findings(
        measured(results, told, asked),
        held_back(asked),
        branch.stage_tokens()[0],
        told.lam,
        UNION,
        notes,
    )


STUDY = Study(
    name="cmr_full",
    title="Critical mixture ratio, in full",
    question="Does the critical mixture ratio grow with tokens, size and nearness of the domain?",
    settings=settings,
    sweep=sweep,
    read=read,
    cautions=cautions,
    foresees=foresees,
    claims=claims,
    later=later,
    predict=predict,
)
