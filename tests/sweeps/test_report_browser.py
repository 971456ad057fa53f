"""The report in a real browser: quiet, within the screen, legible, and it answers to a pointer.

Needs Chromium and Playwright (`pip install '.[browser]'`, which brings no browser of its own).
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.fits.hostile_report import HOSTILE, made_fit, written

playwright = pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed: pip install '.[browser]'"
)

PHONE, DESK = 390, 1280
# contrast of every text that is seen with what lies behind it (WCAG 2.2, relative luminance)
CONTRASTS = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b]
    .map((c) => c / 255).map((c) => (c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4))
    .reduce((sum, c, k) => sum + c * [.2126, .7152, .0722][k], 0);
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    const hidden = node.closest("script, style, [hidden]") || !node.checkVisibility();
    if (hidden || !walker.currentNode.textContent.trim()) continue;
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(behind(node))];
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    found.push([ratio, node.tagName + "." + node.className]);
  }
  return found;
}"""
# what of the page is not seen, or has no room
HIDDEN = """() => Array.from(document.querySelectorAll("section, section > *, pre, td, dd"))
  .filter((one) => !one.closest("[hidden], .hint") && one.tagName !== "SCRIPT")
  .filter((one) => !one.checkVisibility({contentVisibilityAuto: true})
                   || one.getBoundingClientRect().height === 0)
  .map((one) => one.tagName + "#" + one.id + "." + one.className)"""


@dataclass
class Opened:
    """A page, what it said, and what it asked for beside itself."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


Open = Callable[..., AbstractContextManager[Opened]]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    names = ("chromium", "chromium-browser", "google-chrome")
    found = [path for name in names if (path := shutil.which(name))]
    if not found:
        pytest.skip(f"no browser: none of {', '.join(names)} is installed")
    told = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium has none for root
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found[0], args=told)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def opened(chromium: Any) -> Open:
    @contextmanager
    def opening(path: Path, width: int = DESK, **told: Any) -> Iterator[Opened]:
        context = chromium.new_context(viewport={"width": width, "height": 844}, **told)
        page = context.new_page()
        here = Opened(page)
        page.on("console", lambda message: here.said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: here.said.append(str(error)))
        page.on("dialog", lambda dialog: here.said.append(f"dialog: {dialog.message}"))

        def asked(route: Any) -> None:
            if route.request.url == path.as_uri():
                route.continue_()
            else:
                here.asked.append(route.request.url)
                route.abort()

        page.route(re.compile("^(?!data:)"), asked)
        page.goto(path.as_uri())
        yield here
        context.close()

    return opening


@pytest.fixture(scope="module", params=["sweep", "hostile"])
def report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of a sweep, and one in which every name is markup."""
    if request.param == "sweep":
        return Path(request.getfixturevalue("smoke")) / "report.html"
    path = tmp_path_factory.mktemp("hostile") / "report.html"
    written(path, made_fit(), HOSTILE)
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_says_nothing_and_asks_for_nothing(opened: Open, report: Path, scheme: str) -> None:
    with opened(report, color_scheme=scheme) as here:
        figures = here.page.locator("figure img")
        for k in range(figures.count()):
            assert figures.nth(k).evaluate("one => one.complete && one.naturalWidth") > 0
        here.page.mouse.move(400, 400)
        here.page.evaluate("scrollTo(0, document.body.scrollHeight)")
        here.page.wait_for_load_state("networkidle")
        assert here.said == []
        assert here.asked == []


def test_what_is_blocked_would_be_seen(opened: Open, tmp_path: Path) -> None:
    """The two lists above are not empty for want of looking."""
    path = tmp_path / "bad.html"
    path.write_text("<script>console.error('x'); new Image().src = 'http://evil.test/y'</script>")
    with opened(path) as here:
        here.page.wait_for_load_state("networkidle")
        assert here.said[0] == "error: x"
        assert here.asked == ["http://evil.test/y"]


@pytest.mark.parametrize("width", [320, PHONE, 768])
def test_nothing_is_wider_than_the_screen(opened: Open, report: Path, width: int) -> None:
    with opened(report, width) as here:
        here.page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert here.page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_from_its_ground(opened: Open, report: Path, scheme: str) -> None:
    with opened(report, color_scheme=scheme) as here:
        here.page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        found = here.page.evaluate(CONTRASTS)
        assert len(found) > 100
        assert min(found)[0] >= 4.5, min(found)
        ground = here.page.evaluate("getComputedStyle(document.body).backgroundColor")
        dark = max(map(int, re.findall(r"\d+", ground)[:3])) < 64
        assert dark == (scheme == "dark")
        turned = here.page.locator("figure img").first.evaluate(
            "one => getComputedStyle(one).filter"
        )
        assert ("invert" in turned) == dark


def test_a_click_sorts_by_number_and_a_third_one_restores(opened: Open, smoke: Path) -> None:
    with opened(smoke / "report.html") as here:
        table = here.page.locator("section", has_text="critical ratio").locator("table").first
        head = table.locator("th", has_text="horizon_tokens")
        column = head.evaluate("one => one.cellIndex")

        def shown() -> list[float]:
            texts = table.locator(f"tbody td:nth-child({column + 1})").all_text_contents()
            return [float(text.replace(",", "")) for text in texts]

        before = shown()
        assert len(set(before)) > 1
        orders = []
        for state in ("ascending", "descending", "none"):
            head.locator("[role=button]").click()
            assert head.get_attribute("aria-sort") == state
            orders.append(shown())
        assert orders == [sorted(before), sorted(before, reverse=True), before]
        head.locator("[role=button]").press("Enter")
        assert shown() == sorted(before)
        other = table.locator("th").first
        other.locator("[role=button]").click()
        assert head.get_attribute("aria-sort") == "none"


def test_a_thousand_is_more_than_two_and_nothing_comes_last(opened: Open, tmp_path: Path) -> None:
    """Texts that sort otherwise as texts, and the dash of a missing value."""
    path = tmp_path / "report.html"
    page = written(path, made_fit(), "x")
    cells = ["1,000", "–", "2", "-3", "1e-05", "−∞"]
    rows = "".join(f"<tr><td>{text}</td></tr>" for text in cells)
    table = '<table class="sortable" id="made"><thead><tr><th>n</th></tr></thead><tbody>'
    path.write_text(page.replace("</main>", f"{table}{rows}</tbody></table></main>"))
    with opened(path) as here:
        button = here.page.locator("#made [role=button]")
        for expected in (
            ["−∞", "-3", "1e-05", "2", "1,000", "–"],
            ["1,000", "2", "1e-05", "-3", "−∞", "–"],
            cells,
        ):
            button.click()
            assert here.page.locator("#made td").all_text_contents() == expected


def marks(page: Any, figure: int) -> tuple[dict[str, Any], Any]:
    """What a figure's marks stand for, and the frame they are placed in."""
    place = f"#figure-{figure}"
    text = f"JSON.parse(document.querySelector('{place} script').textContent)"
    frame = page.locator(f"{place} .frame")
    frame.scroll_into_view_if_needed()
    return page.evaluate(text), frame


def apart(points: dict[str, Any], runs: int) -> tuple[float, float, int]:
    """A mark of so many runs, further from all others than a pointer is wide."""
    for x, y, which in points["marks"]:
        near = [one for one in points["marks"] if abs(one[0] - x) + abs(one[1] - y) < 0.02]
        if len(near) == 1 and len(points["told"][which][1]) == runs:
            return x, y, which
    raise AssertionError("marks lie on one another")


def test_the_pointer_shows_the_run_behind_a_mark(opened: Open, smoke: Path) -> None:
    results = pd.read_csv(smoke / "results.csv")
    with opened(smoke / "report.html") as here:
        points, frame = marks(here.page, 1)
        x, y, which = apart(points, runs=1)
        cells, (run,) = points["told"][which]
        box = frame.bounding_box()
        tip = here.page.locator("#tip")
        assert not tip.is_visible()
        here.page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        assert tip.is_visible()
        name = points["runs"][run]
        own = results[results["run"] == name]
        assert len(own)
        said = tip.inner_text()
        assert name in said
        assert f"arm\n{own['arm'].iloc[0]}" in said
        # the change that is shown is that of this run, recomputed from the table
        change = float(cells[points["columns"].index("change")])
        tokens = int(cells[points["columns"].index("tokens")].replace(",", ""))
        loss = own[own["corpus"] == "prose+docs"]
        before = loss[loss["phase"] == "pretrain"].sort_values("step")["loss_nats"].iloc[-1]
        after = loss[(loss["phase"] == "cpt") & (loss["tokens_in_phase"] == tokens)]
        assert change == pytest.approx(after["loss_nats"].iloc[0] - before, rel=1e-3)
        here.page.mouse.move(1, 1)
        assert not tip.is_visible()


def test_a_click_holds_it_and_its_link_opens_the_run(opened: Open, smoke: Path) -> None:
    with opened(smoke / "report.html") as here:
        points, frame = marks(here.page, 1)
        x, y, which = apart(points, runs=1)
        name = points["runs"][points["told"][which][1][0]]
        box = frame.bounding_box()
        here.page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
        here.page.mouse.move(1, 1)
        assert here.page.locator("#tip").is_visible()
        row = here.page.locator(f"tr[data-run='{name}']")
        assert not row.is_visible()
        here.page.locator("#tip a", has_text=name).click()
        row.wait_for(state="visible")
        assert not here.page.locator("#tip").is_visible()
        assert here.said == []


def test_keys_and_a_finger_show_it_too(opened: Open, smoke: Path) -> None:
    with opened(smoke / "report.html", PHONE, has_touch=True) as here:
        points, frame = marks(here.page, 1)
        tip = here.page.locator("#tip")
        frame.focus()
        seen = set()
        for _ in range(3):
            here.page.keyboard.press("ArrowRight")
            seen.add(tip.inner_text())
        assert len(seen) == 3
        assert here.page.evaluate("document.documentElement.scrollWidth") <= PHONE
        here.page.keyboard.press("Escape")
        assert not tip.is_visible()
        here.page.evaluate("scrollTo(0, 0)")
        frame.scroll_into_view_if_needed()
        box = frame.bounding_box()
        x, y, _ = next(one for one in points["marks"] if one[0] * box["width"] < PHONE / 2)
        here.page.touchscreen.tap(box["x"] + x * box["width"], box["y"] + y * box["height"])
        assert tip.is_visible()
        edges = tip.bounding_box()
        assert edges["x"] >= 0
        assert edges["x"] + edges["width"] <= PHONE


def test_a_hostile_name_is_shown_as_text(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    written(path, made_fit(), HOSTILE)
    with opened(path) as here:
        _, frame = marks(here.page, 2)
        frame.focus()
        here.page.keyboard.press("ArrowRight")
        said = here.page.locator("#tip").inner_text()
        assert HOSTILE in said
        assert f"run {HOSTILE}" in said
        here.page.locator("#tip a").first.click()
        here.page.locator("#runs tbody tr").first.wait_for(state="visible")
        assert here.page.locator("img").count() == 2
        assert here.page.title() == HOSTILE
        assert here.said == []
        assert here.asked == []


@pytest.mark.parametrize("script", [True, False])
def test_on_paper_nothing_is_folded_away(opened: Open, report: Path, script: bool) -> None:
    with opened(report, java_script_enabled=script, color_scheme="dark") as here:
        assert here.page.evaluate(HIDDEN) != []  # on the screen runs and specifications are folded
        here.page.emulate_media(media="print")
        if script:
            here.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert here.page.evaluate(HIDDEN) == []
        paper = here.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert paper == "rgb(255, 255, 255)"
        assert here.page.evaluate(
            "Array.from(document.querySelectorAll('.scroll'))"
            ".every(one => getComputedStyle(one).overflow === 'visible')"
        )
        if script:
            here.page.evaluate("dispatchEvent(new Event('afterprint'))")
            assert not here.page.locator("#specs details").first.get_attribute("open")
            assert here.page.pdf(format="A4").startswith(b"%PDF")


def test_without_the_script_the_page_is_whole(opened: Open, report: Path) -> None:
    with opened(report, java_script_enabled=False) as here:
        for k in range(here.page.locator("figure img").count()):
            assert here.page.locator("figure img").nth(k).is_visible()
        assert here.page.locator(".save, #tip, .hint").count() > 2
        for one in here.page.locator(".save, #tip, .hint").all():
            assert not one.is_visible()  # what only the script could serve
        here.page.locator("#specs summary").first.click()
        assert here.page.locator("#specs pre").first.is_visible()
        assert here.said == []


def test_a_figure_is_saved_as_it_is(opened: Open, smoke: Path) -> None:
    with opened(smoke / "report.html") as here:
        with here.page.expect_download() as waiting:
            here.page.locator("#figure-1 .save").click()
        saved = waiting.value
        assert saved.suggested_filename == "general_loss_over_tokens.svg"
        drawn = smoke / "figures" / saved.suggested_filename
        assert Path(saved.path()).read_bytes() == drawn.read_bytes()
