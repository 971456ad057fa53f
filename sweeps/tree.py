"""The prefix tree of a plan as a figure: what is trained once, and for how many runs."""

from collections import defaultdict
from functools import cache
from typing import TYPE_CHECKING, Any

import pandas as pd

from fits.figures.plots import Figure
from fits.figures.style import CATEGORIES
from fits.figures.ticks import token_axis
from sweeps.plan import Plan

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

INCHES_A_RUN = 0.14
MOST_INCHES = 14.0
MOST_NAMED = 60  # runs; more names than that cannot be read


def tree_figure(plan: Plan) -> Figure:
    """Segments over tokens, a row a run; a line's width tells how many runs it is trained for."""
    rows = _rows(plan)
    table = pd.DataFrame(rows)
    names = _names(plan)
    shared, naive = _tokens(plan)

    def draw(canvas: "Canvas") -> None:
        axes = canvas.add_subplot()
        for row in rows:
            colour = CATEGORIES[0] if row["runs"] > 1 else CATEGORIES[1]
            span, at = (row["first_token"], row["last_token"]), row["row"]
            width = 1.0 + 0.5 * min(row["runs"], 8)
            axes.plot(span, (at, at), color=colour, linewidth=width, solid_capstyle="butt")
            if row["parent_row"] is not None:
                up = (row["parent_row"], at)
                axes.plot((span[0], span[0]), up, color="#888888", linewidth=0.6, zorder=1)
        for at, (name, end) in enumerate(names):
            if len(names) <= MOST_NAMED:
                axes.annotate(
                    name, (end, at), (3, 0), textcoords="offset points", va="center", fontsize=5.5
                )
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(0, max(end for _, end in names) * 1.25)
        axes.set_yticks([])
        axes.set_xlabel("tokens of a run")
        token_axis(axes)

    caption = (
        f"{plan.sweep.study} at scale {plan.sweep.scale}: {len(plan.runs)} runs in "
        f"{len(plan.segments)} segments. Blue is trained once for several runs, the thicker the "
        f"more; orange for one. {naive / shared:.2f} times fewer tokens than run by run."
    )
    height = min(max(1.6, INCHES_A_RUN * len(names) + 0.6), MOST_INCHES)
    return Figure("prefix_tree", caption, table, draw, height, height)


def _tokens(plan: Plan) -> tuple[int, int]:
    summary = plan.summary(1)
    return summary["tokens_shared"], summary["tokens_naive"]


def _order(plan: Plan) -> list[int]:
    """Runs in an order in which those that share a prefix stand together."""
    return sorted(range(len(plan.runs)), key=lambda run: plan.runs[run].segments)


def _names(plan: Plan) -> list[tuple[str, int]]:
    """Name of each run and the tokens at its end, from the top row down."""
    found = []
    for run in (plan.runs[k] for k in _order(plan)):
        values = ", ".join(
            f"{path.rpartition('.')[2]} {_short(one)}" for path, one in run.values.items()
        )
        found.append((f"{run.arm}: {values}", run.path.steps * run.path.run.tokens_per_step))
    return found


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _rows(plan: Plan) -> list[dict[str, Any]]:
    """A row a segment: where it stands, and for how many runs it is trained."""
    members: dict[int, list[int]] = defaultdict(list)
    for at, run in enumerate(_order(plan)):
        for segment in plan.runs[run].segments:
            members[segment].append(at)

    @cache
    def middle(segment: int) -> float:
        rows = members[segment]
        return (rows[0] + rows[-1]) / 2

    found = []
    for k, one in enumerate(plan.segments):
        a_step = one.path.run.tokens_per_step
        found.append(
            {
                "segment": one.end_id[:12],
                "first_token": one.start * a_step,
                "last_token": one.stop * a_step,
                "runs": len(members[k]),
                "row": middle(k),
                "parent_row": None if one.parent is None else middle(one.parent),
            }
        )
    return found
