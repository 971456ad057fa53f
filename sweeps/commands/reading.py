"""results, report, plot: what a folder or a fit says, written down."""

import argparse
import json
from pathlib import Path
from typing import Any

from lab.errors import Refused, meant
from lab.spec import read
from sweeps import foretold
from sweeps.folder import Folder, Held
from sweeps.plan import Plan, make_plan
from sweeps.rounds import read_rounds
from sweeps.run import open_corpora
from sweeps.study import built_in, find_study


def open_folder(folder: str) -> tuple[Folder, Held, Plan]:
    """A folder, what it holds and its plan. Raises Refused."""
    opened = Folder(Path(folder))
    held = opened.held()
    if held is None:
        raise Refused(f"{opened.name} holds no sweep")
    corpora = open_corpora(held.sweep)
    digests = {name: corpus.digest for name, corpus in corpora.items()}
    opened.refuse_another(held.sweep, digests)
    return opened, held, make_plan(held.sweep, corpora)


def results(told: argparse.Namespace) -> Any:
    """The tidy table, or the per-step log."""
    from fits.table import write_table
    from sweeps.results import step_table, table

    folder, _, made = open_folder(told.folder)
    index = folder.store.load(set_aside=False)
    frame = step_table(made, index, folder.store) if told.steps else table(made, index)
    if told.to:
        write_table(frame, Path(told.to))
        if not told.json:
            print(f"{len(frame)} rows, {len(frame.columns)} columns -> {told.to}")
        return {"rows": len(frame), "columns": list(frame.columns), "to": told.to}
    if told.json:
        return json.loads(frame.to_json(orient="records"))
    print(frame.to_string(max_rows=40, index=False))
    return None


def _answer(source: str, study_file: str | None) -> Any:
    from sweeps.results import table
    from sweeps.write_up import Answer

    folder, held, made = open_folder(source)
    if study_file is None and held.sweep.study not in built_in():
        raise Refused(f"{source} was made by your own study: name its file with --study")
    study = find_study(study_file or held.sweep.study)
    settings = read(type(study.settings(held.sweep.scale)), held.settings, "settings")
    index = folder.store.load(set_aside=False)
    known = foretold.read(folder.path)
    rounds = read_rounds(folder.path)
    return Answer(study, settings, made, index, table(made, index), held.stack, known, rounds)


def report(told: argparse.Namespace) -> Any:
    """Write the report of a folder."""
    from sweeps.write_up import write_report_page

    to = Path(told.to)
    if to.suffix not in (".html", ".md"):
        raise Refused(f"cannot write {to.name}: a report ends in .html or .md")
    answer = _answer(told.folder, told.study)
    write_report_page(answer, answer.findings(), to)
    if not told.json:
        print(f"-> {to}")
    return {"to": str(to)}


def plot(told: argparse.Namespace) -> Any:
    """Write one figure, in one of the looks of figures."""
    from fits.figures.plots import refuse_ending
    from fits.figures.style import look

    asked = look(told.style, told.columns)  # before minutes are spent
    refuse_ending(Path(told.to))
    if Path(told.source).is_dir():
        findings = _answer(told.source, told.study).findings()
        names = [one.name for one in findings.figures]
        figure = findings.figure(told.figure) if told.figure else findings.figures[0]
    else:
        from fits.figures.fit_figure import fit_figure, fits_figure
        from fits.own import law_of_file
        from fits.saved import load_fits

        fits = load_fits(told.source, [law_of_file(told.law)] if told.law else [])
        names = [one.label() for one in fits]
        chosen = [one for one in fits if told.figure in (None, one.label(), one.name, one.law_name)]
        if not chosen:
            hint = meant(told.figure, [*names, *(one.law_name for one in fits)])
            raise Refused(
                f"no fit {told.figure!r} in {told.source}; it has {'; '.join(names)}{hint}"
            )
        one_curve_each = len({one.law_name for one in chosen}) == 1 and all(
            len(one.law.variables) == 1 and not one.law.rates and not one.law.groups
            for one in chosen
        )
        figure = fits_figure(chosen) if one_curve_each else fit_figure(chosen[0])
    shown = asked if told.style == "talk" or told.columns else None
    figure.save(Path(told.to), shown)
    if not told.json:
        others = "; ".join(name for name in names if name != figure.name)
        print(f"{figure.name} -> {told.to}" + (f" (also there: {others})" if others else ""))
    width, height = figure.size(shown)
    return {"figure": figure.name, "to": told.to, "inches": [width, height]}
