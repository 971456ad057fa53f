"""`report.html`: one self-contained page; every name in it is escaped.

Style and script stand in the page, allowed by their hashes alone; figures are images within it, so
that nothing in them can run. Without the script the page is whole: it only sorts tables, shows the
runs behind a mark, and saves figures.
"""

import base64
import hashlib
import html
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fits.behind import Behind
from fits.checklist import checklist
from fits.figures.marks import Mark, with_marks
from fits.figures.plots import Figure
from fits.files import write_whole
from fits.report import Findings, Table, cell, fit_rows

if TYPE_CHECKING:
    import pandas as pd

LONG = 28  # letters from which a cell may be broken
WIDEST = 8  # inches: a style for each whole number up to it


@dataclass(frozen=True)
class Ran:
    """What stands behind the findings: the results, and what was planned and trained for them.

    planned: plan against actual. runs: a row a run, whose column `run` is that of `results`.
    set_up: answers to the checklist, by key (`fits.checklist`).
    """

    planned: Table
    runs: Table
    results: "pd.DataFrame"
    set_up: Mapping[str, str] = field(default_factory=dict)


def write_report(
    path: Path,
    title: str,
    question: str,
    findings: Findings,
    facts: Mapping[str, str],
    details: Mapping[str, str],
    ran: Ran | None = None,
) -> None:
    """Write the page. `facts` are short (what ran, with what); `details` long (specs). Failed."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("fits", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["prose"] = _prose
    style, script = (_file(name) for name in ("report.css", "report.js"))
    behind = Behind(ran.results) if ran is not None else None
    verdicts = _verdicts(findings)
    pictures = [_picture(one, behind) for one in findings.figures]
    page = environment.get_template("report.html.jinja").render(
        title=title,
        question=question,
        findings=findings,
        tables=[_shown(table) for table in findings.tables],
        verdicts=verdicts,
        tally=_tally(verdicts),
        pictures=pictures,
        facts=facts,
        details=details,
        cell=cell,
        fit_rows=fit_rows(findings.fits),
        planned=_shown(ran.planned) if ran is not None else None,
        runs=_shown(ran.runs) if ran is not None else None,
        run_names=list(ran.runs.frame["run"]) if ran is not None else [],
        checklist=checklist(findings.fits, ran.set_up if ran is not None else {}),
        style=Markup(style),
        script=Markup(script),
        policy="default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src '{_hash(style)}'; script-src '{_hash(script)}'",
    )
    write_whole(path, page.encode())


def _file(name: str) -> str:
    text = (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")
    return f"\n{text}"


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _visible(value: Any) -> Any:
    """Text without control characters: those that turn or hide what stands beside them are named.

    Among them are Unicode's marks of direction, which would turn the rest of a line around.
    """
    if type(value) is not str:
        return value  # numbers, and markup of this module's own
    return "".join(
        f"[U+{ord(one):04X}]" if unicodedata.category(one) in _HIDDEN and one not in "\n\t" else one
        for one in value
    )


_HIDDEN = ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")


def _prose(text: str) -> Any:
    """A sentence, in which what stands between `backticks` is code."""
    from markupsafe import Markup, escape

    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(_visible(text)))))


# Tables ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Column:
    name: str
    kind: str  # a class of the style: number, text, or wide where lines may be broken


@dataclass(frozen=True)
class _Shown:
    table: Table
    columns: list[_Column]
    rows: list[list[str]]


def _shown(table: Table) -> _Shown:
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    frame = table.frame[table.columns]
    rows = [[cell(value) for value in row] for row in frame.itertuples(index=False)]
    columns = []
    for k, name in enumerate(table.columns):
        own = frame.iloc[:, k]
        kind = "text"
        if is_numeric_dtype(own) and not is_bool_dtype(own):
            kind = "number"
        elif any(len(row[k]) > LONG for row in rows):
            kind = "wide"
        columns.append(_Column(name, kind))
    return _Shown(table, columns, rows)


def _verdicts(findings: Findings) -> list[dict[str, str]]:
    """The verdicts in short, from the table that `sweeps` puts first."""
    for table in findings.tables:
        if table.name == "verdicts":
            return [_verdict(row) for row in table.frame.to_dict("records")]
    return []


def _verdict(row: Mapping[Any, Any]) -> dict[str, str]:
    import math

    low, high = (float(row.get(end, math.nan)) for end in ("low", "high"))
    effect = ""
    if math.isfinite(low) or math.isfinite(high):
        effect = f"{row['effect']:+.3g} ({low:+.3g} .. {high:+.3g}) {row['unit']}, "
        effect += f"{row['units']} units"
    decision = str(row.get("verdict", ""))
    return {
        "decision": decision,
        "sign": {"supported": "✓", "refuted": "✗"}.get(decision, "?"),
        "statement": str(row.get("statement", row.get("claim", ""))),
        "effect": effect,
        "why": "" if effect else str(row.get("why", "")),
    }


def _tally(verdicts: Sequence[Mapping[str, str]]) -> str:
    """How many statements were decided which way."""
    counts = Counter(one["decision"] for one in verdicts)
    kinds = [f"{counts.pop(kind)} {kind}" for kind in ("supported", "refuted") if kind in counts]
    kinds += [f"{count} {kind}" for kind, count in counts.items()]
    return f"{', '.join(kinds)}, of {len(verdicts)} statements of the study"


# Figures --------------------------------------------------------------------------------------


def _picture(figure: Figure, behind: Behind | None) -> dict[str, Any]:
    from markupsafe import Markup

    drawn, marks = with_marks(figure)
    told = Markup(_for_script(_points(figure, marks, behind)))
    return {
        "figure": figure,
        "content": base64.b64encode(drawn).decode("ascii"),
        "inches": min(WIDEST, max(1, round(figure.size()[0]))),
        "file": re.sub(r"[^A-Za-z0-9_-]+", "-", figure.name).strip("-") or "figure",
        "points": told,
    }


def _points(figure: Figure, marks: Sequence[Mark], behind: Behind | None) -> dict[str, Any]:
    """What the script shows: places of marks, and by number what they stand for.

    A line without marks of its own has places only where runs are known: its other vertices are
    those of a drawn curve.
    """
    data = figure.data.reset_index(drop=True)
    runs = behind.runs(data) if behind is not None else [()] * len(data)
    number: dict[tuple[int, ...], int] = {}
    places: list[list[float]] = []
    told: list[tuple[list[str], list[int]]] = []
    for mark in marks:
        own = sorted({run for row in mark.rows for run in runs[row]})
        if not (mark.alone or own):
            continue
        if mark.rows not in number:
            number[mark.rows] = len(told)
            told.append((_row(data, mark.rows), own))
        places.append([mark.x, mark.y, number[mark.rows]])
    names = behind.names if behind is not None else []
    used = sorted({run for _, own in told for run in own})
    short = {run: k for k, run in enumerate(used)}
    return {
        "columns": [_visible(str(name)) for name in data.columns if name != "run"],
        "told": [[row, [short[run] for run in own]] for row, own in told],
        "runs": [_visible(str(names[run])) for run in used],
        "marks": places,
    }


def _row(data: "pd.DataFrame", rows: Sequence[int]) -> list[str]:
    """A cell a column: what rows have in common, else their mean and range; "" where neither."""
    from pandas.api.types import is_float_dtype

    cells = []
    for name in data.columns:
        if name == "run":
            continue
        own = data[name].iloc[list(rows)]
        if own.isna().all():
            cells.append("")
        elif own.nunique(dropna=False) == 1:
            cells.append(_visible(cell(own.iloc[0])))
        elif is_float_dtype(own):
            cells.append(f"{cell(own.mean())} ({cell(own.min())} .. {cell(own.max())})")
        else:
            cells.append("")
    return cells


def _for_script(value: Any) -> str:
    """JSON that may stand in a script element: no sign in it means anything to HTML."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    assert html.escape(text, quote=False) == text
    return text
