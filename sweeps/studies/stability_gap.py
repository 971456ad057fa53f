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
from sweeps.arms import one_seed, refuse_other_axes
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
    rate: float = 0.3
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


# The trunk falls to so much of its peak over its last part of so many, a continuation to as much of
# its own rate: while that is held, single states scatter by .01 in loss and accuracy.
END, DECAYED = 0.1, 5
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
        name: Grid(RunSpec(chosen.model, OptimizerSpec(), (trunk, *passes), 0, chosen.batch), seeds)
        for name, passes in branches.items()
    }
    evaluate = Evaluations((told.general, told.domain), told.windows, "pass1", (), told.per_octave)
    return Sweep("stability_gap", scale, arms, evaluate)


def _passes(
    chosen: Scale, told: Settings, text: str, replay: float = 0.0, again: bool = False
) -> tuple[Phase, ...]:
    """A continuation: the rate is warmed again, held, and falls over the last pass. `again`: each
    pass reads the windows of the first."""
    step = chosen.batch * chosen.model.context
    rate = told.rate * chosen.peak
    rises = warm(chosen.rewarm * step, rate), hold()
    falls = (decay(None, END * rate),)
    mixture = (Share(text, 1 - replay), *([Share(told.general, replay)] if replay else []))
    return tuple(
        Phase(
            f"pass{k + 1}",
            told.steps * step,
            mixture,
            rises if k == 0 else (hold(),) if k < told.passes - 1 else falls,
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
    if not told.rate > 0:
        raise Refused(f"rate = {told.rate}: must be positive")


def later(told: Settings, asked: Sweep) -> tuple[str, ...]:
    """All three together are predicted from their effects before they are trained."""
    return (ALL,)


def cautions(told: Settings, asked: Sweep) -> list[str]:
    """What this design cannot identify. Raises Refused if nothing can be read off it."""
    refuse_other_axes(asked)
    single = one_seed(asked)
    return [f"one trunk seed, so no verdict: {', '.join(single)}"] if single else []


# Claims -----------------------------------------------------------------------------------------

# The smallest effects that matter, and what is believed of their standard deviation over seeds: of
# a probe at scale tiny (one seed), in which single states scattered by .01 in accuracy and in nats.
MATTERS_GENERAL, SD_GENERAL = 0.02, 0.01  # of accuracy, a share of tokens; it fell by .12
MATTERS_DOMAIN, SD_DOMAIN = 0.01, 0.005  # it fell by .014
MATTERS_NATS, SD_NATS = 0.02, 0.01
MATTERS_PART, SD_PART = 0.1, 0.05  # of what was lost


def claims(told: Settings, asked: Sweep) -> "tuple[Claim, ...]":
    """The statements, and the pairs of arms that they name."""
    from fits.verdicts import Claim

    by = "more trunk seeds; longer passes"
    share = "of tokens"

    def better(name: str, text: str, *arms: str) -> "Claim":
        return Claim(name, text, "more", MATTERS_NATS, "nats", by, arms, SD_NATS, repetition=True)

    def falls(name: str, text: str, least: float, sd: float, *arms: str) -> "Claim":
        return Claim(name, text, "more", least, share, by, arms, sd)

    same: Sense = "same"
    times = f"read {told.passes} times"
    return (
        falls(
            "general_falls",
            "On the switch accuracy on general text falls, further than without a switch",
            MATTERS_GENERAL, SD_GENERAL, PLAIN, SAME,
        ),
        Claim(
            "general_returns",
            "The plain run's end has regained more than half of that",
            "more", MATTERS_PART, "of what was lost, beyond half", by, (PLAIN,), SD_PART,
        ),
        Claim(
            "domain_loss_falls",
            "Meanwhile the loss on clean text of the domain never lies above its start",
            same, MATTERS_NATS, "nats", by, (PLAIN,), SD_NATS,
        ),
        falls(
            "domain_accuracy_dips",
            "On the domain too accuracy first falls below its start",
            MATTERS_DOMAIN, SD_DOMAIN, PLAIN,
        ),
        falls(
            "best_dips_less",
            "There it falls less where the best part is read than in the plain run",
            MATTERS_DOMAIN, SD_DOMAIN, PLAIN, BEST,
        ),
        better(
            "subset_learns",
            f"At equal compute a random part of 1/{told.passes}, {times}, ends lower on the domain "
            "than text read once",
            PLAIN, SUBSET,
        ),
        better(
            "best_learns",
            f"A part of the best text, {times}, ends lower on the domain than a random part, "
            f"{times}",
            SUBSET, SUBSET_BEST,
        ),
        falls(
            "mixture_falls_less",
            f"With {told.replay:.0%} of general text accuracy on it falls less than without",
            MATTERS_GENERAL, SD_GENERAL, PLAIN, MIXED,
        ),
        better(
            "all_is_better",
            f"All three (the best part, {times}, with general text) end lower than the plain run "
            "on both texts (the smaller gain)",
            PLAIN, ALL,
        ),
    )  # fmt: skip


# Read -------------------------------------------------------------------------------------------


def measured(results: "pd.DataFrame", told: Settings, asked: Sweep) -> "Measured":
    """The table, and where the first pass ends."""
    from fits.dips import Measured

    steps = asked.arms[PLAIN].base.phase_steps()
    return Measured(results, told.general, told.domain, steps[1], len(steps) - 1)


def predict(results: "pd.DataFrame", told: Settings, asked: Sweep) -> "pd.DataFrame":
    """What all three together end at, were their effects to add up. Raises Refused."""
    from fits.stability_findings import foretold

    return foretold(measured(results, told, asked))


def read(results: "pd.DataFrame", told: Settings, asked: Sweep) -> "Findings":
    """Evidence for every claim, and what came of the prediction."""
    from fits.stability_findings import findings

    base = asked.arms[PLAIN].base
    trunk, first = base.phases[:2]
    notes = [
        f"The trunk reads {trunk.tokens:,} tokens of {told.general}, its rate falls to {END:g} of "
        f"its peak; a continuation is warmed again to {told.rate:g} of it over "
        f"{base.steps_in(first.stage_tokens()[0])} steps, held, and falls to {END:g} of that over "
        f"the last of {told.passes} passes of {first.tokens:,} tokens. The optimizer's state is "
        "kept.",
        "Within the first pass a repeated arm reads the very windows of the one that is not, so "
        "they cannot differ in depth or early return, only in what follows.",
        *_choice(told),
        "Evaluated on clean text, while what is read of the domain is damaged: part of a dip on it "
        f"is the damage's. The control `{CLEAN}` reads the domain undamaged; what is left there is "
        "the switch's.",
        "Depths are the lowest of many states, each with noise of its own, so they lie above 0 for "
        f"a curve that only scatters, as general text does in `{SAME}`.",
        f"Evaluated on {told.windows} fixed windows of each text: intervals cover trunk seeds, not "
        "the choice of text; one pair of texts is one.",
    ]
    return findings(measured(results, told, asked), notes)


def _choice(told: Settings) -> list[str]:
    """How well the score that chooses the best part knows the truth, a note a text."""
    import numpy as np
    from scipy.stats import spearmanr

    from lab.best import SCORE, SHARE, chosen
    from lab.corpora import open_corpus
    from lab.damage import TRUTH
    from lab.scores import document_scores, document_tokens

    said = []
    for part in told.domain.split("+"):
        (store,) = open_corpus(f"{PREFIX}{part}").parts
        score, truth = (document_scores(store, name) for name in (SCORE, TRUTH))
        tokens = document_tokens(store)
        kept = chosen(score, tokens)
        ranked = float(spearmanr(score, truth).statistic)
        mean = np.average(truth, weights=tokens)
        of_kept = np.average(truth[kept], weights=tokens[kept])
        said.append(
            f"The best part of {PREFIX}{part} is the {SHARE:.0%} of its tokens in documents of "
            f"highest {SCORE} score, whose rank correlation with the true quality is {ranked:.3f}: "
            f"{of_kept:.1%} of its bytes are intact, of all {mean:.1%}."
        )
    return said


STUDY = Study(
    name="stability_gap",
    title="The stability gap and three ways to make it smaller",
    question="What does a switch of text cost at first, and which strategy makes that smaller?",
    settings=settings,
    sweep=sweep,
    read=read,
    cautions=cautions,
    claims=claims,
    later=later,
    predict=predict,
)
