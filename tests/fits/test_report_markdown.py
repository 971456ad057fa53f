"""The Markdown page: figures beside it, and nothing in a name means anything to it."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fits import Fit, fit
from fits.figures.fit_figure import fit_figure
from fits.report import Findings, Table
from fits.report_markdown import write_markdown

HOSTILE = "<b>x</b> | [y](http://evil.test) `z` *w*\n# heading ![p](q)"
RATIOS = np.array([1 / 8, 1 / 4, 1 / 3, 1 / 2, 3 / 4, 0.9])


@pytest.fixture(scope="module")
def one() -> Fit:
    loss = 1.9 - 0.4 * RATIOS**0.3 + 1e-3 * np.random.default_rng(0).normal(size=6)
    table = pd.DataFrame({"ratio_domain": RATIOS, "loss_nats": loss})
    return fit("cmr-ratio", table, name=HOSTILE, holdout="ratio_domain == 1/3", pin={"beta": 1.9})


def test_the_page_has_everything_and_escapes_it(one: Fit, tmp_path: Path) -> None:
    verdicts = pd.DataFrame({"claim": ["a"], "verdict": ["refuted"], HOSTILE: [HOSTILE]})
    numbers = pd.DataFrame({"loss": [1.23456789, np.nan], "secret": ["s1", "s2"]})
    figure = replace(fit_figure(one), name="../../<curve> of it", caption=HOSTILE)
    findings = Findings(
        headline=HOSTILE,
        tables=[Table("numbers", HOSTILE, numbers, ("secret",)), Table("verdicts", "v", verdicts)],
        fits=[one],
        figures=[figure],
        notes=[HOSTILE],
        readings={},
    )
    page = tmp_path / "new" / "page.md"
    files = write_markdown(page, HOSTILE, HOSTILE, findings, {"cores": "2"}, "lab run cmr")
    assert files == [page, tmp_path / "new" / "page" / "curve-of-it.png"]
    assert files[1].read_bytes().startswith(b"\x89PNG")
    text = page.read_text()
    assert "![../../&lt;curve&gt; of it](page/curve-of-it.png)" in text
    assert text.index("refuted") < text.index("curve-of-it.png") < text.index("1.235")
    assert "| 1.235 |\n| – |" in text
    assert "secret" not in text
    assert "s1" not in text
    assert f"alpha = {one.params['alpha']:.4g}" in text
    assert "```bash\nlab run cmr\n```" in text
    assert "| cores | 2 |" in text
    assert not re.search(r"<b>|(?<!\\)\]\(http|(?<!\\)`z|(?<!\\)\*w|^# heading", text, re.M)


def test_the_same_findings_give_the_same_bytes(one: Fit, tmp_path: Path) -> None:
    findings = Findings("", [], [one], [fit_figure(one)], [], {})
    written = [
        [
            file.read_bytes()
            for file in write_markdown(tmp_path / name / "p.md", "", "", findings, {})
        ]
        for name in ("one", "other")
    ]
    assert written[0] == written[1]
