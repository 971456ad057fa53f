"""How does loss fall with model size and data, and how should a budget be split between them?

The base law of Hoffmann et al. (2203.15556) by its three approaches on one table. Of every size and
seed one trunk is trained at a constant rate; at each horizon a linear cool-down branches off it
(Hägele et al., 2405.18392), so that all horizons share the trunk and every loss is a cooled one.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lab.errors import Refused
from lab.flops import parameters, train_flops_per_token
from lab.spec import ModelSpec, OptimizerSpec, Phase, RunSpec, Share, decay, hold, warm
from sweeps.foresight import Expected, Foreseen, Sought
from sweeps.grid import Grid
from sweeps.study import Study
from sweeps.sweep import Evaluations, Sweep

if TYPE_CHECKING:
    import pandas as pd

    from fits.base_law import Exponents
    from fits.report import Findings
    from fits.result import Fit
    from fits.verdicts import Claim, Evidence

LARGER = "larger"  # the arm that is predicted, written down, and only then run
FLOORS = {"markov": "synthetic-markov", "words": "synthetic-words"}  # arms -> text
RIVALS = ("chinchilla", "power-mean", "kaplan", "over-training")
KAPLAN = 0.73  # N* ~ C^.73 (2001.08361), without embeddings
CLOSEST = 1.2  # budgets nearer to each other are one to the IsoFLOP reading
HORIZON = "phases.0"  # a horizon changes length and schedule of the one phase together


@dataclass(frozen=True)
class Settings:
    """What the study can be told with --set.

    budgets: exact training FLOPs of a run of the grid, from which follow each size's tokens, as far
    as they lie within least..most; larger: those of the larger run; floors: tokens of the runs on
    synthetic text; share: of a run's tokens that are its cool-down; end: its last rate, of the peak.
    """

    corpus: str
    budgets: tuple[float, ...]
    larger: float
    floors: tuple[int, ...]
    least: int
    most: int
    share: float = 0.2
    end: float = 0.01
    windows: int = 256


@dataclass(frozen=True)
class Scale:
    """`floors`: widths, out of those of `models`, that are trained on synthetic text."""

    models: tuple[ModelSpec, ...]
    larger: ModelSpec
    floors: tuple[int, ...]
    seeds: int
    batch: int
    warm: int  # steps
    told: Settings


def peak_lr(width: int) -> float:
    """Peak rate of a width: .2 / width, the best of five rates tried at widths 24, 40 and 64."""
    return 0.2 / width


def _small(width: int, layers: int, heads: int, context: int) -> ModelSpec:
    mlp_width = -(-width * 8 // 3 // 8) * 8  # 8/3 of the width, to a multiple of 8
    return ModelSpec(width, layers, heads, mlp_width, context)


# All three texts together: 12.8 M training tokens, so that the smallest model is trained on 1200
# tokens a parameter and reads nothing twice. A law of N and D must not be one of repetition.
UNION = "prose+docs+code"

SCALES = {
    "smoke": Scale(
        models=tuple(_small(width, 1, 1, 32) for width in (8, 12, 16, 24)),
        larger=_small(32, 1, 1, 32),
        floors=(8, 16, 24),
        seeds=2,
        batch=16,
        warm=4,
        told=Settings(
            UNION, (1e9, 2e9, 4e9), 8e9, (8192, 16384, 32768), 6144, 10**6, windows=64
        ),
    ),
    "tiny": Scale(
        models=tuple(
            _small(width, 2, 1 if width < 24 else 2, 64) for width in (12, 16, 24, 32, 48, 64, 96)
        ),
        larger=_small(96, 2, 2, 64),
        floors=(16, 24, 32, 48),
        seeds=4,
        batch=32,
        warm=32,
        told=Settings(
            UNION,
            (5e10, 1e11, 2e11, 4e11, 8e11),
            3.2e12,
            (131072, 262144, 524288, 1048576, 2097152),
            200_000,
            12_000_000,
        ),
    ),
}


def settings(scale: str) -> Settings:
    """The study's settings at a scale."""
    return SCALES[scale].told


def sweep(told: Settings, scale: str) -> Sweep:
    """An arm a size: seeds x horizons; the larger run; sizes on synthetic text."""
    chosen = SCALES[scale]
    seeds = tuple(range(chosen.seeds))
    arms = {}
    for model in chosen.models:
        if tokens := _horizons(told, chosen, model):
            arms[f"w{model.width}"] = _arm(told, chosen, model, told.corpus, tokens, seeds)
    tokens = (_tokens(told.larger, chosen, chosen.larger),)
    arms[LARGER] = _arm(told, chosen, chosen.larger, told.corpus, tokens, seeds)
    for name, text in FLOORS.items():
        for model in chosen.models:
            if model.width in chosen.floors:
                arm = _arm(told, chosen, model, text, told.floors, seeds)
                arms[f"{name}-w{model.width}"] = arm
    evaluate = Evaluations((told.corpus, *FLOORS.values()), told.windows, "pretrain", ())
    return Sweep("chinchilla", scale, arms, evaluate)


def _tokens(budget: float, chosen: Scale, model: ModelSpec) -> int:
    """Tokens, in whole steps, on which a run of this size costs a budget."""
    step = chosen.batch * model.context
    return max(1, round(budget / train_flops_per_token(model) / step)) * step


def _horizons(told: Settings, chosen: Scale, model: ModelSpec) -> tuple[int, ...]:
    every = [_tokens(budget, chosen, model) for budget in sorted(told.budgets)]
    return tuple(tokens for tokens in every if told.least <= tokens <= told.most)


def _arm(
    told: Settings,
    chosen: Scale,
    model: ModelSpec,
    corpus: str,
    horizons: tuple[int, ...],
    seeds: tuple[int, ...],
) -> Grid:
    phases = tuple(_phase(told, chosen, model, corpus, tokens) for tokens in horizons)
    base = RunSpec(model, OptimizerSpec(), phases[:1], seed=0, batch=chosen.batch)
    return Grid(base, {"seed": seeds, HORIZON: phases})


def _phase(told: Settings, chosen: Scale, model: ModelSpec, corpus: str, tokens: int) -> Phase:
    """A trunk at a constant rate, and its cool-down over the last share of the tokens."""
    step, peak = chosen.batch * model.context, peak_lr(model.width)
    if not 0 < told.share < 1:
        raise Refused(f"share = {told.share}: must lie between 0 and 1")
    cool = max(1, round(told.share * tokens / step)) * step
    if tokens - cool <= chosen.warm * step:
        raise Refused(
            f"{tokens} tokens less {cool} of the cool-down: must be more than the "
            f"{chosen.warm * step} of the warm-up"
        )
    schedule = warm(chosen.warm * step, peak), hold(), decay(cool, told.end * peak)
    return Phase("pretrain", tokens, (Share(corpus, 1.0),), schedule)
