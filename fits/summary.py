"""A fit in words, and as a LaTeX table.

The words follow the checklist of (Mis)fitting, 2502.18969: form, data and exclusions, objective,
optimiser, starts, tolerances, intervals, hold-out.
"""

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fits.interval import Interval

if TYPE_CHECKING:
    from fits.result import Fit, HeldOut

MOST_ROWS = 12  # held out, each on a line of its own
_GREEK = (
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "eta",
    "lambda",
    "mu",
    "rho",
    "sigma",
    "tau",
)
_SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_ESCAPED = "&%$#_{}"


def summary(one: "Fit") -> str:
    """What was fitted and how, line by line."""
    law = one.law
    units = ", ".join(f"{v.name} ({v.unit})" for v in law.variables)
    lines = [
        f"{one.label()}   {law.formula}",
        f"  {law.source}",
        f"  form      {law.response.name} ({law.response.unit}) in {units}",
        f"  data      {one.points} points{_excluded(one)}",
        f"  objective {one.objective} = {one.objective_value:.6g}, a sum over points; "
        f"residual rms {one.residual_rms:.3g} {law.response.unit}",
        f"  optimiser {_optimiser(one)}",
        f"  status    {one.status}",
        f"  level     {_percent(one.level)}",
    ]
    width = max(len(name) for name in one.params)
    for name, value in one.params.items():
        lines.append(f"  {name:<{width}}  {value:.6g}  {_uncertainty(one, name)}")
    lines += _held_out(one.held_out)
    lines += [f"  note: {note}" for note in one.notes]
    return "\n".join(lines)


def _held_out(rows: Sequence["HeldOut"]) -> list[str]:
    """A line a row; of many, how far off they are and the worst."""
    lines = []
    shown = rows
    if len(rows) > MOST_ROWS:
        errors = [row.relative_error for row in rows]
        mean, square = sum(errors) / len(rows), sum(error**2 for error in errors) / len(rows)
        lines = [
            f"  held out {len(rows)} rows: relative error mean {100 * mean:+.3f} %, "
            f"rms {100 * math.sqrt(square):.3f} %; the worst:"
        ]
        shown = [max(rows, key=lambda row: abs(row.relative_error))]
    for row in shown:
        where = ", ".join(f"{key} {_short(value)}" for key, value in row.variables.items())
        lines.append(
            f"  held out {where}: observed {row.observed:.5g}, predicted {row.predicted:.5g} "
            f"{Interval(row.low, row.high, '').text()}, {100 * row.relative_error:+.3f} %"
        )
    return lines


def latex(fits: Sequence["Fit"]) -> str:
    """A table of parameters and intervals, a row a fit, for fits of one law."""
    names = list(fits[0].params)
    head = " & ".join(["", *(f"${_symbol(name)}$" for name in names)])
    rows = []
    for one in fits:
        cells = [_escape(one.label())]
        for name in names:
            interval = one.intervals.get(one.tied.get(name, name))
            text = f"{one.params[name]:.4g}"
            if interval is not None and interval.method != "none":
                text += f" {interval.text()}".replace("inf", r"$\infty$")
            cells.append(text)
        rows.append(" & ".join(cells) + r" \\")
    law = fits[0].law
    note = f"{law.formula}; {law.source}; {_percent(fits[0].level)} intervals"
    return "\n".join(
        [
            f"% {note}".replace("\n", " "),
            rf"\begin{{tabular}}{{l{'r' * len(names)}}}",
            rf"{head} \\ \hline",
            *rows,
            r"\end{tabular}",
        ]
    )


def _optimiser(one: "Fit") -> str:
    from fits.engine.solve import AGREE, KINKED_AGREE, PRECISION

    kinked = one.problem.objective.kinked
    then = ", then linear programs" if kinked else f", relative precision {PRECISION:g}"
    return (
        f"Levenberg-Marquardt, exact gradients{then}; {one.agree} of {one.starts} starts agree "
        f"within {KINKED_AGREE if kinked else AGREE:g}"
    )


def _percent(level: float) -> str:
    return f"{100 * level:.6g}%"


def _excluded(one: "Fit") -> str:
    return f"; left out: {'; '.join(one.exclusions)}" if one.exclusions else ""


def _uncertainty(one: "Fit", name: str) -> str:
    if name in one.pinned:
        return "pinned"
    if name in one.tied:
        return f"tied to {one.tied[name]}"
    own = one.intervals[name]
    note = f"  ({own.note})" if own.note else ""
    return f"{own.text()} {own.method}{note}"


def _short(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _symbol(name: str) -> str:
    """A parameter's name in mathematics: alpha, s1, R_D_star, A[code]."""
    name, _, group = name.partition("[")
    star = name.endswith("_star")
    base, below = name.removesuffix("_star"), ""
    match = re.fullmatch(r"([A-Za-z]+)_([A-Za-z]+)|([A-Za-z]+)(\d+)", base)
    if match:
        base, below = (match[1], match[2]) if match[1] else (match[3], match[4])
    text = f"\\{base}" if base in _GREEK else base
    text += f"_{{{below}}}" if below else ""
    text += "^{*}" if star else ""
    return text + (f"\\,[\\mathrm{{{_escape(group.rstrip(']'))}}}]" if group else "")


def _escape(text: str) -> str:
    return "".join(_SPECIAL.get(c, f"\\{c}" if c in _ESCAPED else c) for c in text)
