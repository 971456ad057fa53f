"""The report: self-contained, and every name in it escaped."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fits import Fit, Interval, Refused
from fits.figures.fit_figure import fit_figure
from fits.report import Findings, Table, cell, fit_rows, limits
from fits.report_page import write_report
from tests.fits.hostile_report import HOSTILE, made_fit, written

TURNED = "a\u202eb\u2066c\x1bd"  # marks of direction, and a control character


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
    return made_fit()


@pytest.fixture(scope="module")
def page(hostile_fit: Fit, tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("report") / "report.html", hostile_fit, HOSTILE)


def test_hostile_names_stay_text(page: str) -> None:
    seen = Page(page)
    assert seen.tags.count("script") == 3  # the page's own, and the data of two figures
    assert seen.tags.count("img") == 2  # the figures
    assert not any(name.startswith("on") for _, name, _ in seen.attributes)
    # title twice, question, headline, note; verdicts; two tables, runs, plan; fit; figure; facts
    assert seen.text.count(HOSTILE) >= 30
    assert "i" not in seen.tags


def test_the_page_fetches_nothing(page: str) -> None:
    seen = Page(page)
    fetching = [
        value
        for _, name, value in seen.attributes
        if name in ("src", "href", "srcset", "action", "data", "poster", "background")
    ]
    assert sum(value.startswith("data:image/svg+xml;base64,") for value in fetching) == 2
    assert all(value.startswith(("#", "data:")) for value in fetching)
    assert not {"iframe", "object", "embed", "base", "form"} & set(seen.tags)
    style = page.split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_only_this_style_and_this_script_are_allowed(page: str) -> None:
    (policy,) = [value for tag, name, value in Page(page).attributes
                 if tag == "meta" and name == "content" and "default-src" in value]  # fmt: skip
    assert policy.startswith("default-src 'none'; img-src data:; ")
    assert "unsafe" not in policy
    for start, end in (("<style>", "</style>"), ("<script>", "</script>")):
        (content,) = re.findall(f"{start}(.*?){end}", page, re.S)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert not any(name == "style" for _, name, _ in Page(page).attributes)


def test_the_data_of_marks_hold_no_sign_of_html_and_name_the_runs(page: str) -> None:
    found = re.findall(r'<script type="application/json">(.*?)</script>', page, re.S)
    assert len(found) == 2
    assert not any(sign in text for text in found for sign in "<>&")
    points = json.loads(found[1])
    assert points["columns"] == [HOSTILE, "x", "loss_nats"]
    assert points["runs"] == [HOSTILE, "r2"]
    assert sorted(points["told"]) == [
        [[HOSTILE, "0.5", "2.062"], [0]],
        [[HOSTILE, "1.5", "1.938"], [1]],
    ]
    assert len(points["marks"]) == 2
    # the larger loss stands higher, and further to the left
    (left, upper, first), (right, lower, _) = points["marks"]
    assert left < right
    assert upper < lower
    assert points["told"][first][1] == [0]


def test_marks_of_direction_and_control_characters_are_named(
    hostile_fit: Fit, tmp_path: Path
) -> None:
    page = written(tmp_path / "report.html", replace(hostile_fit, group={}, name="x"), TURNED)
    assert not re.search("[\u202e\u2066\x1b]|\\\\u202e", page)
    assert page.count("a[U+202E]b[U+2066]c[U+001B]d") >= 30


def test_pictures_hold_no_script_and_point_nowhere_outside(page: str) -> None:
    for content in re.findall(r"base64,([^\"]*)\"", page):
        picture = base64.b64decode(content).decode()
        assert "<svg" in picture
        assert "<script" not in picture
        targets = re.findall(r"(?:href|src)=\"([^\"]*)\"", picture)
        assert all(target.startswith("#") for target in targets)
        assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", picture))


def test_the_answer_comes_first(page: str) -> None:
    text = " ".join(Page(page).text.split())
    start = text.index("How sure")
    answer = text[start : text.index("Before you believe it")]
    assert answer.startswith("How sure 1 refuted, 1 ")
    assert "of 2 statements" in answer
    assert "+0.5 (+0.25 .. +0.75)" in answer
    assert text.index("Asked") < text.index("Found") < start


def test_without_runs_the_page_has_neither_plan_nor_runs(hostile_fit: Fit, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    figure = fit_figure(hostile_fit)
    write_report(path, "t", "q", Findings("h", [], [hostile_fit], [figure], [], {}), {}, {})
    text = Page(path.read_text()).text
    assert "Every run" not in text
    assert text.count("Not recorded.") == 13  # what only those who train can answer


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
