"""Writes what a study found into its output folder: table, fits, figures with data, report."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.spec import canonical
from lab.store import Index
from sweeps.claims import verdicts, verdicts_table
from sweeps.foretold import Foretold, compared
from sweeps.plan import Plan
from sweeps.progress import count
from sweeps.rounds import Round, chosen_runs, tables
from sweeps.study import Study, command_of

if TYPE_CHECKING:
    import pandas as pd

    from fits.report import Findings
    from fits.verdicts import Verdict

PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "grain", "numpy", "scipy", "pandas")
LINE = 100  # letters of a line of JSON


@dataclass(frozen=True)
class Answer:
    """A study's findings on the runs of a folder, and where they came from.

    `rounds` are those of `lab run --until`, if there were any.
    """

    study: Study
    settings: Any
    plan: Plan
    index: Index
    results: "pd.DataFrame"
    stack: int
    foretold: Sequence[Foretold] = ()
    rounds: Sequence[Round] = ()

    def findings(self) -> "Findings":
        """What the study says, its verdicts first. Raises Refused when the table does not hold
        enough to say it."""
        return self.judged()[0]

    def judged(self) -> "tuple[Findings, list[Verdict]]":
        """(findings, the verdicts among them). Raises Refused like `findings`."""
        told, sweep = self.settings, self.plan.sweep
        found = self.study.read(self.results, told, sweep)
        judged = verdicts(self.study.claims(told, sweep), found)
        first = [verdicts_table(judged)] if judged else []
        beside = compared(self.foretold, dict(found.measured))
        first += [beside] if beside is not None else []
        found = self._with_rounds(replace(found, tables=[*first, *found.tables]))
        return found, judged

    def _with_rounds(self, found: "Findings") -> "Findings":
        if not self.rounds:
            return found
        full = sum(one.flops for one in self.plan.segments)
        measured = {
            name: target.measured(self.results, self.settings, self.plan.sweep)
            for name, target in self.study.targets.items()
        }
        note = (
            f"{len(self.rounds)} adaptive rounds chose {len(chosen_runs(self.plan, self.rounds))} "
            f"of {len(self.plan.runs)} runs to narrow {', '.join(self._narrowed())}: what other "
            "runs would tell is missing here, and a width that ended the rounds was looked at "
            "several times (lab bench adaptive measures what that costs)."
        )
        more = tables(self.rounds, measured, float(full))
        return replace(found, tables=[*found.tables, *more], notes=[*found.notes, note])

    def _narrowed(self) -> list[str]:
        return list(dict.fromkeys(one.target for one in self.rounds))


def write_up(answer: Answer, out: Path) -> "tuple[Findings, list[Verdict], list[Path]]":
    """Write everything; returns findings, verdicts and the files. Raises Failed, Refused.

    The results come first: they are there even if the study finds too little in them to say more.
    """
    from fits.figures.plots import FORMATS
    from fits.files import write_whole
    from fits.plain import rows_for_json
    from fits.saved import SCHEMA, to_dict
    from fits.table import write_table
    from fits.verdicts import verdict_table

    files = [out / "results.parquet", out / "results.csv", out / "fit.json", out / "report.html"]
    write_table(answer.results, files[0])
    write_table(answer.results, files[1])
    findings, judged = answer.judged()
    fit_json = {
        "schema": SCHEMA,
        "study": answer.study.name,
        "scale": answer.plan.sweep.scale,
        "headline": findings.headline,
        "readings": findings.readings,
        "verdicts": rows_for_json(verdict_table(judged).to_dict("records")),
        "fits": [to_dict(one) for one in findings.fits],
    }
    write_whole(files[2], (json.dumps(fit_json, indent=1, allow_nan=False) + "\n").encode())
    for table in findings.tables:
        files.append(out / "tables" / f"{table.name.replace(' ', '_')}.csv")
        write_table(table.frame, files[-1])
    for figure in findings.figures:
        for kind in FORMATS:
            files.append(out / "figures" / f"{figure.name}.{kind}")
            figure.save(files[-1])
        files.append(out / "figures" / f"{figure.name}.csv")
        write_table(figure.data, files[-1])
    write_report_page(answer, findings, files[3])
    return findings, judged, files


def write_report_page(answer: Answer, findings: "Findings", path: Path) -> None:
    """Write the report as one HTML page, or (.md) as Markdown with its figures beside it.

    Raises Refused, Failed.
    """
    question = answer.study.question
    title = f"{answer.study.title} — {answer.plan.sweep.scale}"
    if path.suffix == ".md":
        from fits.report_markdown import write_markdown

        command = command_of(answer.study, answer.settings, answer.plan.sweep)
        write_markdown(path, title, question, findings, _facts(answer), command)
        return
    from fits.report_page import Ran, write_report
    from sweeps.set_up import set_up
    from sweeps.what_ran import planned_and_there, runs_table

    ran = Ran(
        planned_and_there(answer.plan, answer.index, answer.results),
        runs_table(answer.plan, answer.results),
        answer.results,
        set_up(answer.plan, answer.results),
    )
    write_report(path, title, question, findings, _facts(answer), _details(answer), ran)


def _facts(answer: Answer) -> Mapping[str, str]:
    planned = answer.plan.summary(answer.stack)
    shared = planned["tokens_shared"]
    facts = {
        "runs": f"{planned['runs']} ({_statuses(answer.results)})",
        "segments trained": f"{planned['segments']}",
        "training tokens": f"{count(shared)} shared, {count(planned['tokens_naive'])} without "
        f"sharing ({planned['tokens_naive'] / shared:.2f} times)",
        "training FLOPs": f"{planned['flops_shared']:.3g} shared, {planned['flops_naive']:.3g} "
        "without sharing (attention and head included)",
        "models": "; ".join(
            f"width {group['width']}, {group['layers']} layers, {group['parameters']:,} parameters"
            for group in planned["groups"]
        ),
        "corpora": "; ".join(
            f"{name}: {count(corpus.train_tokens)} training tokens, digest {corpus.digest[:12]}"
            for name, corpus in answer.plan.corpora.items()
        ),
        "epochs read at most": "; ".join(
            f"{name} {epochs:.2f}" for name, epochs in answer.plan.most_epochs().items()
        ),
        "lanes of a stack": str(answer.stack),
        "software now": f"Python {platform.python_version()}; {versions()}",
    }
    for number, one in enumerate(answer.index.provenance):
        facts[f"trained on {number + 1}"] = ", ".join(
            f"{key} {value}" for key, value in one.items()
        )
    if len(answer.index.provenance) > 1:
        facts["mixed provenance"] = (
            "segments come from different software, machines or stacks: their bits may differ"
        )
    return facts


def _statuses(results: "pd.DataFrame") -> str:
    runs = results.drop_duplicates(["arm", "run"])
    counts = runs["status"].value_counts()
    return ", ".join(f"{number} {status}" for status, number in counts.items())


def _details(answer: Answer) -> Mapping[str, str]:
    sweep = json.loads(answer.plan.sweep.to_json())
    settings = json.loads(canonical(answer.settings))
    return {
        "Settings": readable(settings),
        "Exact specification of every arm": readable(sweep),
    }


def readable(value: Any, before: str = "") -> str:
    """JSON for people: what fits on a line stands on one. `before` stands in front of each line."""
    flat = json.dumps(value)
    if len(before) + len(flat) <= LINE or not isinstance(value, dict | list) or not value:
        return flat
    inner = f"{before} "
    if isinstance(value, dict):
        parts = [f"{json.dumps(key)}: {readable(one, inner)}" for key, one in value.items()]
    else:
        parts = [readable(one, inner) for one in value]
    opened, closed = "{}" if isinstance(value, dict) else "[]"
    return f"{opened}\n{inner}" + f",\n{inner}".join(parts) + f"\n{before}{closed}"


def versions() -> str:
    """Installed versions of the packages that results depend on."""
    return ", ".join(f"{name} {version(name)}" for name in PACKAGES)


def version(name: str) -> str:
    """Installed version of a package, or `missing`."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "missing"
