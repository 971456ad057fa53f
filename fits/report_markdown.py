"""The report as a Markdown page, for a repository: figures are files beside it."""

import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from fits.files import write_whole
from fits.report import Findings, Table, cell, fit_rows

KIND = "png"
_SPECIAL = re.compile(r"([\\`*_{}\[\]|#~])")


def write_markdown(
    path: Path,
    title: str,
    question: str,
    findings: Findings,
    facts: Mapping[str, str],
    command: str = "",
) -> list[Path]:
    """Write `path` and, in a folder named after it, the figures; returns all files. Raises Failed.

    Everything that was not written here is escaped. `facts` are short (what ran, with what).
    """
    pictures = path.with_suffix("")
    files = [path]
    lines = [f"# {_text(title)}", "", f"*{_text(question)}*", ""]
    if command:
        lines += ["```bash", command, "```", ""]
    lines += [f"**{_text(findings.headline)}**", ""]
    for table in findings.tables:
        if table.name == "verdicts":
            lines += _table(table)
    for figure in findings.figures:
        files.append(pictures / f"{_file_name(figure.name)}.{KIND}")
        figure.save(files[-1])
        place = quote(f"{pictures.name}/{files[-1].name}")
        lines += [f"![{_text(figure.name)}]({place})", "", _text(figure.caption), ""]
    if findings.notes:
        lines += ["## Before you believe it", ""]
        lines += [f"- {_text(note)}" for note in findings.notes]
        lines += [""]
    for table in findings.tables:
        if table.name != "verdicts":
            lines += _table(table)
    lines += _laws(findings)
    lines += ["## What ran", "", "| | |", "|---|---|"]
    lines += [f"| {_text(key)} | {_text(value)} |" for key, value in facts.items()]
    write_whole(path, ("\n".join(lines) + "\n").encode())
    return files


def _table(table: Table) -> list[str]:
    rows = table.frame[table.columns].itertuples(index=False)
    return [
        f"## {_text(table.name)}",
        "",
        _text(table.caption),
        "",
        *_rows(table.columns, [[cell(value) for value in row] for row in rows]),
        "",
    ]


def _laws(findings: Findings) -> list[str]:
    if not findings.fits:
        return []
    rows = []
    for row in fit_rows(findings.fits):
        params = "; ".join(f"{key} = {cell(value)} ({low})" for key, value, low in row["params"])
        held = "; ".join(f"{100 * one.relative_error:+.2f} %" for one, _ in row["held_out"])
        rows.append([row["label"], row["formula"], params, cell(row["rms"]), held])
    head = ("fit", "law", "parameters (interval)", "residual rms", "held out")
    return ["## Laws", "", *_rows(head, rows), ""]


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(map(_text, head)) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(map(_text, row)) + " |" for row in rows]


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "figure"


def _text(value: str) -> str:
    """Text in which Markdown and HTML find nothing of their own."""
    flat = " ".join(html.escape(str(value), quote=False).split())
    return _SPECIAL.sub(r"\\\1", flat)
