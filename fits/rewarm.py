"""Reads a sweep of re-warmed continuations: losses by arm and seed, and what they differ by.

The arms are those of `fits.rewarm_arms`. The independent unit is the trunk's seed; arms of one seed
share its trunk, so that differences are taken within seeds. Losses are nats/token on fixed windows.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fits.continual_controls import end_losses
from fits.errors import Refused
from fits.rewarm_arms import (
    CONSTANT,
    PEAKS,
    REPLAYS,
    SAME,
    SAME_CONSTANT,
    SHIFTS,
    STRONG,
    replayed,
    union,
)

BySeed = dict[Any, float]

COLUMNS = ("arm", "run", "seed", "status", "phase", "step", "step_in_phase", "corpus", "loss_nats")
PHASE = "cpt"
EARLY_SHARE = 0.05  # of the continuation: where a spike without a rewarm is looked for


@dataclass(frozen=True)
class Measured:
    """The tidy table of a sweep, and what it does not say.

    texts: shift -> its corpus. rates: arm -> realised rate of every step, [T]; transfer: arm -> its
    last step of pre-training; warmup: steps of the trunk's own warm-up. Raises Refused.
    """

    results: pd.DataFrame
    general: str
    texts: Mapping[str, str]
    rates: Mapping[str, NDArray[Any]]
    transfer: Mapping[str, int]
    warmup: int

    def __post_init__(self) -> None:
        missing = [name for name in (*COLUMNS, "epochs") if name not in self.results.columns]
        if missing:
            raise Refused(f"the table lacks {', '.join(missing)}")
        if not (self.results["status"] == "done").any():
            raise Refused("the table has no finished run")

    def old(self, arm: str) -> BySeed:
        """Loss on the trunk's text at the end of an arm."""
        return end_losses(self.results, arm, self.general)

    def new(self, arm: str, shift: str = STRONG) -> BySeed:
        """Loss on a shift's text at the end of an arm."""
        return end_losses(self.results, arm, self.texts[shift])

    def both(self, arm: str, shift: str) -> BySeed:
        """Mean of the two losses at the end of an arm, as the papers' tables have it."""
        old, new = self.old(arm), self.new(arm, shift)
        return {seed: (old[seed] + new[seed]) / 2 for seed in old if seed in new}

    def before(self, arm: str, corpus: str) -> BySeed:
        """Loss at the state that an arm continues."""
        rows = self._rows(arm, corpus)
        rows = rows[rows["phase"] != PHASE].sort_values("step")
        return dict(rows.groupby("seed")["loss_nats"].last())

    def rise(self, arm: str, share: float = 1.0) -> BySeed:
        """By how much the loss on the trunk's text comes to lie above that before, at most, within
        the first `share` of the continuation."""
        rows = self._rows(arm, self.general)
        inside = rows[rows["phase"] == PHASE]
        inside = inside[inside["step_in_phase"] <= share * inside["step_in_phase"].max()]
        before = self.before(arm, self.general)
        most = inside.groupby("seed")["loss_nats"].max()
        return {seed: float(most[seed]) - before[seed] for seed in most.index if seed in before}

    def forgotten(self, arm: str) -> BySeed:
        """Loss on the trunk's text at the end less that before."""
        return difference(self.old(arm), self.before(arm, self.general))

    def epochs(self) -> float:
        """Of the corpus that is read most."""
        return float(self.results["epochs"].max())

    def curve(self, arm: str, corpus: str) -> pd.DataFrame:
        """A row a seed and state of an arm's continuation and of the state before it.

        Columns: seed, step (since then), loss_nats.
        """
        rows = self._rows(arm, corpus)
        begun = rows[rows["phase"] != PHASE]["step"].max()
        rows = rows[rows["step"] >= begun]
        return rows.assign(step=rows["step"] - begun)[["seed", "step", "loss_nats"]]

    def law_rows(self, corpus: str, arms: Sequence[str]) -> pd.DataFrame:
        """Rows of the law: those of the trunk behind its warm-up once, and of the arms behind it.

        Columns: curve (the arm), seed, step, transfer_step, loss_nats.
        """
        parts = []
        for arm in arms:
            rows = self._rows(arm, corpus)
            parts.append(rows.assign(curve=arm, transfer_step=self.transfer[arm]))
        table = pd.concat(parts, ignore_index=True)
        table = table[table["step"] > self.warmup]
        shared = (table["phase"] != PHASE) & table.duplicated(["phase", "seed", "step"])
        kept = ["curve", "seed", "step", "transfer_step", "loss_nats"]
        return table[~shared][kept].reset_index(drop=True)

    def _rows(self, arm: str, corpus: str) -> pd.DataFrame:
        table = self.results
        rows = table[(table["arm"] == arm) & (table["corpus"] == corpus)]
        return rows[rows["status"] == "done"]


def difference(a: Mapping[Any, float], b: Mapping[Any, float]) -> BySeed:
    """a less b at every seed that has both."""
    return {seed: a[seed] - b[seed] for seed in a if seed in b}


def least(several: Sequence[Mapping[Any, float]]) -> BySeed:
    """The least of several effects at every seed that has them all."""
    seeds = [seed for seed in several[0] if all(seed in one for one in several[1:])]
    return {seed: min(one[seed] for one in several) for seed in seeds}


# Effects ----------------------------------------------------------------------------------------


def each_doubling(by_peak: Mapping[float, BySeed], sign: float) -> BySeed:
    """The least change from one peak to the next, times `sign`: above 0 where all go one way."""
    peaks = sorted(by_peak)
    steps = [difference(by_peak[high], by_peak[low]) for low, high in itertools.pairwise(peaks)]
    return least([{seed: sign * value for seed, value in one.items()} for one in steps])


def of_all_rewarms(m: Measured, new: bool) -> BySeed:
    """How far the constant rate lies beside the nearest of the rewarms, at every seed.

    On the old text below it, on the new one above it.
    """
    ends = m.new if new else m.old
    constant = ends(CONSTANT)
    sign = 1.0 if new else -1.0
    apart = [difference(constant, ends(arm)) for arm in PEAKS.values()]
    return least([{seed: sign * value for seed, value in one.items()} for one in apart])


def rises_by_peak(m: Measured) -> dict[float, BySeed]:
    """Peak -> how high the loss rises without a shift, above what it rises at the constant rate."""
    constant = m.rise(SAME_CONSTANT)
    return {peak: difference(m.rise(arm), constant) for peak, arm in SAME.items()}


def removed(m: Measured, share: float, shift: str = STRONG) -> BySeed:
    """Part of the forgetting that a share of replay removes; of seeds that forget anything."""
    whole, left = m.forgotten(shift), m.forgotten(replayed(shift, share))
    return {s: 1 - left[s] / whole[s] for s in whole if s in left and whole[s] > 0}


def beside_union(m: Measured, shift: str, share: float) -> BySeed:
    """Mean of both losses at a share of replay less that of the union."""
    return difference(m.both(replayed(shift, share), shift), m.both(union(shift), shift))


# Tables -----------------------------------------------------------------------------------------


def arm_table(m: Measured, arms: Mapping[str, str]) -> pd.DataFrame:
    """A row an arm (arm -> shift): both losses at the end, and against the shift's base cell."""
    rows = []
    for arm, shift in arms.items():
        old, new = m.old(arm), m.new(arm, shift)
        if not old:
            continue
        rows.append(
            {
                "arm": arm,
                "shift": shift,
                **_spread("old text", old),
                **_spread("new text", new),
                "old, less the base cell": _mean(difference(old, m.old(shift))),
                "new, less the base cell": _mean(difference(new, m.new(shift, shift))),
                "old, at most above its start": _mean(m.rise(arm)) if m.before(arm, m.general)
                else np.nan,
                "seeds": len(old),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def replay_table(m: Measured) -> pd.DataFrame:
    """A row a shift and share of replay: losses, forgetting removed, distance to the union."""
    rows = []
    for shift in SHIFTS:
        for share in (0.0, *REPLAYS):
            arm = replayed(shift, share)
            old = m.old(arm)
            if not old:
                continue
            rows.append(
                {
                    "shift": shift,
                    "replay": share,
                    **_spread("old text", old),
                    **_spread("new text", m.new(arm, shift)),
                    "mean of both": _mean(m.both(arm, shift)),
                    "above the union": _mean(beside_union(m, shift, share)),
                    "forgetting removed": _mean(removed(m, share, shift)) if share else 0.0,
                    "seeds": len(old),
                }
            )
    return pd.DataFrame(rows)


def _spread(name: str, values: BySeed) -> dict[str, float]:
    each = list(values.values())
    sd = float(np.std(each, ddof=1)) if len(each) > 1 else np.nan
    return {name: _mean(values), f"{name} sd": sd}


def _mean(values: BySeed) -> float:
    return float(np.mean(list(values.values()))) if values else float("nan")
