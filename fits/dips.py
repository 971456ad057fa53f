"""Dips of a curve behind a switch of text: how deep, how soon regained; and their tables by arm.

A curve starts at the state before the switch (step 0), and more of it is better (accuracy, or minus
a loss). Its depth is its start less its lowest state at first; above 0, it dips. A share of that is
regained at the first state behind the lowest one that stands so much above it again, read off
between states; a run that ends before it does says only that it took longer (censored).

The arms of a sweep are those of `fits.dip_arms`; the independent unit is the trunk's seed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fits.engine.uncertainty import mean_interval
from fits.errors import Refused
from fits.rewarm import BySeed, difference

Floats = NDArray[np.float64]
Of = Literal["accuracy", "loss_nats"]
COLUMNS = (
    "arm", "run", "seed", "status", "phase", "step", "corpus", "loss_nats", "accuracy", "epochs"
)  # fmt: skip
TRUNK = "pretrain"


@dataclass(frozen=True)
class Dip:
    """A curve's fall and return. depth: in the curve's unit, not above 0 where it never fell below
    its start; deepest: the step of its lowest state; end: its last state less its start."""

    steps: Floats
    values: Floats
    depth: float
    deepest: int
    end: float

    def regained(self, share: float) -> tuple[float, float]:
        """Steps from the switch until a share of the depth is regained: (least, most) that it can
        be. Equal where it was read off, (last step, inf) where the run ended before; 0 where there
        was no dip."""
        if self.depth <= 0:
            return 0.0, 0.0
        wanted = self.values[0] - (1 - share) * self.depth
        first = int(np.searchsorted(self.steps, self.deepest))
        above = np.flatnonzero(self.values[first:] >= wanted) + first
        if not len(above):
            return float(self.steps[-1]), math.inf
        k = int(above[0])  # the lowest state itself lies below, so there is one before
        low, high = self.values[k - 1], self.values[k]
        step = self.steps[k - 1]
        at = float(step + (wanted - low) / (high - low) * (self.steps[k] - step))
        return at, at

    @property
    def part_regained(self) -> float:
        """Of the depth, by the last state: 1 is back at the start; nan where there was no dip."""
        return 1 + self.end / self.depth if self.depth > 0 else math.nan


def dip(steps: Sequence[float] | Floats, values: Sequence[float] | Floats, within: float) -> Dip:
    """The dip of one curve [T]; its lowest state is looked for up to step `within`.

    Raises Refused on a curve that does not begin at step 0, does not ascend, or has no state there.
    """
    at, curve = np.asarray(steps, np.float64), np.asarray(values, np.float64)
    if len(at) != len(curve) or not len(at) or at[0] != 0 or (np.diff(at) <= 0).any():
        raise Refused("a curve needs a value a step, ascending from step 0")
    early = int(np.searchsorted(at, within, side="right"))
    if early < 2:
        raise Refused(f"no state between the switch and step {within:g}")
    lowest = 1 + int(np.argmin(curve[1:early]))
    depth, end = float(curve[0] - curve[lowest]), float(curve[-1] - curve[0])
    return Dip(at, curve, depth, int(at[lowest]), end)


@dataclass(frozen=True)
class Measured:
    """The tidy table of a sweep. first: steps of a continuation's first pass, in which dips are
    looked for; passes: how many there are. Raises Refused."""

    results: pd.DataFrame
    general: str
    domain: str
    first: int
    passes: int

    def __post_init__(self) -> None:
        missing = [name for name in COLUMNS if name not in self.results.columns]
        if missing:
            raise Refused(f"the table lacks {', '.join(missing)}")
        if not (self.results["status"] == "done").any():
            raise Refused("the table has no finished run")

    def curve(self, arm: str, corpus: str, of: Of) -> pd.DataFrame:
        """A row a seed and state of an arm's continuation and of the state before it.

        Columns: seed, step (since the switch), value.
        """
        table = self.results
        rows = table[(table["arm"] == arm) & (table["corpus"] == corpus)]
        rows = rows[rows["status"] == "done"].sort_values(["seed", "step"])
        if rows.duplicated(["seed", "step"]).any():
            raise Refused(f"arm {arm} has several runs of a seed")
        begun = rows[rows["phase"] == TRUNK]["step"].max()
        rows = rows[rows["step"] >= begun]
        return pd.DataFrame({"seed": rows["seed"], "step": rows["step"] - begun, "value": rows[of]})

    def dips(self, arm: str, corpus: str, of: Of) -> dict[Any, Dip]:
        """Seed -> the dip of its curve; of a loss, that of minus the loss."""
        sign = 1.0 if of == "accuracy" else -1.0
        return {
            seed: dip(rows["step"].to_numpy(), sign * rows["value"].to_numpy(), self.first)
            for seed, rows in self.curve(arm, corpus, of).groupby("seed")
        }

    def depth(self, arm: str, corpus: str, of: Of) -> BySeed:
        """How far the curve falls (a loss rises) at first."""
        return {seed: one.depth for seed, one in self.dips(arm, corpus, of).items()}

    def end(self, arm: str, corpus: str, of: Of) -> BySeed:
        """The last state's value."""
        return dict(self.curve(arm, corpus, of).groupby("seed")["value"].last())


# Tables -----------------------------------------------------------------------------------------


def dip_table(m: Measured, arms: Sequence[str], share: float) -> pd.DataFrame:
    """A row an arm, text and measure: depth and the step of the lowest state (means over seeds, t
    intervals), the part regained at the end, and the step by which `share` of it was (`back`).

    back is a geometric mean with its t interval, given where all seeds came so far; `not back`
    counts those that did not, and those without a dip are left out.
    """
    rows = []
    for arm in arms:
        for text, corpus in (("general", m.general), ("domain", m.domain)):
            for of in ("accuracy", "loss_nats"):
                dips = [*m.dips(arm, corpus, of).values()]
                if not dips:
                    continue
                fell = [one for one in dips if one.depth > 0]
                times = [one.regained(share) for one in fell]
                not_back = sum(math.isinf(most) for _, most in times)
                logs = [math.log2(most) for _, most in times] if not not_back else []
                rows.append(
                    {
                        "arm": arm,
                        "text": text,
                        "measure": "accuracy" if of == "accuracy" else "loss",
                        **spread("depth", [one.depth for one in dips]),
                        "lowest at step": float(np.mean([one.deepest for one in dips])),
                        "regained at the end": _mean([one.part_regained for one in fell]),
                        **{k: 2.0**x for k, x in spread("back", logs).items()},
                        "not back": not_back,
                        "dips": len(fell),
                        "seeds": len(dips),
                    }
                )
    return pd.DataFrame(rows)


def end_table(m: Measured, arms: Mapping[str, str]) -> pd.DataFrame:
    """A row an arm (arm -> the one it is held against): what its last state has on both texts, and
    paired differences with t intervals."""
    rows = []
    for arm, against in arms.items():
        for text, corpus in (("general", m.general), ("domain", m.domain)):
            loss, accuracy = m.end(arm, corpus, "loss_nats"), m.end(arm, corpus, "accuracy")
            if not loss:
                continue
            other = m.end(against, corpus, "loss_nats"), m.end(against, corpus, "accuracy")
            rows.append(
                {
                    "arm": arm,
                    "text": text,
                    "loss": _mean([*loss.values()]),
                    "accuracy": _mean([*accuracy.values()]),
                    "against": against,
                    **spread("loss, less", [*difference(loss, other[0]).values()]),
                    **spread("accuracy, less", [*difference(accuracy, other[1]).values()]),
                    "seeds": len(loss),
                }
            )
    return pd.DataFrame(rows)


def spread(name: str, each: Sequence[float]) -> dict[str, float]:
    """Mean and t interval as columns; nan where there are none."""
    interval = mean_interval(each) if each else None
    low = None if interval is None else interval.low
    high = None if interval is None else interval.high
    return {
        name: _mean(each),
        f"{name} low": math.nan if low is None else low,
        f"{name} high": math.nan if high is None else high,
    }


def _mean(each: Sequence[float]) -> float:
    return float(np.mean(each)) if len(each) else math.nan
