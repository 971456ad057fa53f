"""What a study of learning-rate schedules found: tables, figures, evidence for its claims."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fits.engine.uncertainty import mean_interval
from fits.figures.schedule_figures import curve_figure, error_figure, loss_figure, rate_figure
from fits.report import Findings, Table
from fits.result import Fit
from fits.schedule_foretold import measured
from fits.schedules import (
    Curves,
    along,
    difference,
    errors,
    gain,
    mean_fits,
    ranking,
    unit_fits,
)
from fits.verdicts import Evidence, by_unit, nothing

Pair = tuple[str, str]


@dataclass(frozen=True)
class Asked:
    """What is asked of the curves.

    fitted: curves that every law is fitted to, from step `after` on; held: those that it is held
    against; ranked: those of them over which laws are ranked, the others shown beside. By claim:
    ends, laws that must foretell the last loss of a curve; gains, a law and one that is to miss the
    ranked curves by less; differences, two curves whose last losses are compared. rewarmed: a curve
    whose rate rises again, and the one that ends where it does.
    """

    fitted: tuple[str, ...]
    held: tuple[str, ...]
    ranked: tuple[str, ...]
    laws: tuple[str, ...]
    after: int
    ends: Mapping[str, tuple[tuple[str, ...], str]]
    gains: Mapping[str, Pair]
    differences: Mapping[str, Pair]
    rewarmed: Pair

    @property
    def shown(self) -> tuple[str, ...]:
        """Curves on which laws are drawn: those at another peak would lie off the page."""
        return (*self.fitted, *self.ranked, self.rewarmed[0])


def findings(data: Curves, asked: Asked, corpus: str, notes: list[str]) -> Findings:
    """The findings on `fits.schedules.curves`. Raises Refused where no unit has the fitted curves
    whole; without unseen curves only what was fitted is shown."""
    fits = unit_fits(data, asked.fitted, asked.laws, asked.after)
    mean = mean_fits(data, asked.fitted, asked.laws, asked.after)
    missed = errors(data, fits, asked.fitted, asked.held, asked.after)
    ranked = _ranked(missed, asked)
    apart = difference_table(data, asked.differences)
    tables = [
        Table(
            "ranking",
            f"Laws fitted to {', '.join(asked.fitted)}, seed by seed, by their error (root mean "
            f"square, % of the loss) along {', '.join(asked.ranked)}, mean over curves and seeds. "
            "Difference to the best paired by seed, with its 95 % t interval.",
            ranked,
        ),
        Table(
            "errors",
            "By law and unseen curve, mean over seeds: the last loss as predicted less measured, "
            "with its 95 % t interval, and the error along the curve, both in % of the loss.",
            error_table(missed),
        ),
        Table(
            "differences",
            "Last loss of one schedule less that of another at equal tokens, paired by seed, with "
            "its 95 % t interval.",
            apart,
        ),
        Table("losses", "Loss at the last step, over the seeds that ended.", loss_table(data)),
        Table(
            "rewarming",
            "Loss behind a rewarmed rate, less that at which the decayed curve had ended.",
            rewarming_table(data, *asked.rewarmed),
        ),
        Table(
            "laws",
            "Laws on the fitted curves, mean over seeds: what is not identified should not be "
            "quoted, though the curve that it gives may be sound.",
            law_table(mean),
        ),
    ]
    tables = [one for one in tables if len(one.frame)]  # later curves may not be there yet
    lines = along(data, mean, asked.shown, asked.after)
    figures = [rate_figure(data.rates), curve_figure(lines, asked.fitted, asked.laws, corpus)]
    if len(ranked):
        best = str(ranked["law"].iloc[0])
        figures.insert(1, loss_figure(lines, asked.fitted, best, asked.shown, corpus))
        figures.append(error_figure(missed, asked.ranked))
    return Findings(
        headline=_headline(ranked, apart),
        tables=tables,
        fits=list(mean.values()),
        figures=figures,
        notes=[*notes, *_notes(mean)],
        readings={one.name: one.frame.replace({np.nan: None}).to_dict("records") for one in tables},
        evidence=evidence(data, missed, asked),
        measured=measured(missed),
    )


def _ranked(missed: pd.DataFrame, asked: Asked) -> pd.DataFrame:
    whole = missed.groupby("unit")["curve"].apply(lambda names: set(asked.ranked) <= set(names))
    return ranking(missed, asked.ranked) if whole.any() else pd.DataFrame()


def evidence(data: Curves, missed: pd.DataFrame, asked: Asked) -> dict[str, Evidence]:
    """What the seeds say of each claim. Of a last loss that several laws must foretell, a seed has
    the least and the most of their errors: all lie within the margin only if both do."""
    epochs = float(data.rows["epochs"].max())
    found = {}
    for claim, (laws, name) in asked.ends.items():
        chosen = missed[missed["law"].isin(laws) & (missed["curve"] == name)]
        by_law = chosen.pivot_table(index="unit", columns="law", values="end_error").dropna()
        if by_law.empty:
            found[claim] = nothing(f"no seed has {name} and the fitted curves to their end")
            continue
        note = ""
        if len(laws) > 1:
            means = by_law.mean()
            note = "; ".join(f"{law} {means[law]:+.2f} %" for law in laws)
        bounds = zip(by_law.min(axis=1), by_law.max(axis=1), strict=True)
        found[claim] = by_unit([(float(low), float(high)) for low, high in bounds], epochs, note)
    for claim, (worse, better) in asked.gains.items():
        each = gain(missed, worse, better, asked.ranked)
        none = f"no seed has {', '.join(asked.ranked)} to their end"
        found[claim] = by_unit(list(each.values()), epochs) if each else nothing(none)
    for claim, (one, other) in asked.differences.items():
        each = difference(data, one, other)
        none = f"no seed has {one} and {other} to their end"
        found[claim] = by_unit(list(each.values()), epochs) if each else nothing(none)
    return found


# Tables ---------------------------------------------------------------------------------------


def error_table(missed: pd.DataFrame) -> pd.DataFrame:
    """A row a law and unseen curve; missed: of `fits.schedules.errors`."""
    rows = []
    for (name, law), mine in missed.groupby(["curve", "law"], sort=False):
        rows.append(
            {
                "curve": name,
                "law": law,
                **_with_interval("end_error", list(mine["end_error"])),
                "curve_error": float(mine["curve_error"].mean()),
                "seeds": len(mine),
            }
        )
    return pd.DataFrame(rows)


def difference_table(data: Curves, pairs: Mapping[str, Pair]) -> pd.DataFrame:
    """A row a pair of curves: last loss of one less that of the other, in nats."""
    rows = []
    for one, other in pairs.values():
        each = list(difference(data, one, other).values())
        rows.append({"curve": one, "less": other, **_with_interval("nats", each)})
        rows[-1]["seeds"] = len(each)
    return pd.DataFrame(rows)


def loss_table(data: Curves) -> pd.DataFrame:
    """Mean and standard deviation of the last loss of each curve."""
    rows = []
    for name in data.rates:
        each = [data.last(name, unit) for unit in data.units(name)]
        if each:
            rows.append(
                {
                    "curve": name,
                    "steps": data.end(name),
                    "summed_rate": float(np.sum(data.rates[name], dtype=np.float64)),
                    "loss_nats": float(np.mean(each)),
                    "sd_over_seeds": float(np.std(each, ddof=1)) if len(each) > 1 else math.nan,
                    "seeds": len(each),
                }
            )
    return pd.DataFrame(rows)


def law_table(mean: Mapping[str, Fit]) -> pd.DataFrame:
    """A row a law: how well it fits, and which of its parameters are not known."""
    rows = []
    for law, one in mean.items():
        unbounded = [
            f"{name} {one.intervals[name].note}"
            for name in one.params
            if one.intervals[name].low is None or one.intervals[name].high is None
        ]
        rows.append(
            {
                "law": law,
                "parameters": len(one.params),
                "points": one.points,
                "rms_nats": one.residual_rms,
                "status": one.status,
                "starts_that_agree": f"{one.agree}/{one.starts}",
                "trade_offs": ", ".join(f"{a} and {b}" for a, b in one.degenerate),
                "not_bounded": ", ".join(unbounded),
            }
        )
    return pd.DataFrame(rows)


def rewarming_table(data: Curves, rewarmed: str, before: str) -> pd.DataFrame:
    """What rising again costs and brings: the loss behind the end of `before`, less that there.

    One row: most of the mean over seeds, its steps behind that end, and the last, in nats.
    """
    units = data.units(rewarmed, before)
    if not units:
        return pd.DataFrame()
    end = data.end(before)
    excess = []
    for unit in units:
        rows = data.of(rewarmed, unit).set_index("step")["loss_nats"]
        excess.append(rows[rows.index > end] - rows[end])
    each = pd.concat(excess, axis=1)
    highest = int(each.mean(axis=1).idxmax())
    return pd.DataFrame(
        [
            {
                "curve": rewarmed,
                **_with_interval("most", list(each.loc[highest])),
                "steps_behind": highest - end,
                **_with_interval("last", list(each.iloc[-1])),
                "seeds": len(units),
            }
        ]
    )


def _with_interval(name: str, values: list[float]) -> dict[str, float]:
    interval = mean_interval(values)
    return {
        name: float(np.mean(values)) if values else math.nan,
        f"{name} low": math.nan if interval.low is None else interval.low,
        f"{name} high": math.nan if interval.high is None else interval.high,
    }


# Words ----------------------------------------------------------------------------------------


def _headline(ranked: pd.DataFrame, apart: pd.DataFrame) -> str:
    if ranked.empty:
        said = ["No seed has every unseen curve: laws are not ranked"]
    else:
        order = [f"{row['law']} {row['curve_error']:.2f} %" for _, row in ranked.iterrows()]
        said = [f"Error along unseen curves: {', '.join(order)} ({ranked['units'].iloc[0]} seeds)"]
    for _, row in apart.dropna(subset=["nats"]).iterrows():
        text = f"{row['curve']} less {row['less']} {row['nats']:+.3f}"
        if math.isfinite(row["nats low"]):
            text += f" ({row['nats low']:+.3f} .. {row['nats high']:+.3f})"
        said.append(f"{text} nats")
    return f"{'; '.join(said)}."


def _notes(mean: Mapping[str, Fit]) -> list[str]:
    return [f"{law}: {note}" for law, one in mean.items() for note in one.notes]
