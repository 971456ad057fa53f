"""The stability gap: what a switch of text costs at first, and three ways to make it smaller.

Guo et al. (ACL 2025, arXiv 2406.14833): when a model is trained on a new domain, its accuracy falls
and comes back while the perplexity of the domain falls all along; a small subset of the domain read
several times, its best part chosen by perplexity, and a mixture near that of the pre-training make
the gap smaller and the end better at equal compute. Here each is one change to a plain run off the
same trunk, with states evaluated densely behind the switch. The domain's documents are of known
quality (`lab.damage`), and its loss is that on clean text. Every run is cut into as many passes, at
whose begins its states are evaluated densely; only a repeated arm reads the same windows in each.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fits.dip_arms import ALL, BEST, CLEAN, MIXED, PLAIN, SAME, SUBSET, SUBSET_BEST
from lab.corpora import BEST as BEST_OF
from lab.damage import PREFIX
from lab.errors import Refused
from lab.spec import ModelSpec, OptimizerSpec, Phase, RunSpec, Share, decay, hold, warm
from sweeps.continual_runs import small_model
from sweeps.grid import Grid
from sweeps.peak_rates import peak_rule
from sweeps.study import Study
from sweeps.sweep import Evaluations, Sweep

if TYPE_CHECKING:
    import pandas as pd

    from fits.dips import Measured
    from fits.report import Findings
    from fits.verdicts import Claim, Sense


@dataclass(frozen=True)
class Settings:
    """What the study can be told with --set.

    general, domain: clean texts; the domain is read damaged. passes, steps: of a continuation, and
    of each of its passes. rate: of a continuation, as a share of the trunk's peak. replay: share of
    general text in the mixture near that of the pre-training.
    """

    general: str
    domain: str
    passes: int
    steps: int
    rate: float = 0.5
    replay: float = 0.25
    windows: int = 256
    per_octave: int = 4


@dataclass(frozen=True)
class Scale:
    """One model and its trunk; lengths are in steps."""

    model: ModelSpec
    peak: float
    seeds: int
    batch: int
    trunk: int
    trunk_warm: int
    rewarm: int
    told: Settings


END, DECAYED = 0.1, 5  # the trunk falls to so much of its peak over its last part of so many
TINY_PEAK = peak_rule("tiny").peak_lr(24, 800 * 32 * 64)  # at the trunk's width and tokens
SCALES = {
    "smoke": Scale(
        small_model(12, 1, 1, 32), 1e-2, 2, 8, 40, 8, 2,
        Settings("prose", "docs", 2, 12, windows=64, per_octave=1),
    ),
    "tiny": Scale(
        small_model(24, 2, 2, 64), TINY_PEAK, 8, 32, 800, 40, 8,
        Settings("prose+docs", "code", 4, 128),
    ),
    "small": Scale(
        small_model(512, 8, 8, 512), 6e-4, 5, 128, 30_000, 600, 100,
        Settings("prose+docs", "code", 4, 2500, windows=1024),
    ),
    # Of the paper: a model of 3 B parameters, a subset of 5 B tokens of 50 B, read 4 times.
    "paper": Scale(
        ModelSpec(3200, 26, 32, 8640, 2048, 32_000), 3e-4, 1, 1024, 120_000, 2000, 24,
        Settings("prose+docs", "code", 4, 2384, rate=0.1, windows=2048),
    ),
}  # fmt: skip


def settings(scale: str) -> Settings:
    """The study's settings at a scale."""
    return SCALES[scale].told


# Arms -------------------------------------------------------------------------------------------


def sweep(told: Settings, scale: str) -> Sweep:
    """An arm a change, over the same trunk seeds. Raises Refused."""
    _refuse(told)
    chosen = SCALES[scale]
    damaged = "+".join(f"{PREFIX}{part}" for part in told.domain.split("+"))
    best = "+".join(f"{BEST_OF}{part}" for part in damaged.split("+"))
    branches = {
        PLAIN: _passes(chosen, told, damaged),
        SUBSET: _passes(chosen, told, damaged, again=True),
        BEST: _passes(chosen, told, best),
        SUBSET_BEST: _passes(chosen, told, best, again=True),
        MIXED: _passes(chosen, told, damaged, told.replay),
        ALL: _passes(chosen, told, best, told.replay, again=True),
        CLEAN: _passes(chosen, told, told.domain),
        SAME: _passes(chosen, told, told.general),
    }
    seeds = {"seed": tuple(range(chosen.seeds))}
    step = chosen.batch * chosen.model.context
    falls = decay(chosen.trunk // DECAYED * step, END * chosen.peak)
    rises = warm(chosen.trunk_warm * step, chosen.peak), hold()
    general = (Share(told.general, 1.0),)
    trunk = Phase("pretrain", chosen.trunk * step, general, (*rises, falls))
    arms = {
        name: Grid(
            RunSpec(chosen.model, OptimizerSpec(), (trunk, *passes), 0, chosen.batch), seeds
        )
        for name, passes in branches.items()
    }
    evaluate = Evaluations(
        (told.general, told.domain), told.windows, "pass1", (), told.per_octave
    )
    return Sweep("stability_gap", scale, arms, evaluate)


def _passes(
    chosen: Scale, told: Settings, text: str, replay: float = 0.0, again: bool = False
) -> tuple[Phase, ...]:
    """A continuation: the rate is warmed again and held. `again`: each pass reads the windows of
    the first."""
    step = chosen.batch * chosen.model.context
    rises = warm(chosen.rewarm * step, told.rate * chosen.peak), hold()
    mixture = (Share(text, 1 - replay), *([Share(told.general, replay)] if replay else []))
    return tuple(
        Phase(
            f"pass{k + 1}",
            told.steps * step,
            mixture,
            (hold(),) if k else rises,
            reread=(text,) if k and again else (),
        )
        for k in range(told.passes)
    )


def _refuse(told: Settings) -> None:
    if set(told.general.split("+")) & set(told.domain.split("+")):
        raise Refused(f"general, domain = {told.general}, {told.domain}: must differ")
    if told.passes < 2:
        raise Refused(f"passes = {told.passes}: at least 2, or nothing is read again")
    if not 0 < told.replay < 1:
        raise Refused(f"replay = {told.replay}: must lie between 0 and 1")
    if not 0 < told.rate:
        raise Refused(f"rate = {told.rate}: must be positive")
