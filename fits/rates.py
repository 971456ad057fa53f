"""Realised learning-rate curves, and the places on them at which losses were read.

A law of loss curves reads the rate of every step, not the schedule's name. Steps count from 1;
`rate[0]` is the rate of step 1. Rates carry the unit of the optimiser's learning rate, their sums
that times steps.

The warm-up is the initial rise, the steps before the rate first stops rising; it starts from a
rate of 0 at step 0. It counts in the cumulative rate S1. Whether it counts among the changes of
rate is the law's matter, see `fits.laws.schedule`.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fits.changes import Changes, History, join
from fits.errors import Refused, meant

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_ALONE = "curve"  # the name of a table's only curve


class Curve:
    """One realised learning-rate curve and what laws read off it: `rate` [T], of steps 1..T."""

    def __init__(self, name: str, rate: Any) -> None:
        self.name = name
        try:
            self.rate: Floats = np.array(rate, np.float64)
        except (TypeError, ValueError, OverflowError):
            raise Refused(f"curve {name!r}: rates must be numbers, one a step") from None
        if self.rate.ndim != 1 or not len(self.rate):
            raise Refused(f"curve {name!r}: rates must be one number a step, not {self.rate.shape}")
        wrong = np.flatnonzero(~(np.isfinite(self.rate) & (self.rate >= 0)))
        if len(wrong):
            at = int(wrong[0])
            raise Refused(
                f"curve {name!r}: the rate of step {at + 1} is {self.rate[at]:g};"
                " rates are finite and at least 0"
            )
        self.rate.flags.writeable = False
        self._annealed: tuple[float, Floats, Floats] | None = None  # at the last lam asked for

    @cached_property
    def summed(self) -> Floats:
        """Rates summed over the first 0..T steps, [T + 1]."""
        return np.concatenate([[0.0], np.cumsum(self.rate)])

    @cached_property
    def warmup(self) -> int:
        """Steps of the initial rise, its top the last; 0 where the rate does not rise at first."""
        stops = np.flatnonzero(np.diff(self.rate) <= 0)
        rises = int(stops[0]) if len(stops) else len(self.rate) - 1
        return rises + 1 if rises else 0

    @cached_property
    def change(self) -> Floats:
        """The rate before each step less that at it, [T]: falls are positive."""
        before = 0.0 if self.warmup else self.rate[0]
        return -np.diff(self.rate, prepend=before)

    @cached_property
    def history(self) -> History:
        """The changes in blocks, for sums over them."""
        return History(self.rate, self.summed, self.change)

    def annealed(self, lam: float) -> tuple[Floats, Floats]:
        """S2 at steps 1..T, and its derivative by lam, each [T]; changes after the warm-up alone.

        S2(s) = sum_{i <= s} sum_{k <= i} (rate_{k-1} - rate_k) lam^(i-k), by its recursion
        m_i = lam m_{i-1} + (rate_{i-1} - rate_i), S2 the sum of m.
        """
        from scipy.signal import lfilter

        if self._annealed is not None and self._annealed[0] == lam:
            return self._annealed[1:]
        change = np.where(np.arange(len(self.rate)) < self.warmup, 0.0, self.change)
        momentum = lfilter([1.0], [1.0, -lam], change)
        slope = lfilter([0.0, 1.0], [1.0, -lam], momentum)
        self._annealed = (lam, np.cumsum(momentum), np.cumsum(slope))
        return self._annealed[1:]


class Rates:
    """n places (curve, step) on realised learning-rate curves.

    `curves` by name, one rate a step; `curve` the name at each place, [n]; `step` the step there,
    [n], from 1. `rates[rows]` are the places of a boolean mask or of integer rows, on the same
    curves. Raises Refused on a name without a curve, a step beyond its curve, or one before which
    the rate was always 0.
    """

    def __init__(
        self, curves: Mapping[str, Any], curve: Sequence[str], step: Sequence[int] | Integers
    ) -> None:
        own = tuple(Curve(str(name), rate) for name, rate in curves.items())
        index = {one.name: i for i, one in enumerate(own)}
        unknown = next((name for name in curve if str(name) not in index), None)
        if unknown is not None:
            raise Refused(f"no rates for curve {unknown!r}; there are {', '.join(index) or 'none'}")
        if len(curve) != len(step):
            raise Refused(f"places need a curve and a step each: {len(curve)} and {len(step)}")
        at = np.array([index[str(name)] for name in curve], np.int64)
        self._set(own, at, _whole(step))
        for i, one in enumerate(own):
            steps = self.step[at == i]
            if len(steps) and (steps.min() < 1 or steps.max() > len(one.rate)):
                wrong = int(steps.min() if steps.min() < 1 else steps.max())
                raise Refused(f"curve {one.name!r} has steps 1 to {len(one.rate)}, not {wrong}")
            if len(steps) and one.summed[steps.min()] == 0.0:
                raise Refused(f"curve {one.name!r}: the rate is 0 up to step {steps.min()}")

    def _set(self, curves: tuple[Curve, ...], curve: Integers, step: Integers) -> None:
        self.curves, self.curve, self.step = curves, curve, step

    def __len__(self) -> int:
        return len(self.step)

    def __getitem__(self, rows: Any) -> "Rates":
        chosen = np.atleast_1d(np.arange(len(self))[np.asarray(rows)])
        part = Rates.__new__(Rates)
        part._set(self.curves, self.curve[chosen], self.step[chosen])
        if "changes" in self.__dict__:  # the blocks need no second search
            part.__dict__["changes"] = self.changes[chosen]
        return part

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Rates) or len(self.curves) != len(other.curves):
            return False
        return (
            np.array_equal(self.curve, other.curve)
            and np.array_equal(self.step, other.step)
            and all(
                a.name == b.name and np.array_equal(a.rate, b.rate)
                for a, b in zip(self.curves, other.curves, strict=True)
            )
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        names = ", ".join(one.name for one in self.curves)
        return f"Rates({len(self)} places on {names})"

    # What laws read -------------------------------------------------------------------------

    @cached_property
    def summed(self) -> Floats:
        """S1, the rates summed over steps 1..step, warm-up included: [n]."""
        total = np.zeros(len(self))
        for one, rows in self._by_curve():
            total[rows] = one.summed[self.step[rows]]
        return total

    @cached_property
    def changes(self) -> Changes:
        """The changes of rate up to each place, for sums over them."""
        parts, place, start = [], np.zeros(len(self), np.int64), 0
        for one, rows in self._by_curve():
            steps, where = np.unique(self.step[rows], return_inverse=True)
            parts.append(one.history.at(steps))
            place[rows] = start + where
            start += len(steps)
        return join(parts)[place]

    def annealed(self, lam: float) -> tuple[Floats, Floats]:
        """S2 at each place for the momentum `lam`, and its derivative by lam: [n] each."""
        area, slope = np.zeros(len(self)), np.zeros(len(self))
        for one, rows in self._by_curve():
            of_all, slope_of_all = one.annealed(lam)
            area[rows] = of_all[self.step[rows] - 1]
            slope[rows] = slope_of_all[self.step[rows] - 1]
        return area, slope

    def split(self, transfer: Any, lam: float) -> tuple[Floats, Floats, Floats, Floats]:
        """S1 and S2 (momentum `lam`) cut at the `transfer` steps, [n]: four of [n].

        S1 up to the transfer and what it gains after it, then S2 so; a place before its transfer
        has gained nothing. Raises Refused on steps of transfer that are not whole, from 1.
        """
        steps = _whole(transfer)
        if len(steps) and steps.min() < 1:
            raise Refused(
                f"a transfer has steps before it, so it is at step 1 or later, not {steps.min()}"
            )
        known = self.__dict__.get("_split")
        if known is None or known[0] != lam or not np.array_equal(known[1], steps):
            known = self.__dict__["_split"] = (lam, steps, self._split(steps, lam))
        return known[2]

    def _split(self, transfer: Integers, lam: float) -> tuple[Floats, Floats, Floats, Floats]:
        cut = np.minimum(transfer, self.step)
        before, area_before = np.zeros(len(self)), np.zeros(len(self))
        for one, rows in self._by_curve():
            before[rows] = one.summed[cut[rows]]
            area_before[rows] = one.annealed(lam)[0][cut[rows] - 1]
        area, _ = self.annealed(lam)
        return before, self.summed - before, area_before, area - area_before

    def _by_curve(self) -> Iterator[tuple[Curve, Integers]]:
        for i, one in enumerate(self.curves):
            rows = np.flatnonzero(self.curve == i)
            if len(rows):
                yield one, rows

    # On disk --------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; floats are exact there. See `from_dict`."""
        return {
            "curves": {one.name: one.rate.tolist() for one in self.curves},
            "curve": [self.curves[i].name for i in self.curve],
            "step": self.step.tolist(),
        }

    @staticmethod
    def from_dict(values: Any) -> "Rates":
        """The Rates that `to_dict` wrote. Raises Refused on anything else."""
        keys = {"curves", "curve", "step"}
        if not isinstance(values, dict) or set(values) != keys:
            raise Refused("rates are written as curves, curve and step, and nothing else")
        curves, curve, step = values["curves"], values["curve"], values["step"]
        if not isinstance(curves, dict) or not all(
            isinstance(name, str) and _all_of(rate, (int, float)) for name, rate in curves.items()
        ):
            raise Refused("curves of rates are lists of numbers, by name")
        if not _all_of(curve, (str,)) or not _all_of(step, (int,)):
            raise Refused("places on curves are a list of names and a list of whole steps")
        return Rates(curves, curve, step)


def _all_of(values: Any, kinds: tuple[type, ...]) -> bool:
    return isinstance(values, list) and all(type(one) in kinds for one in values)


def _whole(step: Any) -> Integers:
    """Steps as integers. Raises Refused on any that is not whole."""
    try:
        given = np.asarray(step, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise Refused("steps must be whole numbers from 1") from None
    wrong = np.flatnonzero(~((np.abs(given) < 2.0**53) & (given == np.rint(given))))
    if given.ndim != 1 or len(wrong):
        example = f", not {given[wrong[0]]:g}" if len(wrong) else ""
        raise Refused(f"steps must be whole numbers from 1{example}")
    return given.astype(np.int64)


# From a table -------------------------------------------------------------------------------


def rates_from_table(
    frame: "pd.DataFrame",
    curve_column: str | None,
    step_column: str,
    lr_column: str | None = None,
    given: "Mapping[Any, Any] | pd.DataFrame | None" = None,
) -> tuple[Rates, list[str]]:
    """(the places of the table's rows, what to tell the user). Raises Refused.

    `given` holds the rates: arrays by curve, one rate a step from step 1; or a table with the same
    columns for curve and step and one row a step. Else they are the rows' own, from `lr_column`
    ("lr"). Between the steps of a table rates are interpolated linearly, but for a change between
    two flat stretches, which is a jump at the later step; before the first step they rise linearly
    from 0. A table without `curve_column` is one curve.
    """
    import pandas as pd

    names, steps = _places(frame, curve_column, step_column, "the table")
    notes: list[str] = []
    if isinstance(given, Mapping):
        by_name = {str(name): rate for name, rate in given.items()}
        if curve_column is None and len(by_name) == 1:
            by_name = {_ALONE: next(iter(by_name.values()))}
    else:
        source, what = (frame, "the table") if given is None else (given, "the table of rates")
        if not isinstance(source, pd.DataFrame):
            raise Refused(f"rates are arrays by curve or a table, not {type(source).__name__}")
        column = lr_column or "lr"
        _require(column, source, what)
        at = (names, steps) if source is frame else _places(source, curve_column, step_column, what)
        try:
            rate = source[column].to_numpy(np.float64, na_value=np.nan)
        except (TypeError, ValueError):
            raise Refused(f"column {column!r} of {what} must hold numbers") from None
        if source is not frame and (empty := np.isnan(rate)).any():  # of logs: not logged there
            notes.append(f"{int(empty.sum())} rows of the table of rates hold none")
            kept = ~empty
            at = [name for name, one in zip(at[0], kept, strict=True) if one], at[1][kept]
            rate = rate[kept]
        by_name, more = _between(*at, rate)
        notes += more
    used = {name: by_name[name] for name in dict.fromkeys(names) if name in by_name}
    missing = next((name for name in names if name not in used), None)
    if missing is not None:
        raise Refused(f"no rates for curve {missing!r}; there are {', '.join(by_name) or 'none'}")
    return Rates(used, names, steps), notes


def _require(column: str, frame: "pd.DataFrame", what: str) -> None:
    if column not in frame.columns:
        known = [str(one) for one in frame.columns]
        hint = meant(column, known)
        raise Refused(f"{what} has no column {column!r}; it has {', '.join(known)}{hint}")


def _places(
    frame: "pd.DataFrame", curve_column: str | None, step_column: str, what: str
) -> tuple[list[str], Integers]:
    """Curve and step of each row."""
    _require(step_column, frame, what)
    steps = _whole(frame[step_column].to_numpy())
    if curve_column is None:
        return [_ALONE] * len(frame), steps
    _require(curve_column, frame, what)
    if frame[curve_column].isna().any():
        raise Refused(f"column {curve_column!r} of {what} has rows without a curve")
    return [str(name) for name in frame[curve_column]], steps


def _between(
    names: list[str], steps: Integers, rate: Floats
) -> tuple[dict[str, Floats], list[str]]:
    """The rate of every step from those of some, by curve; and what was assumed."""
    of_row = np.array(names, object)
    curves: dict[str, Floats] = {}
    late, widest, jumps = 0, 1, 0
    for name in dict.fromkeys(names):
        mine = of_row == name
        at, first, back = np.unique(steps[mine], return_index=True, return_inverse=True)
        own = rate[mine][first]
        differ = np.flatnonzero((own[back] != rate[mine]) & ~np.isnan(rate[mine]))
        if len(differ):
            twice = steps[mine][differ[0]]
            raise Refused(f"curve {name!r} has two rates for step {twice}; a step has one")
        if at[0] < 1:
            raise Refused(f"curve {name!r}: steps count from 1, not {at[0]}")
        wrong = np.flatnonzero(~(np.isfinite(own) & (own >= 0)))
        if len(wrong):
            raise Refused(
                f"curve {name!r}: the rate of step {at[wrong[0]]} is {own[wrong[0]]:g};"
                " rates are finite and at least 0"
            )
        late = max(late, int(at[0]))
        widest = max(widest, int(np.diff(at).max(initial=1)))
        moves = np.diff(own) != 0
        jump = 1 + np.flatnonzero(~moves[:-2] & moves[1:-1] & ~moves[2:] & (np.diff(at)[1:-1] > 1))
        jumps += len(jump)  # each has a row more: the step before it has the rate of the row before
        knots = np.insert(at, jump + 1, at[jump + 1] - 1)
        values = np.insert(own, jump + 1, own[jump])
        every = np.arange(1, at[-1] + 1)
        curves[name] = np.interp(every, np.append(0, knots), np.append(0.0, values))
    notes = []
    if late > 1:
        notes.append(f"rates before the first row (step {late} at most) rise linearly from 0")
    if widest > 1:
        notes.append(f"rates between rows (up to {widest} steps apart) are interpolated linearly")
    if jumps:
        notes.append(f"rates that jump between flat stretches ({jumps}) do so at the later row")
    return curves, notes


# Standard schedules -------------------------------------------------------------------------

SHAPES = ("linear", "exponential", "1-sqrt")


def schedule(
    kind: str,
    steps: int,
    peak: float,
    *,
    warmup: int = 0,
    end: float = 0.0,
    decay: int | None = None,
    shape: str = "linear",
) -> Floats:
    """The rates of steps 1..`steps`, [steps]: a linear warm-up to `peak` at step `warmup`, then

    "constant"   peak
    "cosine"     half a cosine from peak to `end` at the last step
    "wsd"        peak, then over the last `decay` steps to `end` by `shape`: "linear",
                 "exponential" or "1-sqrt" (peak + (end - peak) sqrt(share of the decay done))
    "two-stage"  peak, then `end` for the last `decay` steps

    `end` is a rate, in the unit of `peak`. Raises Refused.
    """
    if kind not in ("constant", "cosine", "wsd", "two-stage"):
        raise Refused(f"no schedule {kind!r}; there are constant, cosine, wsd and two-stage")
    if not 0 <= warmup < steps:
        raise Refused(f"a warm-up has 0 to {steps - 1} of {steps} steps, not {warmup}")
    if not (0 < peak < np.inf and 0 <= end <= peak):
        raise Refused(f"rates must be 0 <= end <= peak, peak above 0: not {end:g} and {peak:g}")
    step = np.arange(1, steps + 1, dtype=np.float64)
    rate = np.full(steps, float(peak))
    if kind == "cosine":
        share = np.clip((step - warmup) / (steps - warmup), 0.0, 1.0)
        rate = end + 0.5 * (peak - end) * (1 + np.cos(np.pi * share))
    elif kind in ("wsd", "two-stage"):
        if decay is None or not 0 < decay <= steps - warmup:
            raise Refused(f"{kind} needs decay, 1 to {steps - warmup} steps, not {decay}")
        share = np.clip((step - (steps - decay)) / decay, 0.0, 1.0)
        if kind == "two-stage":
            rate = np.where(share > 0, end, peak)
        elif shape == "linear":
            rate = peak + (end - peak) * share
        elif shape == "1-sqrt":
            rate = peak + (end - peak) * np.sqrt(share)
        elif shape == "exponential" and end > 0:
            rate = peak * (end / peak) ** share
        elif shape == "exponential":
            raise Refused("an exponential decay needs an end above 0")
        else:
            raise Refused(f"no shape {shape!r} of decay; there are {', '.join(SHAPES)}")
    return np.where(step < warmup, peak * step / max(warmup, 1), rate)
