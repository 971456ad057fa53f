"""How much domain text can continual pre-training take before general loss rises?

The critical mixture ratio of Gu et al. (EMNLP 2024, arXiv 2407.17467): a trunk is trained on
general text, then continued on general + domain text at several domain shares R, at a constant rate
after a short rewarm. Or the trunk is yours: `lab adopt` it, then `--set trunks=DIGEST`.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lab.errors import Refused
from lab.spec import ModelSpec, RunSpec
from sweeps.adaptive_critical import critical_width
from sweeps.arms import refuse_other_axes
from sweeps.continual_runs import (
    RATIOS,
    Scale,
    branched,
    off_adopted,
    published_model,
    rates_note,
    small_model,
    trunks_alike,
)
from sweeps.foresight import Expected, Foreseen, Sought, named
from sweeps.grid import Grid
from sweeps.peak_rates import peak_rule
from sweeps.study import Study
from sweeps.sweep import Evaluations, Sweep

if TYPE_CHECKING:
    import pandas as pd

    from fits.continual import Growth
    from fits.critical_design import Prior
    from fits.report import Findings


@dataclass(frozen=True)
class Settings:
    """What the study can be told with --set. Horizons are in tokens of continual pre-training.

    `trunks` are digests that `lab adopt` printed: then no trunk is trained, and all branch off
    those, rewarmed to `rewarm_lr`. Trunks of one shape are units of one another.
    """

    general: str
    domain: str
    horizons: tuple[int, ...]
    eps: tuple[float, ...] = (0.0, 0.05)
    held_out_ratio: float = 1 / 3
    windows: int = 256
    per_octave: int = 1
    trunks: tuple[str, ...] = ()
    rewarm_lr: float = 0.0


def _tiny(width: int) -> tuple[ModelSpec, float]:
    """A size of scale tiny and its peak rate: by the rule, at the tokens of the trunk."""
    model = small_model(width, 2, 2, 64)
    return model, peak_rule("tiny").peak_lr(width, TINY_TRUNK * TINY_BATCH * model.context)


TINY_TRUNK, TINY_BATCH = 960, 32

SCALES = {
    "smoke": Scale(
        sizes=(
            ("w16", small_model(16, 1, 1, 32), 1e-2, 2),
            ("w24", small_model(24, 1, 1, 32), 8e-3, 1),
        ),
        batch=16,
        trunk=60,
        trunk_warm=10,
        rewarm=4,
        horizons=(8, 12, 16, 24, 32, 48),
        cpt_peak=0.5,  # so short a branch learns nothing at the paper's rate
        windows=64,
    ),
    "tiny": Scale(
        sizes=(
            ("w24", *_tiny(24), 3),
            ("w40", *_tiny(40), 1),
            ("w64", *_tiny(64), 1),
        ),
        batch=TINY_BATCH,
        trunk=TINY_TRUNK,
        trunk_warm=40,
        rewarm=16,
        horizons=(80, 120, 160, 240, 320, 480),
    ),
    "small": Scale(
        sizes=(
            ("5M", small_model(256, 6, 4, 512), 1e-3, 3),
            ("25M", small_model(512, 8, 8, 512), 6e-4, 1),
            ("100M", small_model(896, 10, 14, 512), 4e-4, 1),
        ),
        batch=128,
        trunk=30_000,
        trunk_warm=600,
        rewarm=100,
        horizons=(500, 1000, 1500, 2000, 3000, 4000, 6000),
        windows=1024,
    ),
    # Gu et al.: 100 k steps of 512 x 4096 tokens, peak 3e-4; then 10 k steps, warmed to 3e-5 and
    # constant. How the trunk's rate ends is not stated there.
    "paper": Scale(
        sizes=(
            ("460M", published_model(1024, 24), 3e-4, 1),
            ("940M", published_model(1536, 24), 3e-4, 1),
            ("1.6B", published_model(2048, 24), 3e-4, 1),
            ("3.1B", published_model(2560, 32), 3e-4, 1),
        ),
        batch=512,
        trunk=100_000,
        trunk_warm=2000,
        rewarm=100,
        horizons=(1250, 2500, 3750, 5000, 7500, 10_000),
        windows=2048,
    ),
}


def settings(scale: str) -> Settings:
    """The study's settings at a scale."""
    chosen = SCALES[scale]
    return Settings("prose+docs", "code", chosen.horizon_tokens, windows=chosen.windows)


def sweep(told: Settings, scale: str) -> Sweep:
    """One arm a size: trunk seeds x ratios; or one an adopted trunk: ratios."""
    chosen = SCALES[scale]
    arms = {}
    for start in told.trunks:
        corpora = (told.general, told.domain)
        base = off_adopted(chosen, start, told.rewarm_lr, *corpora, told.horizons)
        arms[f"adopted_{start[:8]}"] = Grid(base, {"cpt.ratio": RATIOS})
    for name, model, peak, seeds in chosen.sizes if not told.trunks else ():
        base = branched(chosen, model, peak, told.general, told.domain, told.horizons)
        arms[name] = Grid(base, {"seed": tuple(range(seeds)), "cpt.ratio": RATIOS})
    evaluate = Evaluations(
        (told.general, told.domain), told.windows, "cpt", told.horizons, told.per_octave
    )
    return Sweep("cmr", scale, arms, evaluate)


def cautions(told: Settings, asked: Sweep) -> list[str]:
    """What this design cannot identify. Raises Refused if nothing can be read off it."""
    refuse_other_axes(asked, "cpt.ratio")
    said: dict[str, list[str]] = {}  # caution -> arms
    for name, grid in asked.arms.items():
        ratios = [r for r in grid.axes.get("cpt.ratio", ()) if 0 < r < 1]
        if len(ratios) < 2:
            raise Refused(f"arm {name}: a critical ratio needs two values of cpt.ratio in (0, 1)")
        if grid.base.start and "seed" in grid.axes:
            raise Refused(
                "axis seed: branches off an adopted trunk are one unit, whatever the seed"
            )
        if trunks_alike(asked, grid) < 2:
            lack = "one trunk seed, so the critical ratio carries no interval"
            said.setdefault(lack, []).append(name)
        if len(ratios) < 4:
            lack = f"{len(ratios)} ratios in (0, 1); the ratio law needs 4"
            said.setdefault(lack, []).append(name)
        if 0.0 not in grid.axes.get("cpt.ratio", ()):
            said.setdefault("no control at R = 0", []).append(name)
    cautioned = [f"{named(arms)}: {lack}" for lack, arms in said.items()]
    if len(told.horizons) < 5:
        cautioned.append(f"{len(told.horizons)} horizons: R_CMR(T) is fitted through 5 or more")
    return cautioned


# What is believed before anything runs: what `lab run cmr` measured at its default scale, at 26,232
# parameters and a peak rate of 8e-3, before its rates came from `sweeps.peak_rates`.
# At eps = 0 critical ratios follow `cmr-critical`, at eps = .05 they do not move. Noise is that of
# one trunk seed, taken as independent from point to point (those of one curve are not quite).
# Other scales are believed to look alike, horizons counted in the longest one.
PRIOR = "prior: as at scale tiny"
PRIOR_LAST = 983_040  # tokens of that horizon there
CRITICAL = {"a4": 16.0, "s4": 0.803, "b3": 0.0565}  # at eps = 0
CRITICAL_LATE = 0.55  # at eps = .05
CRITICAL_SD = 0.024  # from half widths of .05 to .07, t over three trunk seeds
RATIO_LAWS = {  # parameters, nats of noise
    "general": ({"alpha": 0.222, "s": 1.90, "beta": 1.760}, 0.006),
    "domain": ({"alpha": -0.806, "s": 0.211, "beta": 2.617}, 0.012),
}
TOKEN_LAWS = {  # of ratios 1/8 (general) and 1/2 (domain), where most of it is identified
    "cmr-general-tokens": (
        {"a2": -0.696, "s2": 0.659, "a3": -140.0, "s3": 1.87, "b2": 0.0084},
        0.006,
    ),
    "cmr-domain-tokens": ({"a1": 0.260, "s1": -0.124, "b1": -0.912}, 0.012),
}


def foresees(told: Settings, asked: Sweep) -> Foreseen:
    """The fits and readings to come, once for arms with seeds, ratios and steps in common."""
    alike: dict[Any, list[str]] = {}
    for name, grid in asked.arms.items():
        seeds = trunks_alike(asked, grid)
        ratios = tuple(sorted(r for r in grid.axes.get("cpt.ratio", ()) if 0 < r < 1))
        alike.setdefault((seeds, ratios, _tokens_read(asked, grid.base)), []).append(name)
    longer = max(told.horizons) / PRIOR_LAST
    fits: list[Expected] = []
    places: list[Sought] = []
    for (seeds, ratios, tokens), names in alike.items():
        arms, fewer = tuple(names), 1 / seeds**0.5
        for eps in sorted({0.0, 0.05} & set(told.eps)):
            sought = [
                _critical_place(told, arms, ratios, horizon, eps, CRITICAL_SD * fewer)
                for horizon in sorted(told.horizons)
            ]
            places += sought
            within = [
                horizon
                for horizon, one in zip(sorted(told.horizons), sought, strict=True)
                if one.low <= one.place <= one.high
            ]
            if eps == 0 and len(within) >= 5:  # fewer are not fitted
                fits.append(
                    Expected(
                        "critical ratio against tokens, eps 0",
                        "cmr-critical",
                        at_scale(CRITICAL, longer),
                        {"cpt_tokens": within},
                        CRITICAL_SD * fewer,
                        PRIOR,
                        arms,
                    )
                )
        away = min(ratios, key=lambda ratio: abs(ratio - told.held_out_ratio))
        for whose, (params, noise) in RATIO_LAWS.items() if len(ratios) >= 4 else ():
            what, kept = f"{whose} loss against ratio", [r for r in ratios if r != away]
            points = {"ratio_domain": kept}
            fits.append(Expected(what, "cmr-ratio", params, points, noise * fewer, PRIOR, arms))
        for law, (params, noise) in TOKEN_LAWS.items():
            if len(tokens) > len(params):
                what, points = "change of loss, every ratio", {"cpt_tokens": tokens}
                params = at_scale(params, longer)
                fits.append(Expected(what, law, params, points, noise * fewer, PRIOR, arms))
    return Foreseen(tuple(fits), tuple(places))


def _critical_place(
    told: Settings,
    arms: tuple[str, ...],
    ratios: tuple[float, ...],
    horizon: int,
    eps: float,
    sd: float,
) -> Sought:
    from fits.laws import law

    place = CRITICAL_LATE
    if eps == 0:
        there = {"cpt_tokens": np.array([horizon * PRIOR_LAST / max(told.horizons)])}
        place = float(law("cmr-critical").predict(CRITICAL, there)[0])
    what, where = f"critical ratio, eps {eps:g},", f"at {horizon:,} tokens"
    return Sought(what, place, sd, ratios[0], ratios[-1], PRIOR, arms, where)


# What the rounds of --until start from. At eps > 0 the ratio law says how far the critical ratio
# moves: .544 at eps = .05, measured .558. Sd are believed as three more seeds would tell them; a
# branch departs by .001 nats over data seeds of one trunk, the rest is what the law is off.
PLACE_SD, ALPHA_SD, S_SD = 0.08, 0.08, 0.4
PRIOR_WEIGHT, BRANCH_SD = 3.0, 0.002


def _prior(told: Settings, eps: float) -> "Prior":
    from fits.critical_design import Prior
    from fits.laws import law

    longest = {"cpt_tokens": np.array([PRIOR_LAST])}
    at_zero = float(law("cmr-critical").predict(CRITICAL, longest)[0])
    general, seed_sd = RATIO_LAWS["general"]
    alpha, s = general["alpha"], general["s"]
    place = max(at_zero**s + eps / alpha, 0.0) ** (1 / s)
    place = min(max(place, RATIOS[1]), RATIOS[-2])
    return Prior(eps, place, PLACE_SD, alpha, ALPHA_SD, s, S_SD, seed_sd, PRIOR_WEIGHT, BRANCH_SD)


def at_scale(params: dict[str, float], longer: float) -> dict[str, float]:
    """Parameters of a law in tokens whose curve ends `longer` times as far out as the prior's."""
    return {
        name: value * longer ** -params[f"s{name[1:]}"] if name.startswith("a") else value
        for name, value in params.items()
    }


def _tokens_read(asked: Sweep, base: RunSpec) -> tuple[int, ...]:
    """Tokens of continual pre-training at which token laws get a point: behind the rewarm."""
    begun, rewarm = base.phase_start("cpt"), base.phases[-1].stage_tokens()[0]
    read_at = [(step - begun) * base.tokens_per_step for step in asked.evaluate.steps(base)]
    return tuple(tokens for tokens in read_at if tokens > rewarm)


def read(results: "pd.DataFrame", told: Settings, asked: Sweep) -> "Findings":
    """Critical ratios first; then the paper's laws."""
    from fits import continual
    from fits.figures import continual_figures
    from fits.report import Findings, Table

    table = continual.changes(results, "cpt", "cpt_ratio")
    here = sorted(h for h in told.horizons if h in set(table["tokens"]))
    last = here[-1]
    critical = continual.readings(table, told.general, sorted(told.horizons), told.eps)
    noise = continual.seed_noise(table, last)
    base = next(iter(asked.arms.values())).base
    rewarm = base.phases[-1].stage_tokens()[0]
    ratio_fits = continual.ratio_laws(table, last, told.held_out_ratio)
    token_fits = continual.token_laws(table, told.general, told.domain, rewarm)
    critical_fits, unfitted = continual.critical_laws(critical)
    figures = [continual_figures.general_loss_figure(table, told.general, told.eps)]
    if ratio_fits:
        figures.append(continual_figures.ratio_figure(ratio_fits, table, told.general, told.domain))
    grid = sorted(table["ratio"].unique())
    figures.append(continual_figures.critical_figure(critical, grid, critical_fits))
    general_sd = continual.pooled_sd(noise, told.general)
    eps = _headline_eps(critical, last)
    rise = continual.growth(table, told.general, here, eps)
    return Findings(
        headline=_headline(critical, eps, rise),
        tables=[
            Table(
                "critical ratio",
                "Largest domain share that keeps the change of general loss within eps, by "
                "monotone interpolation of the measured grid; interval: t over trunk seeds. "
                "control_change is that of R = 0, without any domain text.",
                critical,
                hidden=("critical_ratio", "low", "high", "censored"),  # text says them
            ),
            Table(
                "change and noise",
                f"Change of loss since the branch point after {last:,} tokens, against the R = 0 "
                "control, and its standard deviation over trunk seeds.",
                noise,
            ),
        ],
        fits=[*critical_fits, *ratio_fits, *token_fits],
        figures=figures,
        notes=[_seed_note(general_sd), *_notes(told, asked, table), *unfitted],
        readings={
            "critical": critical.replace({np.nan: None}).to_dict("records"),
            "noise": noise.replace({np.nan: None}).to_dict("records"),
            "sd_over_seeds_general": None if np.isnan(general_sd) else general_sd,
        },
    )


def _headline_eps(critical: "pd.DataFrame", last: int) -> float:
    """The smallest tolerance whose last reading lies within the grid, or the largest."""
    at_last = critical[critical["horizon_tokens"] == last]
    smallest = at_last[at_last["n_params"] == at_last["n_params"].min()]
    inside = smallest[smallest["censored"] == ""]["eps"]
    return float(inside.min() if len(inside) else critical["eps"].max())


def _headline(critical: "pd.DataFrame", eps: float, rise: "Growth | None") -> str:
    here = critical[critical["eps"] == eps]
    last = here[here["n_params"] == here["n_params"].min()].sort_values("horizon_tokens").iloc[-1]
    if last["interval"].startswith("<") and ">" in last["interval"]:
        return (
            f"The critical ratio at eps = {eps:g} after {last['horizon_tokens']:,} tokens, at "
            f"{last['n_params']:,} parameters, is not identified: its 95 % interval "
            f"({last['interval']}) is the whole grid of ratios."
        )
    harm = f"raises general loss by {eps:g} nats at most" if eps else "does not raise general loss"
    text = (
        f"A mixture with up to {last['reading']} domain text (95 % interval {last['interval']}) "
        f"{harm} after {last['horizon_tokens']:,} tokens, at {last['n_params']:,} parameters"
    )
    if rise is None:
        return f"{text}; whether it grows with the horizon cannot be said."
    verdict = "grew" if rise.low > 0 else "fell" if rise.high < 0 else "did not change measurably"
    return (
        f"{text}; since {rise.first_tokens:,} tokens it {verdict} (95 % interval of the change, "
        f"paired over {rise.units} trunk seeds: {rise.low:+.3f} .. {rise.high:+.3f})."
    )


def _seed_note(sd: float) -> str:
    if np.isnan(sd):
        return "Seed noise was not measured: every size has one trunk seed."
    return f"Change of general loss has sd {sd:.4f} nats over trunk seeds (pooled over ratios < 1)."


def _notes(told: Settings, asked: Sweep, table: "pd.DataFrame") -> list[str]:
    base = next(iter(asked.arms.values())).base
    seeds = table.groupby("n_params")["unit"].nunique()
    notes = [
        f"{rates_note(base)}. Critical ratios depend on all three.",
        f"Evaluated on {told.windows} fixed windows of each corpus: intervals cover trunk seeds, "
        "not the choice of text. Only one schedule, one pair of corpora.",
    ]
    if (seeds < 2).any():
        notes.append(
            "Sizes with one trunk seed have no interval, nor has the trend with size: read it "
            "as a hint."
        )
    return notes


STUDY = Study(
    name="cmr",
    title="Critical mixture ratio of continual pre-training",
    question="How much domain text can continual pre-training take before general loss rises?",
    settings=settings,
    sweep=sweep,
    read=read,
    cautions=cautions,
    foresees=foresees,
    targets={"cmr_width": critical_width(_prior)},
)
