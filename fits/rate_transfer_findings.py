"""What a study of rates against width found: tables, figures, evidence for its claims."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from fits.engine.uncertainty import mean_interval
from fits.errors import Refused
from fits.figures.rate_figures import best_rate_figure, rate_figure
from fits.rate_rule import ByLength, RateLaw, Rule, rate_laws, rule_costs, worst
from fits.rate_transfer import (
    MIN_WIDTHS,
    MUP,
    SHOWN,
    STANDARD,
    Bounds,
    Curves,
    PowerOfWidth,
    copied_costs,
    edges,
    powers,
    rate_curves,
)
from fits.report import Findings, Table
from fits.verdicts import Evidence, by_unit, nothing

Powers = Mapping[str, Mapping[int, PowerOfWidth]]


def findings(
    ends: pd.DataFrame,
    widths: tuple[int, int],
    rule: Rule,
    rule_text: str,
    corpus: str,
    notes: list[str],
) -> Findings:
    """The findings on `fits.rate_transfer.rate_ends`.

    widths: the base, from which rates are copied, and that to which they are. What concerns muP is
    read at the shortest length. Raises Refused where a parametrisation has no run.
    """
    base, largest = widths
    lengths = {int(tokens): rate_curves(rows) for tokens, rows in ends.groupby("tokens")}
    curves = lengths[min(lengths)]
    for kind in (STANDARD, MUP):
        if kind not in curves:
            raise Refused(f"no run of the parametrisation {kind} has ended")
    found = {kind: powers(one, base) for kind, one in curves.items()}
    standard = {tokens: one[STANDARD] for tokens, one in lengths.items() if STANDARD in one}
    laws = rate_laws(standard, base)
    best = best_table(lengths)
    slopes = exponent_table(found, base)
    law = law_table(laws, base, min(lengths))
    costs = cost_table(lengths, base, rule)
    once = float(ends["epochs"].max())
    tables = [
        Table(
            "exponents",
            f"Best rate = c (width / {base})^p by parametrisation: mean over seeds with t "
            "intervals (of c by its logarithm).",
            slopes,
        ),
        Table(
            "law",
            f"Standard parametrisation, all lengths: best rate = c (width / {base})^p (tokens / "
            f"{min(lengths):,})^q; mean over the seeds that have both lengths, with t intervals.",
            law,
        ),
        Table(
            "best_rates",
            "Best peak rate, the vertex of a parabola in log rate: geometric mean over the seeds "
            "that have one inside the rates tried, with t intervals of the logarithm.",
            best,
        ),
        Table(
            "costs",
            f"Nats that a rate costs beside the best of the same width and seed: the best of width "
            f"{base}, copied; and the rule {rule_text}. Means over seeds with t intervals.",
            costs,
        ),
        Table(
            "losses",
            "Loss at the end by peak rate, mean and standard deviation over the seeds that ended.",
            loss_table(ends),
        ),
    ]
    return Findings(
        headline=_headline(slopes, costs, largest),
        tables=tables,
        fits=[],
        figures=[rate_figure(ends, best, corpus), best_rate_figure(best, slopes, base, rule)],
        notes=[*notes, *_notes(lengths, law, rule_text)],
        readings={
            name: table.replace({np.nan: None}).to_dict("records")
            for name, table in (
                ("exponents", slopes),
                ("law", law),
                ("best_rates", best),
                ("costs", costs),
            )
        },
        evidence={
            **evidence(curves, found, widths, once),
            **rule_evidence(standard, laws, rule, once),
        },
    )


def evidence(
    curves: Curves, found: Powers, widths: tuple[int, int], epochs: float
) -> dict[str, Evidence]:
    """What the seeds say of each statement on muP, paired between parametrisations."""
    steep = {unit: one.exponent for unit, one in found[STANDARD].items()}
    flat = {unit: one.exponent for unit, one in found[MUP].items()}
    none = f"no seed has a best rate inside the rates tried at {MIN_WIDTHS} widths"
    gone = {kind: _gone(curves[kind], found[kind]) for kind in (STANDARD, MUP)}
    both = [abs(steep[unit]) - abs(flat[unit]) for unit in steep if unit in flat]
    dear, why_dear = copied_costs(curves[STANDARD], *widths)
    cheap, why_cheap = copied_costs(curves[MUP], *widths)
    apart = [
        (dear[unit][0] - cheap[unit][1], dear[unit][1] - cheap[unit][0])
        for unit in dear
        if unit in cheap and math.isfinite(cheap[unit][0])
    ]
    return {
        "standard": _over_seeds([-one for one in steep.values()], epochs, gone[STANDARD], none),
        "mup": _over_seeds([*flat.values()], epochs, gone[MUP], none),
        "less": _over_seeds(both, epochs, gone[STANDARD] or gone[MUP], none),
        "copied": _over_seeds(apart, epochs, why_dear or why_cheap, none),
    }


def rule_evidence(
    standard: ByLength, laws: Mapping[int, RateLaw], rule: Rule, epochs: float
) -> dict[str, Evidence]:
    """What the seeds say of length of training, and of a rule at every width and length."""
    falls = [-one.tokens_exponent for one in laws.values()]
    none = "no seed has best rates inside those tried at two lengths of two widths"
    by_rule, why = rule_costs(standard, rule)
    return {
        "length": _over_seeds(falls, epochs, "", none),
        "rule": _over_seeds([*worst(by_rule).values()], epochs, why, none),
    }


def _over_seeds(
    effects: list[float] | list[Bounds], epochs: float, why: str, none: str
) -> Evidence:
    return by_unit(effects, epochs, why) if effects else nothing(why or none)


def _gone(curves: Mapping[int, Mapping[int, Any]], found: Mapping[int, PowerOfWidth]) -> str:
    """What of the best rates takes no part in the exponents."""
    units = {unit for by_seed in curves.values() for unit in by_seed}
    missing = sum(bool(one.edge) for by_seed in curves.values() for one in by_seed.values())
    parts = [f"{missing} best rates at an edge are not counted"] if missing else []
    if lost := len(units) - len(found):
        parts.append(f"{lost} of {len(units)} seeds have fewer than {MIN_WIDTHS} widths left")
    return "; ".join(parts)


# Tables ---------------------------------------------------------------------------------------


def best_table(lengths: Mapping[int, Curves]) -> pd.DataFrame:
    """A row per length, parametrisation and width: best rate, interval, and seeds at an edge."""
    rows = []
    for tokens, curves in lengths.items():
        for kind, by_width in curves.items():
            for width, by_seed in by_width.items():
                inside = [one for one in by_seed.values() if not one.edge]
                whys = dict.fromkeys(one.edge for one in by_seed.values() if one.edge)
                rows.append(
                    {
                        "parametrisation": kind,
                        "width": width,
                        "tokens": tokens,
                        **_geometric("best rate", [one.best for one in inside]),
                        "least loss": _mean([one.least for one in inside]),
                        "bend": _mean([one.bend for one in inside]),
                        "seeds": len(inside),
                        "at an edge": len(by_seed) - len(inside),
                        "why": "; ".join(whys),
                    }
                )
    return pd.DataFrame(rows)


def law_table(laws: Mapping[int, RateLaw], base: int, shortest: int) -> pd.DataFrame:
    """One row: exponents of width and tokens, and the rate at base and shortest, with intervals."""
    p = [one.width_exponent for one in laws.values()]
    q = [one.tokens_exponent for one in laws.values()]
    of_p, of_q = mean_interval(p), mean_interval(q)
    row = {
        "p": _mean(p),
        "p low": _number(of_p.low),
        "p high": _number(of_p.high),
        "q": _mean(q),
        "q low": _number(of_q.low),
        "q high": _number(of_q.high),
        **_geometric("c", [math.log2(one.rate) for one in laws.values()]),
        "base width": base,
        "tokens": shortest,
        "seeds": len(laws),
    }
    return pd.DataFrame([row])


def exponent_table(found: Powers, base: int) -> pd.DataFrame:
    """A row per parametrisation: exponent p and the rate c at the base, with t intervals."""
    rows = []
    for kind, by_seed in found.items():
        each = [one.exponent for one in by_seed.values()]
        interval = mean_interval(each)
        at_base = [math.log2(one.rate_at_base) for one in by_seed.values()]
        rows.append(
            {
                "parametrisation": kind,
                "p": _mean(each),
                "p low": _number(interval.low),
                "p high": _number(interval.high),
                **_geometric("c", at_base),
                "base width": base,
                "seeds": len(each),
            }
        )
    return pd.DataFrame(rows)


def cost_table(lengths: Mapping[int, Curves], base: int, rule: Rule) -> pd.DataFrame:
    """A row per length, parametrisation, width and source of a rate: what it costs in nats.

    A cost that is only known to be more than its least (the run diverged) counts in `at least`.
    """
    rows = []
    for tokens, curves in lengths.items():
        for kind, by_width in curves.items():
            by_rule, _ = rule_costs({tokens: by_width} if kind == STANDARD else {}, rule)
            for width in by_width:
                copied, _ = copied_costs(by_width, base, width)
                sources = {f"copied from {base}": copied} if width != base else {}
                if kind == STANDARD:
                    sources["rule"] = by_rule[width, tokens]
                for source, costs in sources.items():
                    each = [low for low, _ in costs.values()]
                    interval = mean_interval(each)
                    rows.append(
                        {
                            "parametrisation": kind,
                            "width": width,
                            "tokens": tokens,
                            "rate": source,
                            "cost in nats": _mean(each),
                            "low": _number(interval.low),
                            "high": _number(interval.high),
                            "seeds": len(each),
                            "at least": sum(low < high for low, high in costs.values()),
                        }
                    )
    return pd.DataFrame(rows)


def loss_table(ends: pd.DataFrame) -> pd.DataFrame:
    """Mean and standard deviation of the loss by peak rate, and how many seeds diverged."""
    places = ["parametrisation", "width", "tokens", "lr"]
    shown = ends.assign(loss_nats=ends["loss_nats"].replace(np.inf, np.nan))
    grouped = shown.groupby(places, sort=False)["loss_nats"].agg(["mean", "std", "count", "size"])
    grouped["diverged"] = grouped["size"] - grouped["count"]
    names = {"mean": "loss_nats", "std": "sd_over_seeds", "count": "seeds"}
    return grouped.reset_index().rename(columns=names).drop(columns="size")


def _geometric(name: str, logs: list[float]) -> dict[str, float]:
    """Geometric mean of values given by their log2, with its t interval."""
    interval = mean_interval(logs)
    return {
        name: 2 ** _mean(logs),
        f"{name} low": 2 ** _number(interval.low),
        f"{name} high": 2 ** _number(interval.high),
    }


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def _number(value: float | None) -> float:
    return math.nan if value is None else value


# Words ----------------------------------------------------------------------------------------


def _headline(slopes: pd.DataFrame, costs: pd.DataFrame, largest: int) -> str:
    said = []
    for _, row in slopes.iterrows():
        if math.isnan(row["p"]):
            said.append(f"{SHOWN[row['parametrisation']]}: no exponent of the best rate")
            continue
        text = f"{SHOWN[row['parametrisation']]}: best rate ~ width^{row['p']:.2f}"
        if math.isfinite(row["p low"]):
            text += f" (95 % interval {row['p low']:.2f} .. {row['p high']:.2f}, "
            text += f"{row['seeds']} seeds)"
        said.append(text)
    short = costs["tokens"] == costs["tokens"].min()
    copied = costs[short & (costs["width"] == largest) & (costs["rate"] != "rule")].dropna(
        subset=["cost in nats"]
    )
    for _, row in copied.iterrows():
        more = "at least " if row["at least"] else ""
        said.append(
            f"{SHOWN[row['parametrisation']]}: the best rate {row['rate']} to {largest} costs "
            f"{more}{row['cost in nats']:.3f} nats"
        )
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}."


def _notes(lengths: Mapping[int, Curves], law: pd.DataFrame, rule_text: str) -> list[str]:
    said = [
        f"{tokens:,} tokens: {one}" for tokens, curves in lengths.items() for one in edges(curves)
    ]
    row = law.iloc[0]
    if math.isfinite(row["q"]):
        text = f"Measured rule of the standard parametrisation: peak = {row['c']:.3g} "
        text += f"({row['base width']:.0f} / width)^{-row['p']:.2f} "
        text += f"({row['tokens']:,.0f} / tokens)^{-row['q']:.2f}"
        if math.isfinite(row["q low"]):
            text += f" (rate {row['c low']:.3g} .. {row['c high']:.3g}, exponents "
            text += f"{-row['p high']:.2f} .. {-row['p low']:.2f} and "
            text += f"{-row['q high']:.2f} .. {-row['q low']:.2f})"
        said.insert(0, f"{text}; the studies take {rule_text}.")
    return said
