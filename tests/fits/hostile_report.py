"""A report in which every name would be markup, if anything took it for that."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fits import Fit, fit
from fits.figures.fit_figure import fit_figure
from fits.figures.plots import Figure
from fits.report import Findings, Table
from fits.report_page import Ran, write_report

HOSTILE = (
    '<script>alert(\'x\')</script>"><img src=http://evil.test/x onerror="y">&{{ 7*7 }}]]></script>'
)
RATIOS = np.array([1 / 8, 1 / 4, 1 / 3, 1 / 2, 3 / 4, 0.9])


def made_fit() -> Fit:
    """A law of loss against ratio, a row held out, a parameter pinned."""
    loss = 1.9 - 0.4 * RATIOS**0.3 + 1e-3 * np.random.default_rng(0).normal(size=6)
    table = pd.DataFrame({"ratio_domain": RATIOS, "loss_nats": loss})
    return fit(
        "cmr-ratio",
        table,
        name=HOSTILE,
        group={HOSTILE: HOSTILE},
        holdout="ratio_domain == 1/3",
        pin={"beta": 1.9},
    )


def written(path: Path, one: Fit, text: str) -> str:
    """A page whose every name is `text`: two figures, verdicts, two runs."""
    frame = pd.DataFrame({text: [text, None], "loss": [1.23456789, np.nan], "secret": [1, 2]})
    verdicts = pd.DataFrame(
        {
            "statement": [text, "b"],
            "verdict": ["refuted", text],
            "effect": [0.5, np.nan],
            "low": [0.25, np.nan],
            "high": [0.75, np.nan],
            "unit": [text, "nats"],
            "units": [3, 0],
            "why": [text, text],
        }
    )
    # a mark at each loss of the table, so that names of runs stand in a figure
    data = pd.DataFrame({text: [text] * 2, "x": [0.5, 1.5], "loss_nats": [2.0625, 1.9375]})
    results = pd.DataFrame(
        {"arm": text, "run": [text, "r2"], "seed": [0, 1], "n_params": 8, "corpus": text,
         "step": 1, "loss_nats": data["loss_nats"]}
    )  # fmt: skip
    findings = Findings(
        headline=text,
        tables=[Table("verdicts", text, verdicts), Table(text, text, frame, hidden=("secret",))],
        fits=[one],
        figures=[
            fit_figure(replace(one, name='<i>"&', group={})),
            Figure(text, text, data, lambda canvas: _draw(canvas, data)),
        ],
        notes=[text],
        readings={},
    )
    runs = pd.DataFrame({"run": results["run"], "arm": text, text: [text, text]})
    planned = pd.DataFrame({"what": [text], "planned": ["2"]})
    ran = Ran(
        Table("plan and actual", text, planned), Table("runs", text, runs), results, {"code": text}
    )
    write_report(path, text, text, findings, {text: text}, {text: text}, ran)
    return path.read_text(encoding="utf-8")


def _draw(canvas: Any, data: pd.DataFrame) -> None:
    canvas.subplots().plot(data["x"], data["loss_nats"], "o")
