"""Statements of a study against its sweep: are their arms there, and what can its seeds decide."""

import math
from typing import TYPE_CHECKING, Any

from lab.errors import Refused
from sweeps.sweep import Sweep

if TYPE_CHECKING:
    from fits.report import Findings, Table
    from fits.verdicts import Claim, Verdict

LEVEL = 0.95


def stated(claims: "tuple[Claim, ...]", sweep: Sweep) -> list[dict[str, Any]]:
    """A row a claim, with the smallest effect that the planned seeds can decide. Raises Refused.

    `decides` is None where one seed decides nothing, and where the study does not say (`sd`) how
    far its effect spreads over seeds.
    """
    from fits.verdicts import smallest_decided

    names = [claim.name for claim in claims]
    for name in names:
        if names.count(name) > 1:
            raise Refused(f"claim {name} is stated twice")
    rows = []
    for claim in claims:
        for arm in claim.arms:
            if arm not in sweep.arms:
                known = ", ".join(sweep.arms)
                raise Refused(f"claim {claim.name} needs arm {arm}; the sweep has {known}")
        seeds = min(
            (len(sweep.arms[arm].axes.get("seed", (0,))) for arm in claim.arms or sweep.arms),
        )
        decides = None
        if claim.sd is not None and seeds > 1:
            decides = smallest_decided(claim.sd, seeds, len(claims), LEVEL)
        rows.append(
            {
                "claim": claim.name,
                "statement": claim.statement,
                "sense": claim.sense,
                "smallest": claim.smallest,
                "unit": claim.unit,
                "seeds": seeds,
                "sd": claim.sd,
                "decides": decides,
            }
        )
    return rows


def stated_lines(rows: list[dict[str, Any]]) -> list[str]:
    """For people: what `stated` found."""
    lines = []
    for row in rows:
        line = f"claim {row['claim']}: {row['statement']} (matters from {row['smallest']:g} "
        line += f"{row['unit']}; {row['seeds']} seeds"
        if row["decides"] is not None:
            line += f" decide from {row['decides']:.2g}, if the sd over seeds is {row['sd']:.2g}"
        lines.append(f"{line})")
    return lines


def undecidable(rows: list[dict[str, Any]]) -> list[str]:
    """Warnings: claims whose smallest effect the planned seeds are not expected to decide."""
    names = [
        row["claim"]
        for row in rows
        if row["sd"] is not None and not (row["decides"] or math.inf) <= row["smallest"]
    ]
    if not names:
        return []
    return [f"too few seeds to decide the smallest effect that matters of: {', '.join(names)}"]


def verdicts(claims: "tuple[Claim, ...]", findings: "Findings") -> "list[Verdict]":
    """What the findings say of the claims. Raises Refused."""
    from fits.verdicts import judge

    return judge(claims, findings.evidence, LEVEL) if claims else []


def verdicts_table(found: "list[Verdict]") -> "Table":
    """The verdicts as a table of the report."""
    from fits.report import Table
    from fits.verdicts import verdict_table

    caption = (
        f"Effect with its {LEVEL:.0%} interval over independent units (trunk seeds), p after "
        f"Holm's procedure over {len(found)} statements. The smallest effect that matters stood in "
        "the study's file before it ran. supported: the interval lies on the statement's side and "
        "the mean matters; refuted: what there is does not matter, or contradicts; else undecided."
    )
    return Table("verdicts", caption, verdict_table(found))


def verdict_lines(found: "list[Verdict]") -> list[str]:
    """For people: a line a verdict."""
    lines = []
    for one in found:
        line = f"{one.decision:<9} {one.claim.name}: {one.claim.statement}"
        if one.low > -math.inf or one.high < math.inf:
            line += (
                f"; {one.effect:+.3g} ({one.low:+.3g} .. {one.high:+.3g}) {one.claim.unit}, "
                f"{one.units} units"
            )
        lines.append(f"{line}; {one.why}" if one.why else line)
    return lines
