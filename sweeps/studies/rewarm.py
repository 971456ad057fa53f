"""What re-warming the learning rate costs, and what replay buys, one factor at a time.

Gupta et al. (2308.04014) and Ibrahim et al. (2403.08763) state what length and peak of a rewarm,
replay and the strength of a shift do, each off one seed. Here every statement is a claim over trunk
seeds: around one base cell (`fits.rewarm_arms`) each arm changes one thing, and the controls (no
shift, from scratch, the union of the texts) stand beside them. A law of the loss curve in the
realised rate (Wang et al. 2025, 2505.07796) is fitted to the arms of one shift and predicts a
rewarm of another length and peak before it runs. Their statement that an infinite schedule does as
well as cosines needs several continuations in a row, and is no part of this study.

The trunk reads code, the weak shift docstrings, the strong one prose: the loss of a small trunk on
code rose by .3 nats over a continuation on docs, by 3.2 on prose, while off prose (docs .7, code
1.0) the two hardly differ, and code holds an alphabet that prose never showed.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fits.rewarm_arms import (
    ADDITIVE,
    CONSTANT,
    EARLY,
    LENGTHS,
    LITERAL,
    OF_LAW,
    PEAKS,
    REPLAYED,
    RESET,
    SAME,
    SAME_CONSTANT,
    SCRATCH,
    STRONG,
    UNSEEN,
    WEAK,
    replayed,
    union,
)
from lab.errors import Refused
from lab.spec import RunSpec
from sweeps.arms import one_seed, refuse_other_axes
from sweeps.foresight import Expected, Foreseen
from sweeps.grid import Grid
from sweeps.rewarm_runs import END, SCALES, Cells
from sweeps.study import Study
from sweeps.sweep import Evaluations, Sweep

if TYPE_CHECKING:
    import pandas as pd

    from fits.report import Findings
    from fits.rewarm import Measured
    from fits.verdicts import Claim, Sense


@dataclass(frozen=True)
class Settings:
    """What the study can be told with --set."""

    general: str
    weak: str
    strong: str
    windows: int = 256
    per_octave: int = 2


def settings(scale: str) -> Settings:
    """The study's settings at a scale."""
    per_octave = 1 if scale == "smoke" else 2
    return Settings("code", "docs", "prose", SCALES[scale].windows, per_octave)


# Arms -------------------------------------------------------------------------------------------


def sweep(told: Settings, scale: str) -> Sweep:
    """An arm a cell, over the same trunk seeds. Raises Refused on texts that do not differ."""
    if len({told.general, told.weak, told.strong}) < 3:
        texts = f"{told.general}, {told.weak}, {told.strong}"
        raise Refused(f"general, weak, strong = {texts}: must differ")
    cells = Cells(SCALES[scale], told.general, told.weak, told.strong)
    seeds = tuple(range(SCALES[scale].seeds))
    arms = {name: Grid(run, {"seed": seeds}) for name, run in cells.runs().items()}
    evaluate = Evaluations(
        (told.general, told.weak, told.strong), told.windows, "cpt", (), told.per_octave
    )
    return Sweep("rewarm", scale, arms, evaluate)


def later(told: Settings, asked: Sweep) -> tuple[str, ...]:
    """The rewarm of no other arm's length and peak is predicted before it is trained."""
    return (UNSEEN,)


def cautions(told: Settings, asked: Sweep) -> list[str]:
    """What this design cannot identify. Raises Refused if nothing can be read off it."""
    refuse_other_axes(asked)
    single = one_seed(asked)
    said = [f"one trunk seed, so no verdict: {', '.join(single)}"] if single else []
    steps = {name: _rise(asked.arms[name].base) for name in LENGTHS.values()}
    alike = [name for name, rise in steps.items() if list(steps.values()).count(rise) > 1]
    if alike:
        said.append(f"of equal length in whole steps, so one run: {', '.join(alike)}")
    return said


def _rise(run: RunSpec, phase: int = -1) -> int:
    """Steps of the first stage of a phase."""
    return run.steps_in(run.phases[phase].stage_tokens()[0])


# Claims -----------------------------------------------------------------------------------------

# The smallest effects that matter, nats: on the new text what Ibrahim et al. call a small cost, on
# the old one more (its loss moves by tenths to nats after a shift), on the mean of both half that.
MATTERS_NEW, MATTERS_OLD, MATTERS_BOTH = 0.02, 0.1, 0.05
MATTERS_SHARE = 0.1  # of the forgetting
# Of paired differences over trunk seeds, as believed: with one seed, arms that differed in nothing
# but the length of the rewarm ended .01 apart on the new text, .05 on the old one.
SD_NEW, SD_OLD, SD_BOTH, SD_SHARE = 0.01, 0.05, 0.025, 0.03


def claims(told: Settings, asked: Sweep) -> "tuple[Claim, ...]":
    """The statements T1 to T9, and the pairs that they name."""
    from fits.verdicts import Claim

    seeds, longer = "more trunk seeds", "longer continuations"

    def new(name: str, text: str, sense: "Sense", *arms: str) -> "Claim":
        return Claim(name, text, sense, MATTERS_NEW, "nats", f"{seeds}; {longer}", arms, SD_NEW)

    def old(name: str, text: str, sense: "Sense", *arms: str) -> "Claim":
        return Claim(name, text, sense, MATTERS_OLD, "nats", f"{seeds}; {longer}", arms, SD_OLD)

    def both(name: str, text: str, sense: "Sense", *arms: str, again: bool = False) -> "Claim":
        by = f"{seeds}; {longer}"
        return Claim(name, text, sense, MATTERS_BOTH, "nats", by, arms, SD_BOTH, again)

    peaks, same = tuple(PEAKS.values()), tuple(SAME.values())
    one, five, half = (replayed(STRONG, share) for share in (0.01, 0.05, 0.25))
    weak_five = replayed(WEAK, 0.05)
    unions = (union(STRONG), union(WEAK))
    ends = "at the end of the continuation"
    return (
        new(
            "length_does_not_matter",
            f"T1: no rewarm and one over 2 % give the same loss on the new text {ends}",
            "same", LENGTHS[0.0], LENGTHS[0.02],
        ),
        old(
            "no_rewarm_spikes",
            "T1: without a rewarm the old text's loss peaks higher at first than with one of 2 %",
            "more", LENGTHS[0.0], LENGTHS[0.02],
        ),
        new(
            "higher_peak_learns_more",
            f"T2: each doubling of the peak lowers the loss on the new text {ends}",
            "more", *peaks,
        ),
        old(
            "higher_peak_forgets_more",
            f"T2: each doubling of the peak raises the loss on the old text {ends}",
            "more", *peaks,
        ),
        old(
            "constant_forgets_least",
            "T3: the constant end rate leaves the old text's loss below that of every rewarm",
            "more", CONSTANT, *peaks,
        ),
        new(
            "constant_learns_least",
            "T3: the constant end rate leaves the new text's loss above that of every rewarm",
            "more", CONSTANT, *peaks,
        ),
        new(
            "rewarm_beats_constant",
            "T4: to the trunk's peak and down again beats the constant end rate on the new text",
            "more", CONSTANT, STRONG,
        ),
        new(
            "rises_without_shift",
            "T5: a rewarm on the trunk's own text first raises its loss, more than the constant "
            "rate does",
            "more", SAME[1.0], SAME_CONSTANT,
        ),
        new(
            "rise_grows_with_peak",
            "T5: without a shift each doubling of the peak raises the loss higher at first",
            "more", *same,
        ),
        Claim(
            "one_percent_replay", "T6: 1 % replay removes more than half of the forgetting",
            "more", MATTERS_SHARE, "of the forgetting, beyond half", f"{seeds}; {longer}",
            (STRONG, one), SD_SHARE,
        ),
        new(
            "replay_costs_little", "T6: 5 % replay leaves the loss on the new text as it is",
            "same", STRONG, five,
        ),
        both(
            "weak_matches_union",
            f"T7: after the weak shift 5 % replay ends at the union's mean of both losses, {ends}",
            "same", weak_five, unions[1],
        ),
        both(
            "strong_matches_union",
            f"T7: after the strong shift {REPLAYED:.0%} replay ends at the union's mean of both "
            f"losses, {ends}",
            "same", half, unions[0],
        ),
        both(
            "stronger_needs_more",
            "T7: at 5 % replay the strong shift's mean of both losses lies further above its "
            "union's than the weak shift's",
            "more", five, weak_five, *unions,
        ),
        new(
            "trunk_beats_scratch",
            "T8: continuing the trunk ends lower on the new text than as many tokens from scratch",
            "more", STRONG, SCRATCH,
        ),
        new(
            "earlier_is_no_better",
            "T9: continuing an earlier state of the trunk ends higher on the new text than "
            "continuing the trunk",
            "more", STRONG, EARLY,
        ),
        new(
            "reset_does_not_matter",
            f"Resetting the optimizer does not change the loss on the new text {ends}",
            "same", STRONG, RESET,
        ),
        both(
            "literal_replay_serves",
            f"Replay of {REPLAYED:.0%} guards the old text as well where it is text seen before",
            "same", half, LITERAL, again=True,
        ),
        new(
            "additive_replay_is_free",
            f"Replay of {REPLAYED:.0%} beside all of the new text leaves the loss on it as it is",
            "same", STRONG, ADDITIVE,
        ),
        new(
            "law_predicts_new",
            "The law, fitted to other rewarms, predicts the new text's loss of an unseen one",
            "same", *OF_LAW, UNSEEN,
        ),
        old(
            "law_predicts_old",
            "The law, fitted to other rewarms, predicts the old text's loss of an unseen one",
            "same", *OF_LAW, UNSEEN,
        ),
    )  # fmt: skip


# What is believed of the law before anything runs: a probe with one trunk seed of the tiny model,
# from code to prose under one schedule, so that little more than sizes and signs is meant. Noise is
# the scatter about it, which more seeds do not lessen; relative, as the law's objective is.
PRIOR = "prior: one probe at scale tiny"
BELIEVED = {
    "old text": (
        {"L0": 0.8, "A": 1.3, "alpha": 0.3, "C1": 0.2, "C2": -0.6, "B_beta": 6.2, "E": 4.3,
         "beta": 2.2},
        0.05,
    ),
    "new text": (
        {"L0": 2.4, "A": 0.4, "alpha": 0.6, "C1": 0.1, "C2": 0.05, "B_beta": -0.3, "E": 70.0,
         "beta": 0.2},
        0.015,
    ),
}  # fmt: skip


def foresees(told: Settings, asked: Sweep) -> Foreseen:
    """The law on either text, at the states of all arms that it will be fitted to."""
    from lab.schedule import realise

    curve: list[str] = []
    step: list[int] = []
    transfer: list[int] = []
    of_trunk: set[int] = set()
    rates = {name: realise(asked.arms[name].base) for name in OF_LAW}
    for name in OF_LAW:
        run = asked.arms[name].base
        begun, warmed = run.phase_start("cpt"), _rise(run, 0)
        evaluated = [one for one in asked.evaluate.steps(run) if one > warmed]
        steps = [one for one in evaluated if one > begun or one not in of_trunk]
        of_trunk |= {one for one in evaluated if one <= begun}  # which count once
        curve += [name] * len(steps)
        step += steps
        transfer += [begun] * len(steps)
    points: dict[str, list[Any]] = {"curve": curve, "step": step, "transfer_step": transfer}
    return Foreseen(
        tuple(
            Expected(
                f"loss on the {what}", "cpt-dynamics-product", params, points, noise, PRIOR,
                rates=rates,
            )
            for what, (params, noise) in BELIEVED.items()
        )
    )  # fmt: skip


# Read -------------------------------------------------------------------------------------------


def measured(results: "pd.DataFrame", told: Settings, asked: Sweep) -> "Measured":
    """The table with the rates that every arm realised."""
    from fits.rewarm import Measured
    from lab.schedule import realise

    curves = [*OF_LAW, UNSEEN]
    rates = {name: realise(asked.arms[name].base) for name in curves}
    transfer = {name: asked.arms[name].base.phase_start("cpt") for name in curves}
    texts = {STRONG: told.strong, WEAK: told.weak}
    warmup = _rise(asked.arms[STRONG].base, 0)
    return Measured(results, told.general, texts, rates, transfer, warmup)


def predict(results: "pd.DataFrame", told: Settings, asked: Sweep) -> "pd.DataFrame":
    """What the law says of the unseen rewarm, from all other arms. Raises Refused."""
    from fits.rewarm_law import foretold

    return foretold(measured(results, told, asked))


def read(results: "pd.DataFrame", told: Settings, asked: Sweep) -> "Findings":
    """Evidence for every claim, the law, and what came of its prediction."""
    from fits.rewarm_findings import findings

    base = asked.arms[STRONG].base
    trunk, branch = base.phases
    notes = [
        f"The trunk reads {trunk.tokens:,} tokens of {told.general}, warmed, held and fallen to "
        f"{END:g} of its peak over its last fifth; a continuation reads {branch.tokens:,} tokens. "
        f"The base cell warms over {_rise(base)} of {base.phase_steps()[1]} steps to the trunk's "
        f"peak and falls by a cosine to {END:g} of it, on {told.strong} alone, the optimizer's "
        "state kept (Ibrahim et al. reset it: an arm here).",
        "Replay is of text that the trunk did not read, and compute-equivalent: the new text is "
        "that much less, unless an arm says otherwise.",
        "T10 (infinite schedules) needs several continuations in a row: not asked here.",
        f"Evaluated on {told.windows} fixed windows of each text: intervals cover trunk seeds, not "
        "the choice of text, and two shifts are two.",
    ]
    return findings(measured(results, told, asked), notes)


STUDY = Study(
    name="rewarm",
    title="Re-warming and replay, one factor at a time",
    question="What do length and peak of a rewarm, replay and the strength of a shift do?",
    settings=settings,
    sweep=sweep,
    read=read,
    cautions=cautions,
    foresees=foresees,
    claims=claims,
    later=later,
    predict=predict,
)
