"""Does the best peak rate move with width, and does muP keep it where it is?

Under the standard parametrisation the best rate of AdamW falls with width; under muP it should stay
(Yang et al., 2203.03466), so that a rate tuned at a small width holds at a large one. Widths of
either kind are trained on one grid of rates, so that a rate copied from the smallest width to the
largest is one that was tried there. A coordinate check (`lab.coordinate_check`) does not answer
this: transfer can fail although it passes. Runs of different rates share no trunk.

The best rate also falls with the length of training. So some widths are trained longer, too, in the
standard parametrisation: the trunks go on, and cool down later. Both lengths together give the rule
by which other studies take their rates (`sweeps.peak_rates`).
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.errors import Refused
from lab.spec import ModelSpec, OptimizerSpec, Phase, RunSpec, Share, decay, hold, warm
from sweeps.arms import one_seed, refuse_other_axes
from sweeps.foresight import Foreseen, Sought
from sweeps.grid import Grid
from sweeps.peak_rates import peak_rule
from sweeps.study import Study
from sweeps.sweep import Evaluations, Sweep

if TYPE_CHECKING:
    import pandas as pd

    from fits.report import Findings
    from fits.verdicts import Claim

RATE = "pretrain.peak_lr"
STANDARD, MUP = KINDS = ("standard", "mup")
LONGER = "longer"  # the end of the name of arms that are trained longer
MATTERS = 0.25  # of an exponent: over a factor 16 of width the best rate moves by an octave
MATTERS_NATS = 0.01
FEW_RATES = 5  # a curve with fewer can hardly have its best inside and a parabola through it


@dataclass(frozen=True)
class Settings:
    """What the study can be told with --set.

    rates: peak rates tried at every width; under muP they are those of the smallest. tokens: of a
    run; longer: of a longer run; share: of these that are the linear cool-down to a rate of 0.
    """

    corpus: str
    rates: tuple[float, ...]
    tokens: int
    longer: int
    share: float = 0.2
    windows: int = 256


@dataclass(frozen=True)
class Scale:
    """Models of the standard parametrisation, the smallest the base of muP.

    longer: widths that are trained longer, too; longer_seeds: seeds of these.
    """

    models: tuple[ModelSpec, ...]
    longer: tuple[int, ...]
    seeds: int
    longer_seeds: int
    batch: int
    warm: int  # steps
    told: Settings


def _model(width: int, layers: int, heads: int, context: int, vocabulary: int = 256) -> ModelSpec:
    """Widths are whole threes: the MLP is 8/3 of each exactly, as muP takes F / D as constant."""
    return ModelSpec(width, layers, heads, width * 8 // 3, context, vocabulary)


def _octaves(highest: int, count: int) -> tuple[float, ...]:
    return tuple(2.0**-k for k in range(highest, highest + count))


SCALES = {
    "smoke": Scale(
        models=tuple(_model(width, 1, 1, 32) for width in (12, 24, 48)),
        longer=(12, 24, 48),
        seeds=2,
        longer_seeds=2,
        batch=16,
        warm=8,
        told=Settings("prose", _octaves(3, 7), 49_152, 98_304, windows=64),
    ),
    # Layers, heads, context and batch are those of the sizes of `chinchilla`, which take the rule.
    "tiny": Scale(
        models=tuple(_model(width, 2, 2, 64) for width in (12, 24, 48, 96)),
        longer=(12, 24, 48),
        seeds=6,
        longer_seeds=4,
        batch=32,
        warm=32,
        told=Settings("prose", _octaves(3, 8), 458_752, 1_835_008),
    ),
    "small": Scale(
        models=tuple(_model(width, 4, width // 48, 512) for width in (96, 192, 384, 768)),
        longer=(96, 192, 384),
        seeds=3,
        longer_seeds=2,
        batch=128,
        warm=200,
        told=Settings("prose", _octaves(6, 8), 131_072_000, 524_288_000, windows=1024),
    ),
    # The largest has the 1.2 B parameters, and every run the 33 B tokens, of the ablations of
    # Lingle 2024 (2404.05728); other details are ours.
    "paper": Scale(
        models=tuple(_model(width, 24, width // 96, 256, 32_000) for width in (192, 576, 1920)),
        longer=(192, 576),
        seeds=3,
        longer_seeds=2,
        batch=1024,
        warm=2000,
        told=Settings("prose", _octaves(7, 8), 32_768_000_000, 131_072_000_000, windows=2048),
    ),
}


def settings(scale: str) -> Settings:
    """The study's settings at a scale."""
    return SCALES[scale].told


def sweep(told: Settings, scale: str) -> Sweep:
    """An arm a parametrisation and width, and one a width trained longer: seeds x peak rates."""
    chosen = SCALES[scale]
    if told.longer <= told.tokens:
        raise Refused(f"longer = {told.longer}: must be more than tokens = {told.tokens}")
    base = chosen.models[0]
    arms = {}
    for model in chosen.models:
        arms[f"{STANDARD}-w{model.width}"] = _arm(told, chosen, model, told.tokens, chosen.seeds)
    for model in chosen.models:
        if model.width in chosen.longer:
            arm = _arm(told, chosen, model, told.longer, chosen.longer_seeds)
            arms[f"{STANDARD}-w{model.width}-{LONGER}"] = arm
    for model in chosen.models:
        model = _mup(model, base)
        arms[f"{MUP}-w{model.width}"] = _arm(told, chosen, model, told.tokens, chosen.seeds)
    evaluate = Evaluations((told.corpus,), told.windows, "pretrain", ())
    return Sweep("lr_transfer", scale, arms, evaluate)


def _mup(model: ModelSpec, base: ModelSpec) -> ModelSpec:
    named = {"parametrisation": MUP, "base_width": base.width, "base_heads": base.heads}
    return ModelSpec(**{**vars(model), **named})


def _arm(told: Settings, chosen: Scale, model: ModelSpec, tokens: int, seeds: int) -> Grid:
    phase = _phase(told, chosen, model, tokens)
    run = RunSpec(model, OptimizerSpec(), (phase,), seed=0, batch=chosen.batch)
    return Grid(run, {"seed": tuple(range(seeds)), RATE: told.rates})


def _phase(told: Settings, chosen: Scale, model: ModelSpec, tokens: int) -> Phase:
    """Warmed, held, and cooled over the last share of the tokens."""
    step = chosen.batch * model.context
    if not 0 < told.share < 1:
        raise Refused(f"share = {told.share}: must lie between 0 and 1")
    cool = max(1, round(told.share * tokens / step)) * step
    if tokens - cool <= chosen.warm * step:
        raise Refused(
            f"tokens = {tokens}, less {cool} of the cool-down: must be more than the "
            f"{chosen.warm * step} of the warm-up"
        )
    schedule = warm(chosen.warm * step, told.rates[0]), hold(), decay(cool, 0.0)
    return Phase("pretrain", tokens, (Share(told.corpus, 1.0),), schedule)


def _places(asked: Sweep) -> dict[str, tuple[str, int, int]]:
    """Arm -> (parametrisation, width, tokens of a run)."""
    bases = {name: grid.base for name, grid in asked.arms.items()}
    return {
        name: (run.model.parametrisation, run.model.width, run.phases[0].tokens)
        for name, run in bases.items()
    }


def _widths(asked: Sweep) -> tuple[int, int]:
    """The smallest, which is the base, and the largest."""
    widths = [width for _, width, _ in _places(asked).values()]
    return min(widths), max(widths)


def cautions(told: Settings, asked: Sweep) -> list[str]:
    """What this design cannot identify. Raises Refused if nothing can be read off it."""
    refuse_other_axes(asked, RATE)
    said = []
    for name, grid in asked.arms.items():
        rates = sorted(grid.axes.get(RATE, ()))
        if len(rates) < 3:
            raise Refused(f"arm {name}: a parabola needs three values of {RATE}")
        if len(rates) < FEW_RATES:
            said.append(f"{name}: {len(rates)} rates, the best will hardly lie inside")
        kind, width, tokens = _places(asked)[name]
        by_rule = peak_rule(asked.scale).peak_lr(width, tokens)
        if kind == STANDARD and not rates[0] <= by_rule <= rates[-1]:
            said.append(f"{name}: the rule's rate {by_rule:.3g} lies beyond those tried")
    if single := one_seed(asked):
        said.append(f"one seed, so no interval over seeds: {', '.join(single)}")
    return said


# What is believed before anything runs: of a probe at scale tiny, with one seed, 262,144 tokens and
# widths 24 to 96, at the smallest of these; noise and exponents are guesses. That of tokens was
# guessed when the runs of one length were known.
PROBED_RATE, PROBED_WIDTH = 0.02, 24
EXPONENTS = {STANDARD: -1.0, MUP: 0.0}
TOKENS_EXPONENT = -0.4
SD_OCTAVES = 0.3  # of a best rate over seeds


def foresees(told: Settings, asked: Sweep) -> Foreseen:
    """Where the best rates will lie among those tried."""
    base, _ = _widths(asked)
    places = []
    for name, (kind, width, tokens) in _places(asked).items():
        rates = asked.arms[name].axes.get(RATE, told.rates)
        at_base = PROBED_RATE * (base / PROBED_WIDTH) ** EXPONENTS[STANDARD]
        best = at_base * (width / base) ** EXPONENTS[kind]
        best *= (tokens / told.tokens) ** TOKENS_EXPONENT
        ends = math.log2(min(rates)), math.log2(max(rates))
        prior = "prior: a probe at scale tiny, and that muP holds"
        places.append(
            Sought("log2 of the best rate", math.log2(best), SD_OCTAVES, *ends, prior, (name,))
        )
    return Foreseen((), tuple(places))


def claims(told: Settings, asked: Sweep) -> "tuple[Claim, ...]":
    """The statements, each with the smallest effect that matters; spreads are those believed."""
    from fits.verdicts import Claim

    places = _places(asked)
    mup = tuple(name for name in places if places[name][0] == MUP)
    longer = tuple(name for name in places if name.endswith(LONGER))
    standard = tuple(name for name in places if name not in (*mup, *longer))
    every = (*standard, *mup)
    base, largest = _widths(asked)
    wider, wider_yet = "a wider range of widths", "a wider range of lengths, more seeds"
    finer = "closer rates, or longer runs"
    p, nats = "of the exponent", "nats"
    said = {
        "standard": "under the standard parametrisation the best rate falls with width",
        "mup": "under muP the best rate does not move with width",
        "less": "muP moves the best rate less than the standard parametrisation",
        "copied": f"the best rate of width {base}, copied to {largest}, costs less under muP",
        "length": "under the standard parametrisation the best rate falls with length of training",
        "rule": f"the rule {peak_rule(asked.scale)} costs nothing at the worst width and length",
    }
    # the sd of an exponent is that of SD_OCTAVES at widths 12, 24, 48, 96
    return (
        Claim("standard", said["standard"], "more", MATTERS, p, wider, standard, 0.13),
        Claim("mup", said["mup"], "same", MATTERS, p, wider, mup, 0.13),
        Claim("less", said["less"], "more", MATTERS, p, wider, every, 0.18),
        Claim("copied", said["copied"], "more", MATTERS_NATS, nats, finer, every, 0.02),
        Claim("length", said["length"], "more", MATTERS, p, wider_yet, (*standard, *longer), 0.1),
        Claim("rule", said["rule"], "same", MATTERS_NATS, nats, finer, (*standard, *longer), 0.01),
    )


def read(results: "pd.DataFrame", told: Settings, asked: Sweep) -> "Findings":
    """Best rates by width under either parametrisation, and what a copied rate costs."""
    from fits.rate_transfer import rate_ends
    from fits.rate_transfer_findings import findings

    base = next(iter(asked.arms.values())).base
    ends = rate_ends(results, _places(asked), told.corpus)
    notes = [
        f"Runs read {told.tokens:,} tokens of {told.corpus}, {base.steps} steps of {base.batch} x "
        f"{base.model.context}, and longer ones {told.longer:,}; the rate is warmed over "
        f"{base.steps_in(base.phases[0].schedule[0].tokens or 0)} steps, held, and falls to 0 over "
        f"the last {told.share:.0%}. The best rate also depends on batch and schedule: one of each "
        "is measured here. Where nothing else is said, runs are of the shorter length.",
        f"Depth and context are the same at every width; heads are of {_heads(asked)} channels.",
        f"Evaluated on {told.windows} fixed windows: intervals cover seeds, not the text's choice.",
    ]
    rule = peak_rule(asked.scale)
    return findings(ends, _widths(asked), rule.peak_lr, str(rule), told.corpus, notes)


def _heads(asked: Sweep) -> str:
    """Channels a head, by width where they differ."""
    models = [grid.base.model for grid in asked.arms.values()]
    channels = sorted({model.width // model.heads for model in models})
    return ", ".join(map(str, channels))


STUDY = Study(
    name="lr_transfer",
    title="The best rate against width, with and without muP",
    question="Does the best learning rate move with width, and does muP keep it where it is?",
    settings=settings,
    sweep=sweep,
    read=read,
    cautions=cautions,
    foresees=foresees,
    claims=claims,
)
