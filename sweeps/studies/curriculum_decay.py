"""Does decaying the learning rate waste the best data, when that is kept for last?

Luo et al. (ICLR 2026, 2511.18903): read in ascending order of quality, a model meets its best text
when the rate has decayed, so that the order gains little; at a constant rate, with the last states
averaged, it gains more than decay does. Whether decay pays at all depends on the peak rate, so the
line from which on it pays in uniform order is mapped first, and the factorial of order and end
rate is run at a peak on either side of it. Documents are of known quality (`lab.damage`), and the
loss is that on clean text. Each peak and order is one trunk, off which every end rate branches.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lab.damage import LARGEST_SHARE, PREFIX
from lab.errors import Refused
from lab.spec import ModelSpec, OptimizerSpec, Phase, RunSpec, Share, StageShape, decay, hold, warm
from sweeps.arms import one_seed, refuse_other_axes
from sweeps.foresight import Expected, Foreseen, Sought
from sweeps.grid import Grid
from sweeps.study import Study
from sweeps.sweep import Evaluations, Sweep

if TYPE_CHECKING:
    import pandas as pd

    from fits.order_gain import Arm
    from fits.report import Findings
    from fits.verdicts import Claim

READ = "pretrain"  # the phase that is read off at its end
END = f"{READ}.end_lr"
LOW, HIGH = SIDES = ("low", "high")  # of the line from which on decay pays
MAP = "map"
SHAPE: StageShape = "1-sqrt"  # of 2511.18903
MATTERS = 0.02  # nats
MATTERS_END = 0.2  # of an end rate, as a share of its peak
LAW_ENDS = 5  # end rates from which on the law of the gain can be ranked
STATES = 6  # that are averaged, and the newest one's weight in an exponential average: the paper's
EMA, SMA = f"ema:{STATES}:0.2", f"sma:{STATES}"

# Orders beside the uniform one, and the score that each goes by.
CORE = {"ascending": ("ascending", "truth")}
CONTROLS = {
    "descending": ("descending", "truth"),
    "folded": ("folded:4", "truth"),
    "compression": ("ascending", "compression"),
    "perplexity": ("ascending", "perplexity"),
}
UNIFORM, LAST = "uniform", "last"  # last: only what is read while the rate falls is sorted
SHAPES: tuple[StageShape, ...] = ("linear", "cosine")


@dataclass(frozen=True)
class Settings:
    """What the study can be told with --set.

    rates: peak rates of the map; low, high: those of the factorial. ends: end rates of the
    factorial, as shares of the peak; base: that at which the shape of decay varies. share: of a
    run's tokens over which the rate falls. text: clean text that is evaluated.
    """

    text: str
    rates: tuple[float, ...]
    low: float
    high: float
    tokens: int
    ends: tuple[float, ...] = (1.0, 0.6, 0.3, 0.1, 0.03, 0.0)
    base: float = 0.1
    share: float = 0.3
    windows: int = 256


@dataclass(frozen=True)
class Scale:
    """One model."""

    model: ModelSpec
    seeds: int
    batch: int
    warm: int  # steps
    told: Settings


def _model(width: int, layers: int, heads: int, context: int, vocabulary: int = 256) -> ModelSpec:
    mlp_width = -(-width * 8 // 3 // 8) * 8  # 8/3 of the width, to a multiple of 8
    return ModelSpec(width, layers, heads, mlp_width, context, vocabulary)


def _octaves(highest: int, count: int) -> tuple[float, ...]:
    return tuple(2.0**-k for k in range(highest, highest + count))


SCALES = {
    "smoke": Scale(
        model=_model(12, 1, 1, 32),
        seeds=2,
        batch=16,
        warm=4,
        told=Settings(
            "prose", _octaves(4, 3), 2.0**-9, 2.0**-5, 40_960, (1.0, 0.1, 0.0), windows=64
        ),
    ),
    "tiny": Scale(
        model=_model(24, 2, 2, 64),
        seeds=6,
        batch=32,
        warm=32,
        told=Settings("prose", _octaves(4, 7), 2.0**-10, 2.0**-6, 1_638_400),
    ),
    "small": Scale(
        model=_model(512, 8, 8, 512),
        seeds=3,
        batch=128,
        warm=500,
        told=Settings("prose", _octaves(6, 6), 2.0**-10, 2.0**-7, 655_360_000, windows=1024),
    ),
    # Size, tokens and batch of the paper's runs: Qwen2.5-1.5B, 30 B tokens, peak 3e-3.
    "paper": Scale(
        model=_model(1536, 28, 12, 4096, 32_000),
        seeds=1,
        batch=256,
        warm=500,
        told=Settings("prose", _octaves(6, 6), 2.0**-10, 3e-3, 30_408_704_000, windows=2048),
    ),
}


def settings(scale: str) -> Settings:
    """The study's settings at a scale."""
    return SCALES[scale].told


def sweep(told: Settings, scale: str) -> Sweep:
    """An arm an order and peak (and, around the base cells, a shape of decay): seeds x end rates.

    Raises Refused.
    """
    chosen = SCALES[scale]
    _refuse(told)
    arms = {}
    few = tuple(one for one in told.ends if one in (0.0, 1.0))
    for peak in told.rates:
        if peak not in (told.low, told.high):
            arms[f"{MAP}-{peak:.4g}"] = _arm(chosen, told, peak, few)
    for side, peak in zip(SIDES, (told.low, told.high), strict=True):
        arms[f"{UNIFORM}-{side}"] = _arm(chosen, told, peak, told.ends)
        for name, order in CORE.items():
            arms[f"{name}-{side}"] = _arm(chosen, told, peak, told.ends, order)
        for name, order in CONTROLS.items():
            arms[f"{name}-{side}"] = _arm(chosen, told, peak, few, order)
        arms[f"{LAST}-{side}"] = _arm(chosen, told, peak, few, CORE["ascending"], last=True)
        for shape in SHAPES:
            for name, order in {UNIFORM: (UNIFORM, "truth"), **CORE}.items():
                arms[f"{name}-{side}-{shape}"] = _arm(
                    chosen, told, peak, (told.base,), order, shape=shape
                )
    step = chosen.batch * chosen.model.context
    apart = max(1, round(told.share * told.tokens / step) // STATES) * step
    evaluate = Evaluations(
        (told.text, _damaged(told)),
        told.windows,
        READ,
        (),
        averages=(EMA, SMA),
        average_tokens=apart,
    )
    return Sweep("curriculum_decay", scale, arms, evaluate)


def _arm(
    chosen: Scale,
    told: Settings,
    peak: float,
    ends: tuple[float, ...],
    order: tuple[str, str] = (UNIFORM, "truth"),
    shape: StageShape = SHAPE,
    last: bool = False,
) -> Grid:
    """Warmed, held, and falling over the last share of the tokens, in one phase; `last`: in two,
    of which only the second is sorted."""
    step = chosen.batch * chosen.model.context
    fall = max(1, round(told.share * told.tokens / step)) * step
    mixture = (Share(_damaged(told), 1.0),)
    rise = warm(chosen.warm * step, peak), hold()
    falls = decay(fall, peak * ends[0], shape)
    kind, score = order
    phases: tuple[Phase, ...]
    if last:
        before = Phase("before", told.tokens - fall, mixture, rise)
        phases = (before, Phase(READ, fall, mixture, (falls,), order=kind, score=score))
    else:
        phases = (Phase(READ, told.tokens, mixture, (*rise, falls), order=kind, score=score),)
    run = RunSpec(chosen.model, OptimizerSpec(), phases, seed=0, batch=chosen.batch)
    axes = {"seed": tuple(range(chosen.seeds)), END: tuple(peak * one for one in ends)}
    return Grid(run, axes)


def _damaged(told: Settings) -> str:
    """The corpus that is trained on."""
    return "+".join(f"{PREFIX}{part}" for part in told.text.split("+"))


def _refuse(told: Settings) -> None:
    if not 0 < told.share < 1:
        raise Refused(f"share = {told.share}: must lie between 0 and 1")
    if not 0 < told.low < told.high:
        raise Refused(f"low = {told.low}, high = {told.high}: must be positive, and low below high")
    if not {0.0, 1.0} <= set(told.ends) or min(told.ends) < 0 or max(told.ends) > 1:
        raise Refused(f"ends = {told.ends}: shares of the peak, in [0, 1], with both 0 and 1")


def cautions(told: Settings, asked: Sweep) -> list[str]:
    """What this design cannot identify. Raises Refused if nothing can be read off it."""
    refuse_other_axes(asked, END)
    said = []
    if len(told.ends) < LAW_ENDS:
        said.append(f"{len(told.ends)} end rates: the law of the gain is ranked from {LAW_ENDS} on")
    peaks = sorted({*told.rates, told.low, told.high})
    if len(peaks) < 4:
        said.append(f"{len(peaks)} peaks: where decay begins to pay is hardly found")
    if single := one_seed(asked):
        said.append(f"one seed, so no interval over seeds: {', '.join(single)}")
    return said


# What is believed before anything runs: of a probe at scale tiny, with one seed.
LINE, SD_OCTAVES = -8.5, 0.3  # log2 of the peak from which on decay pays, and its sd over seeds
GAIN = {"g0": 0.02, "g1": 0.055, "s": 0.6}
GAIN_NOISE = 0.002  # nats, of a mean over seeds
SD = 0.006  # nats, of a paired effect over seeds


def foresees(told: Settings, asked: Sweep) -> Foreseen:
    """The law of the gain at either side, and where the line will lie among the peaks."""
    prior = "prior: a probe at scale tiny, one seed"
    points = {"end_ratio": sorted(told.ends)}
    fits = tuple(
        Expected("gain of the order", "order-gain", GAIN, points, GAIN_NOISE, prior, (arm,))
        for arm in (f"ascending-{side}" for side in SIDES)
        if len(told.ends) >= LAW_ENDS
    )
    peaks = np.log2([*told.rates, told.low, told.high])
    ends = float(peaks.min()), float(peaks.max())
    line = Sought("log2 of the peak from which on decay pays", LINE, SD_OCTAVES, *ends, prior)
    return Foreseen(fits, (line,))


def claims(told: Settings, asked: Sweep) -> "tuple[Claim, ...]":
    """The statements on either side of the line, with the smallest effect that matters; spreads
    are those believed."""
    from fits.verdicts import Claim

    said = []
    for side in SIDES:
        both = f"{UNIFORM}-{side}", f"ascending-{side}"
        where = f"at the {side} peak"
        wider = "more end rates" if side == HIGH else "a peak further from the line"
        one = f"{where} ascending order gains less where the rate falls to 0 than where it is held"
        said.append(Claim(f"shrinks_{side}", one, "more", MATTERS, "nats", wider, both, SD))
        one = f"{where} the best end rate is higher for ascending than for uniform order"
        said.append(
            Claim(f"best_end_{side}", one, "more", MATTERS_END, "of the peak", wider, both, 0.1)
        )
        one = f"{where}, held, averaging the last states ({EMA}) helps ascending order more"
        said.append(Claim(f"averaging_{side}", one, "more", MATTERS, "nats", wider, both, SD))
        one = f"{where} ascending order, held and averaged, beats uniform order, decayed to 0"
        said.append(Claim(f"instead_{side}", one, "more", MATTERS, "nats", wider, both, SD))
        one = f"{where}, held, sorting only the last {told.share:.0%} gains nothing"
        last = f"{UNIFORM}-{side}", f"{LAST}-{side}"
        said.append(Claim(f"last_{side}", one, "same", MATTERS, "nats", wider, last, SD))
    return tuple(said)


def _places(told: Settings, asked: Sweep) -> "dict[str, Arm]":
    """What each arm of the sweep is."""
    from fits.order_gain import Arm

    found = {}
    for name, grid in asked.arms.items():
        order, side, *shape = name.split("-", 2)
        peak = max(stage.to_lr or 0.0 for stage in grid.base.phases[0].schedule)
        if order == MAP:
            found[name] = Arm(UNIFORM, MAP, peak, SHAPE)
        else:
            found[name] = Arm(order, side, peak, shape[0] if shape else SHAPE)
    return found


def read(results: "pd.DataFrame", told: Settings, asked: Sweep) -> "Findings":
    """Gains of the orders by end rate on either side of the line, and what averaging does."""
    from fits.order_findings import findings
    from fits.order_gain import order_ends

    base = next(iter(asked.arms.values())).base
    apart = asked.evaluate.average_tokens
    ends = order_ends(results, _places(told, asked), told.text)
    epochs = float(results[results["corpus"] == _damaged(told)]["epochs"].max())
    notes = [
        f"Every run reads {told.tokens:,} tokens of {_damaged(told)}, {base.steps} steps of "
        f"{base.batch} x {base.model.context}, {epochs:.2f} epochs; documents have 0 to "
        f"{LARGEST_SHARE:.0%} of their bytes replaced at random. The rate is held and falls over "
        f"the last {told.share:.0%}. Runs of one seed read the same windows in every order.",
        f"Averages are over {STATES} states {apart:,} tokens apart, within that last stretch.",
        "Every order but `compression` and `perplexity` goes by the truth, which no one has of "
        "real text.",
        f"Evaluated on {told.windows} fixed windows of clean text: intervals cover seeds, not the "
        "text's choice.",
    ]
    sides = {LOW: told.low, HIGH: told.high}
    return findings(ends, sides, SHAPE, EMA, told.text, epochs, notes)


STUDY = Study(
    name="curriculum_decay",
    title="Order of quality against the decay of the learning rate",
    question="Does decaying the learning rate waste the best data, when that is kept for last?",
    settings=settings,
    sweep=sweep,
    read=read,
    cautions=cautions,
    foresees=foresees,
    claims=claims,
)
