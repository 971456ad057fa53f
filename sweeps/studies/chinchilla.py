"""How does loss fall with model size and data, and how should a budget be split between them?

The base law of Hoffmann et al. (2203.15556) by its three approaches on one table. Of every size and
seed one trunk is trained at a constant rate; at each horizon a linear cool-down branches off it
(Hägele et al., 2405.18392), so that all horizons share the trunk and every loss is a cooled one.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lab.corpora import own_tokenizer
from lab.errors import Refused
from lab.flops import parameters, train_flops_per_token
from lab.spec import ModelSpec, OptimizerSpec, Phase, RunSpec, Share, decay, hold, warm
from sweeps.arms import one_seed, refuse_other_axes
from sweeps.foresight import Expected, Foreseen, Sought
from sweeps.grid import Grid
from sweeps.peak_rates import peak_rule
from sweeps.study import Study
from sweeps.sweep import Evaluations, Sweep
from sweeps.vocabulary import fitted

if TYPE_CHECKING:
    import pandas as pd

    from fits.report import Findings
    from fits.verdicts import Claim

LARGER = "larger"  # the arm that is predicted, written down, and only then run
FLOORS = {"markov": "synthetic-markov", "words": "synthetic-words"}  # arms -> text
RIVALS = ("chinchilla", "power-mean", "kaplan", "over-training")
KAPLAN = 0.73  # N* ~ C^.73 (2001.08361), without embeddings
CLOSEST = 1.2  # budgets nearer to each other are one to the IsoFLOP reading
HORIZON = "phases.0"  # a horizon changes length and schedule of the one phase together


@dataclass(frozen=True)
class Settings:
    """What the study can be told with --set.

    budgets: training FLOPs of a run of the grid, attention and head counted, from which follow the
    tokens of each size, as far as they lie within least..most; larger: those of the larger run;
    floors: tokens of the runs on synthetic text; share: of a run's tokens that are its cool-down;
    end: its last rate, of the peak.
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


def _model(width: int, layers: int, heads: int, context: int, vocabulary: int = 256) -> ModelSpec:
    mlp_width = -(-width * 8 // 3 // 8) * 8  # 8/3 of the width, to a multiple of 8
    return ModelSpec(width, layers, heads, mlp_width, context, vocabulary)


# All three texts together, 13.5 M training tokens: the longest runs at tiny read 7.2 M, half of
# them. Prose alone would be read twice, and a law of N and D must not be one of repetition.
UNION = "prose+docs+code"

TINY_FLOORS = (524_288, 851_968, 1_343_488, 2_097_152)
TINY_BUDGETS = (1e11, 1.6e11, 2.5e11, 4e11, 6.4e11, 1e12)
SMALL_SIZES = ((128, 4), (192, 4), (256, 6), (384, 6), (512, 8), (640, 8))
SMALL_BUDGETS = (1e15, 2e15, 4e15, 8e15, 1.6e16, 3.2e16)
# The nine budgets of section 3.2 of the paper, sizes within its range, and as the larger run
# Chinchilla itself (70 B, 5.76e23 FLOPs).
PAPER_SIZES = ((640, 10), (1024, 16), (1536, 19), (2048, 24), (2560, 32), (3584, 34), (5120, 30))
PAPER_BUDGETS = (6e18, 1e19, 3e19, 6e19, 1e20, 3e20, 6e20, 1e21, 3e21)

SCALES = {
    "smoke": Scale(
        models=tuple(_model(width, 1, 1, 32) for width in (8, 12, 16, 24)),
        larger=_model(32, 1, 1, 32),
        floors=(8, 16, 24),
        seeds=2,
        batch=16,
        warm=4,
        told=Settings(UNION, (1e9, 2e9, 4e9), 8e9, (8192, 16384, 32768), 6144, 10**6, windows=64),
    ),
    "tiny": Scale(
        models=tuple(_model(w, 2, 1 if w < 24 else 2, 64) for w in (8, 12, 16, 24, 32, 48, 64)),
        larger=_model(80, 2, 2, 64),
        floors=(12, 16, 24, 32),
        seeds=5,
        batch=32,
        warm=32,
        told=Settings(UNION, TINY_BUDGETS, 4e12, TINY_FLOORS, 300_000, 8_000_000),
    ),
    "small": Scale(
        models=tuple(_model(width, layers, width // 64, 512) for width, layers in SMALL_SIZES),
        larger=_model(896, 10, 14, 512),
        floors=(),
        seeds=3,
        batch=128,
        warm=500,
        told=Settings(UNION, SMALL_BUDGETS, 2.5e17, (), 66_000_000, 10**10, windows=1024),
    ),
    "paper": Scale(
        models=tuple(
            _model(width, layers, width // 64, 2048, 32_000) for width, layers in PAPER_SIZES
        ),
        larger=_model(8192, 80, 64, 2048, 32_000),
        floors=(),
        seeds=1,
        batch=256,
        warm=1500,
        told=Settings(UNION, PAPER_BUDGETS, 5.76e23, (), 10**9, 10**12, windows=2048),
    ),
}


def settings(scale: str) -> Settings:
    """The study's settings at a scale."""
    return SCALES[scale].told


def sweep(told: Settings, scale: str) -> Sweep:
    """An arm a size: seeds x horizons; the larger run; sizes on synthetic text.

    Synthetic text is bytes: a corpus with another tokenizer goes without.
    """
    chosen = SCALES[scale]
    if own_tokenizer(told.corpus) is not None:  # a run's cost, and so its tokens, follow from it
        models = tuple(fitted(model, told.corpus) for model in chosen.models)
        larger = fitted(chosen.larger, told.corpus)
        chosen = replace(chosen, models=models, larger=larger, floors=())
    arms = {}
    for model in chosen.models:
        if tokens := _horizons(told, chosen, model):
            arms[f"w{model.width}"] = _arm(told, scale, model, told.corpus, tokens)
    tokens = (_tokens(told.larger, chosen, chosen.larger),)
    arms[LARGER] = _arm(told, scale, chosen.larger, told.corpus, tokens)
    for name, text in FLOORS.items():
        for model in chosen.models:
            if model.width in chosen.floors:
                arms[f"{name}-w{model.width}"] = _arm(told, scale, model, text, told.floors)
    texts = FLOORS.values() if chosen.floors else ()
    evaluate = Evaluations((told.corpus, *texts), told.windows, "pretrain", ())
    return Sweep("chinchilla", scale, arms, evaluate)


def _tokens(budget: float, chosen: Scale, model: ModelSpec) -> int:
    """Tokens, in whole steps, on which a run of this size costs a budget."""
    step = chosen.batch * model.context
    return max(1, round(budget / train_flops_per_token(model) / step)) * step


def _horizons(told: Settings, chosen: Scale, model: ModelSpec) -> tuple[int, ...]:
    every = [_tokens(budget, chosen, model) for budget in sorted(told.budgets)]
    return tuple(tokens for tokens in every if told.least <= tokens <= told.most)


def _arm(
    told: Settings, scale: str, model: ModelSpec, corpus: str, horizons: tuple[int, ...]
) -> Grid:
    """Horizons share a trunk and so its rate: that of the rule at their geometric mean."""
    chosen = SCALES[scale]
    peak = peak_rule(scale).peak_lr(model.width, float(np.exp(np.mean(np.log(horizons)))))
    phases = tuple(_phase(told, chosen, model, corpus, tokens, peak) for tokens in horizons)
    base = RunSpec(model, OptimizerSpec(), phases[:1], seed=0, batch=chosen.batch)
    return Grid(base, {"seed": tuple(range(chosen.seeds)), HORIZON: phases})


def _phase(
    told: Settings, chosen: Scale, model: ModelSpec, corpus: str, tokens: int, peak: float
) -> Phase:
    """A trunk at a constant rate, and its cool-down over the last share of the tokens."""
    step = chosen.batch * model.context
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


def _arms(asked: Sweep, text: str = "") -> list[str]:
    """Arms of the grid, or those on a synthetic text (markov, words)."""
    return [name for name in asked.arms if name != LARGER and name.rpartition("-")[0] == text]


def cautions(told: Settings, asked: Sweep) -> list[str]:
    """What this design cannot identify. Raises Refused if nothing can be read off it."""
    refuse_other_axes(asked, HORIZON)
    said = []
    if single := one_seed(asked):
        said.append(f"one trunk seed, so no interval over seeds: {', '.join(single)}")
    budgets = sorted(told.budgets)
    for low, high in itertools.pairwise(budgets):
        if high < CLOSEST * low:
            raise Refused(f"budgets {low:g} and {high:g}: must be a factor {CLOSEST} apart")
    places = [(name, phase) for name in _arms(asked) for phase in _phases(asked, name)]
    if len(places) < 6:
        raise Refused(f"{len(places)} places of N and D: the law has 5 parameters and needs 6")
    if len(_arms(asked)) < 5:
        said.append(
            f"{len(_arms(asked))} sizes: an envelope needs 3 between the smallest and largest"
        )
    if len(budgets) < 3:
        said.append(f"{len(budgets)} budgets: the IsoFLOP reading needs 3")
    return said


def _phases(asked: Sweep, arm: str) -> tuple[Phase, ...]:
    """One phase a horizon."""
    return tuple(dict.fromkeys(run.phases[0] for _, run in asked.arms[arm].points()))


# What is believed before anything runs. At smoke and tiny: a probe at scale tiny with one seed, of
# 14,928 to 133,440 parameters and .25 to 2.6 M tokens (11 runs; 4 on each synthetic text, whose E
# is taken to be the truth); beyond, the refit of 2404.10102. Noise is relative, of one seed.
PROBED = {"E": 1.505, "A": 7333.0, "B": 10645.0, "alpha": 1.05, "beta": 0.753}
REFIT = {"E": 1.817, "A": 477.8, "B": 2143.9, "alpha": 0.3473, "beta": 0.3672}
NOISE = 0.005
FLOOR_LAWS = {
    "markov": ({"E": 2.397, "A": 9.98e6, "B": 3.6e4, "alpha": 1.92, "beta": 1.0}, 0.005),
    "words": ({"E": 0.944, "A": 7930.0, "B": 767.0, "alpha": 1.036, "beta": 0.5}, 0.02),
}
TOKENS_A_PARAMETER = 20  # of the line that a grid is held against


def foresees(told: Settings, asked: Sweep) -> Foreseen:
    """The laws to come; beside the grid a line at D = 20 N, which cannot tell size from data."""
    law, prior = PROBED, "prior: a probe at scale tiny"
    if asked.scale not in ("smoke", "tiny"):
        law, prior = REFIT, "prior: the refit of 2404.10102"
    seeds = min(len(asked.arms[name].axes.get("seed", (0,))) for name in _arms(asked))
    fewer = 1 / seeds**0.5
    points = _points(asked, _arms(asked))
    sizes = points["n_params"]
    line = {"n_params": sizes, "n_tokens": [TOKENS_A_PARAMETER * size for size in sizes]}
    other = f"not run, for comparison: as many runs on the line D = {TOKENS_A_PARAMETER} N"
    fits = [
        Expected("the grid", "chinchilla", law, points, NOISE * fewer, prior),
        Expected(other, "chinchilla", law, line, NOISE * fewer, prior),
    ]
    for name, (floor, noise) in FLOOR_LAWS.items():
        if arms := _arms(asked, name):
            places, what = _points(asked, arms), f"E on {FLOORS[name]}"
            fits.append(Expected(what, "chinchilla", floor, places, noise * fewer, prior))
    return Foreseen(tuple(fits), tuple(_sought(told, asked, law, prior)))


def _points(asked: Sweep, arms: list[str]) -> dict[str, list[float]]:
    places = [
        (float(parameters(asked.arms[name].base.model).total), float(phase.tokens))
        for name in arms
        for phase in _phases(asked, name)
    ]
    return {"n_params": [n for n, _ in places], "n_tokens": [d for _, d in places]}


def _sought(told: Settings, asked: Sweep, law: dict[str, float], prior: str) -> Iterator[Sought]:
    """The optimal ln N of each budget, within the sizes that are trained on it."""
    alpha, beta = law["alpha"], law["beta"]
    for budget in sorted(told.budgets):
        sizes = []
        for name in _arms(asked):
            model = asked.arms[name].base.model
            costs = [train_flops_per_token(model) * one.tokens for one in _phases(asked, name)]
            if any(budget / CLOSEST < cost < budget * CLOSEST for cost in costs):
                sizes.append(float(np.log(parameters(model).total)))
        if len(sizes) > 2:
            best = np.log(alpha * law["A"] / (beta * law["B"])) + beta * np.log(budget / 6)
            what, place = f"ln N* at {budget:g} FLOPs", float(best / (alpha + beta))
            yield Sought(what, place, 0.1, min(sizes), max(sizes), prior)


def claims(told: Settings, asked: Sweep) -> "tuple[Claim, ...]":
    """The statements, each with the smallest effect that matters; spreads are those believed."""
    from fits.verdicts import Claim

    grid = tuple(_arms(asked))
    times = told.larger / max(told.budgets)
    said = f"the law predicts the loss of one run of {times:.2g} times the largest budget fitted"
    form = "another form of law, or runs nearer to the larger one"
    kaplan = f"a of N* ~ C^a lies below Kaplan's {KAPLAN}, N counted without embeddings as there"
    wider = "a wider range of budgets, more sizes at each"
    floors = {
        "markov": ("E on the Markov chain is the least loss that can be reached", 0.01),
        "words": ("E on random words is the least loss that a window allows", 0.1),
    }
    nearer = "runs nearer to the floor: E is extrapolated to no end of N and D"
    return (
        Claim(LARGER, said, "same", 0.01, "of the loss", form, (*grid, LARGER), 0.004),
        *(
            Claim(one, f"a by the {text} is a by the law", "same", 0.05, "of a", wider, grid, 0.03)
            for one, text in (("isoflop", "IsoFLOP curves"), ("envelope", "envelope of curves"))
        ),
        Claim("kaplan", kaplan, "more", 0.05, "of a", wider, grid, 0.02),
        *(
            Claim(name, text, "same", 0.05, "nats", nearer, arms, sd)
            for name, (text, sd) in floors.items()
            if (arms := tuple(_arms(asked, name)))
        ),
    )


def predict(results: "pd.DataFrame", told: Settings, asked: Sweep) -> "pd.DataFrame":
    """What the laws say of the larger run, from the grid alone. Raises Refused."""
    from fits.base_law import predictions

    size, tokens = _larger(asked)
    return predictions(_ends(results, told, _arms(asked)), RIVALS, size, tokens, LARGER)


def _larger(asked: Sweep) -> tuple[float, float]:
    """N and D of the larger run."""
    base = asked.arms[LARGER].base
    return float(parameters(base.model).total), float(base.phases[0].tokens)


def _ends(results: "pd.DataFrame", told: Settings, arms: list[str], text: str = "") -> Any:
    from fits.base_law import cooled_ends

    return cooled_ends(results[results["arm"].isin(arms)], text or told.corpus)


def read(results: "pd.DataFrame", told: Settings, asked: Sweep) -> "Findings":
    """The law and its three approaches; what came of the larger run; the floors."""
    from fits.base_law_findings import findings
    from fits.errors import Refused as TooLittle
    from lab.ideal import known_floor

    grid = _ends(results, told, _arms(asked))
    try:
        larger = _ends(results, told, [LARGER])
    except TooLittle:  # it waits for its prediction
        larger = None
    floors = {}
    for name, text in FLOORS.items():
        if arms := _arms(asked, name):
            context = asked.arms[arms[0]].base.model.context
            known = known_floor(text, told.windows, context)
            floors[name] = (_ends(results, told, arms, text), *known)
    base = next(iter(asked.arms.values())).base
    notes = [
        f"Every loss is that of a run cooled down linearly over its last {told.share:.0%} to "
        f"{told.end:g} of its peak rate, which is {peak_rule(asked.scale)} at the geometric mean "
        f"of a size's horizons, which share a trunk; batch {base.batch} x "
        f"{base.model.context} tokens whatever the size and horizon. Neither rate nor batch was "
        "tuned along the grid: exponents are those of this recipe.",
        f"Evaluated on {told.windows} fixed windows: intervals cover seeds, not the choice of "
        f"text. N counts embedding and head unless said otherwise; C is {_per_param_token(asked)} "
        "N D here, attention and head counted.",
    ]
    return findings(grid, larger, floors, RIVALS, KAPLAN, told.corpus, LARGER, notes)


def _per_param_token(asked: Sweep) -> str:
    """k of C = k N D over the sizes of the grid."""
    models = [asked.arms[name].base.model for name in _arms(asked)]
    k = sorted(train_flops_per_token(one) / parameters(one).total for one in models)
    return f"{k[0]:.2f}" if k[-1] - k[0] < 0.005 else f"{k[0]:.2f} to {k[-1]:.2f}"


STUDY = Study(
    name="chinchilla",
    title="The base law: loss in size and data",
    question="How does loss fall with model size and data, and how should a budget be split?",
    settings=settings,
    sweep=sweep,
    read=read,
    cautions=cautions,
    foresees=foresees,
    claims=claims,
    later=lambda told, asked: (LARGER,),
    predict=predict,
)
