"""Does a linear fall of the learning rate end lower than a cosine?

A study of your own: a question, the runs that can answer it, and how their table is read. Change
what you like; every part says what it is for. Try it:

    lab plan my_question.py --scale smoke       what would run, what it costs; trains nothing
    lab run my_question.py --scale smoke        seconds; the report is in runs/my_question-smoke
    lab run my_question.py                      the scale tiny: minutes
    lab run my_question.py --set seeds=0,1      a setting; or any field of a run:
    lab run my_question.py --scale smoke --set optimizer.weight_decay=0 --out runs/undecayed
    lab report runs/my_question-smoke --to report.html --study my_question.py
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from fits.figures.plots import Figure
from fits.figures.style import CATEGORIES
from fits.report import Findings, Table
from fits.verdicts import Claim, by_unit
from lab.errors import Refused
from lab.spec import ModelSpec, OptimizerSpec, Phase, RunSpec, Share, Stage, decay, hold, warm
from sweeps.grid import Grid
from sweeps.study import Study
from sweeps.sweep import Evaluations, Sweep

# What is asked -------------------------------------------------------------------------------

RATE = "pretrain.peak_lr"  # the path of an axis: any field of a run, or of a phase by its name


@dataclass(frozen=True)
class Settings:
    """What the study can be told with --set KEY=VALUE. Tuples take several values, with commas."""

    corpus: str = "prose"  # lab data list; your own: lab data prepare NAME FILE...
    seeds: tuple[int, ...] = (0, 1, 2)
    rates: tuple[float, ...] = (1 / 256, 1 / 128, 1 / 64, 1 / 32)
    steps: int = 600
    windows: int = 256  # of held-out text, at each evaluation


def settings(scale: str) -> Settings:
    """Defaults at a scale: `smoke` is a check of the machinery, `tiny` an answer in minutes."""
    return Settings(steps=60, windows=32) if scale == "smoke" else Settings()


# What runs -----------------------------------------------------------------------------------

MODEL = ModelSpec(width=24, layers=2, heads=2, mlp_width=64, context=64)
BATCH = 16
STEP = BATCH * MODEL.context  # tokens; all durations are in tokens


def run_with(told: Settings, shape: str) -> RunSpec:
    """One run: warmed over a twentieth, then the arm's schedule. Stages begin where the last ended.

    What runs have in common is trained once: here the warm-up of both arms, at a seed and rate.
    """
    tokens, short = told.steps * STEP, max(1, told.steps // 20) * STEP
    peak = told.rates[0]  # the axis sets it
    schedule: tuple[Stage, ...]
    if shape == "linear":
        schedule = warm(short, peak), hold(), decay(tokens // STEP // 5 * STEP, 0.0)
    else:
        schedule = warm(short, peak), decay(None, 0.0, "cosine")  # None: the rest of the phase
    phase = Phase("pretrain", tokens, (Share(told.corpus, 1.0),), schedule)
    return RunSpec(MODEL, OptimizerSpec(), (phase,), seed=0, batch=BATCH)


def sweep(told: Settings, scale: str) -> Sweep:
    """Arms are what is compared, axes what each arm goes through: every combination is a run."""
    axes = {"seed": told.seeds, RATE: told.rates}
    arms = {shape: Grid(run_with(told, shape), axes) for shape in ("linear", "cosine")}
    # evaluated at the end of the phase and at a few steps on the way; horizons would add more
    evaluate = Evaluations((told.corpus,), told.windows, "pretrain", horizons=())
    return Sweep("my_question", scale, arms, evaluate)


def cautions(told: Settings, asked: Sweep) -> list[str]:
    """What this design cannot tell, for `lab plan`. Raises Refused if nothing can be read."""
    for grid in asked.arms.values():
        for path in grid.axes:
            if path not in ("seed", RATE):  # `read` would take its values for one another
                raise Refused(f"axis {path}: this study reads only the axes seed and {RATE}")
    said = []
    if len(told.seeds) < 3:
        said.append(f"{len(told.seeds)} seeds: a paired t interval hardly decides anything")
    if len(told.rates) < 3:
        said.append(f"{len(told.rates)} rates: the best of an arm may lie beyond them")
    return said


# What is claimed, before anything runs -------------------------------------------------------

MATTERS = 0.01  # nats a token: the smallest effect that would change what you do


def claims(told: Settings, asked: Sweep) -> tuple[Claim, ...]:
    """Statements with the smallest effect that matters: "more" (effect > 0) or "same" (none).

    The sd over seeds is what you believe; `lab plan` then says what so many seeds can decide.
    """
    statement = "at its best rate, a linear fall ends lower than a cosine"
    arms = ("linear", "cosine")
    return (Claim("linear", statement, "more", MATTERS, "nats", "longer runs", arms, sd=0.004),)


# How the table is read -----------------------------------------------------------------------


def read(results: pd.DataFrame, told: Settings, asked: Sweep) -> Findings:
    """Findings from the results table (`lab results DIR`): one row a run, state and corpus."""
    done = results[(results["status"] == "done") & (results["corpus"] == told.corpus)]
    ends = done.sort_values("step").groupby(["arm", "seed", "pretrain_peak_lr"], as_index=False)
    ends = ends.last()[["arm", "seed", "pretrain_peak_lr", "loss_nats", "epochs"]]
    best = ends.groupby(["seed", "arm"])["loss_nats"].min().unstack("arm").dropna()
    gain = (best["cosine"] - best["linear"]).tolist()  # paired: the arms of a seed read one text
    mean = sum(gain) / len(gain)
    return Findings(
        headline=f"At its best rate linear ends {mean:+.4f} nats below cosine, {len(gain)} seeds.",
        tables=[
            Table("best losses", "Of each seed, at the best of the rates.", best.reset_index()),
            Table("last losses", "Of every run.", ends),
        ],
        fits=[],  # fits.fit(LAW, table): intervals, figures and predictions come with it
        figures=[Figure("loss_against_rate", "Last loss against the rate.", ends, drawing(ends))],
        notes=[f"One model of width {MODEL.width}, {told.steps} steps; another may say otherwise."],
        readings={"gain_nats": mean},
        evidence={"linear": by_unit(gain, epochs=float(ends["epochs"].max()))},
    )


def drawing(ends: pd.DataFrame) -> Callable[[Any], None]:
    """Draws on an empty Matplotlib figure when it is asked to."""

    def draw(canvas: Any) -> None:
        axes = canvas.subplots()
        for colour, (arm, rows) in zip(CATEGORIES, ends.groupby("arm"), strict=False):
            mean = rows.groupby("pretrain_peak_lr")["loss_nats"].mean()
            axes.plot(mean.index, mean, "o-", color=colour, label=arm)
        axes.set(xscale="log", xlabel="peak learning rate", ylabel="last loss (nats/token)")
        axes.legend()

    return draw


# A prediction before the last arm runs (optional): arms of `later` are trained only once `predict`
# of the others is on disk, so that nobody can fit what is to be foretold. Uncomment both, here and
# in STUDY, and give what came of it in Findings.measured, by the same name.
#
# def later(told: Settings, asked: Sweep) -> tuple[str, ...]:
#     return ("cosine",)
#
#
# def predict(results: pd.DataFrame, told: Settings, asked: Sweep) -> pd.DataFrame:
#     last = results.sort_values("step").groupby("run")["loss_nats"].last().min()
#     row = {"name": "best loss of cosine", "predicted": last, "low": last - 0.02}
#     return pd.DataFrame([{**row, "high": last + 0.02, "unit": "nats", "how": "as linear's"}])


STUDY = Study(
    name="my_question",
    title="Linear fall against cosine",
    question="Does a linear fall of the learning rate end lower than a cosine?",
    settings=settings,
    sweep=sweep,
    read=read,
    cautions=cautions,
    claims=claims,
    scales=("smoke", "tiny"),
    # later=later,
    # predict=predict,
)
