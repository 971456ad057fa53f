"""The report: self-contained, and every name in it escaped."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fits import Fit, Interval, Refused, fit
from fits.figures.fit_figure import fit_figure
from fits.report import Findings, Table, cell, fit_rows, limits, write_report

HOSTILE = '<script>alert(\'x\')</script>"><img src=http://evil.test/x onerror="y">&{{ 7*7 }}'
RATIOS = np.array([1 / 8, 1 / 4, 1 / 3, 1 / 2, 3 / 4, 0.9])


class Page(HTMLParser):
    """Tags, attributes and text of a page, as a browser sees them."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def hostile_fit() -> Fit:
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
    frame = pd.DataFrame({text: [text, None], "loss": [1.23456789, np.nan], "secret": [1, 2]})
    findings = Findings(
        headline=text,
        tables=[Table(text, text, frame, hidden=("secret",))],
        fits=[one],
        figures=[fit_figure(replace(one, name='<i>"&', group={}))],
        notes=[text],
        readings={},
    )
    write_report(path, text, text, findings, {text: text}, {text: text})
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(hostile_fit: Fit, tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("report") / "report.html", hostile_fit, HOSTILE)


def test_hostile_names_stay_text(page: str) -> None:
    seen = Page(page)
    assert "script" not in seen.tags
    assert seen.tags.count("img") == 1  # the figure
    assert not any(name.startswith("on") for _, name, _ in seen.attributes)
    # title, question, headline, note, table (name, caption, column, cell), fit (name, group twice),
    # fact (twice), detail (twice)
    assert seen.text.count(HOSTILE) >= 14


def test_the_page_fetches_nothing(page: str) -> None:
    seen = Page(page)
    fetching = [
        value
        for _, name, value in seen.attributes
        if name in ("src", "href", "srcset", "action", "data", "poster")
    ]
    assert len(fetching) == 1
    assert fetching[0].startswith("data:image/svg+xml;base64,")
    assert not {"link", "script", "iframe", "object", "embed", "base"} & set(seen.tags)
    style = page.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_pictures_hold_no_script_and_point_nowhere_outside(page: str) -> None:
    (content,) = re.findall(r"base64,([^\"]*)\"", page)
    picture = base64.b64decode(content).decode()
    assert "<svg" in picture
    assert "<script" not in picture
    targets = re.findall(r"(?:href|src)=\"([^\"]*)\"", picture)
    assert all(target.startswith("#") for target in targets)
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", picture))


def test_what_a_reader_needs_stands_there(hostile_fit: Fit, page: str) -> None:
    text = Page(page).text
    assert "1.235" in text  # four digits
    assert "1.23456" not in text
    assert "secret" not in text  # hidden columns stand in the CSV alone
    assert f"s = {hostile_fit.params['s']:.4g} [" in text
    assert "beta = 1.9 [pinned]" in text
    assert f"{100 * hostile_fit.held_out[0].relative_error:+.3f} %" in text
    assert "interval: profile" in text
    assert all(note in text for note in hostile_fit.notes)


def test_the_same_findings_give_the_same_page(hostile_fit: Fit, page: str, tmp_path: Path) -> None:
    assert written(tmp_path / "report.html", hostile_fit, HOSTILE) == page
    assert [one.name for one in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (pd.NA, "–"),
        (pd.NaT, "–"),
        (1.23456, "1.235"),
        (np.float32(0.5), "0.5"),
        (1234567, "1,234,567"),
        (np.int64(1000), "1,000"),
        (True, "True"),
        (np.True_, "True"),
        ("< 1/8", "< 1/8"),
        ([1, 2], "[1, 2]"),
    ],
)
def test_cells(value: object, text: str) -> None:
    assert cell(value) == text


def test_limits_name_open_sides_and_why_there_are_none() -> None:
    assert limits(Interval(0.12345, 2.0, "profile")) == "0.1235 .. 2"
    assert limits(Interval(None, 2.0, "profile")) == "−∞ .. 2"
    assert limits(Interval(1.0, None, "profile")) == "1 .. ∞"
    assert limits(Interval(None, None, "none", "one unit")) == "none (one unit)"
    assert limits(None) == "pinned"


def test_a_row_of_a_fit_names_the_method_of_its_intervals(hostile_fit: Fit) -> None:
    (row,) = fit_rows([hostile_fit])
    assert row["method"] == "profile"
    assert row["points"] == 5
    assert [name for name, _, _ in row["params"]] == ["alpha", "s", "beta"]


def test_tables_and_figures_are_found_by_name_or_refused(hostile_fit: Fit) -> None:
    frame = pd.DataFrame({"a": [1]})
    figure = fit_figure(hostile_fit)
    findings = Findings("", [Table("noise", "", frame)], [], [figure], [], {})
    assert findings.table("noise") is frame
    assert findings.figure(figure.name) is figure
    with pytest.raises(Refused, match="no table 'x': noise"):
        findings.table("x")
    with pytest.raises(Refused, match="no figure 'x'"):
        findings.figure("x")
