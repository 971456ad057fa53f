"""The look of figures: told apart without colour, inside their page, marked where held out."""

import functools
import io
import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from matplotlib.axis import Axis
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure as Canvas
from matplotlib.image import imread
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from fits import Refused
from fits.figures.layout import ems
from fits.figures.plots import FORMATS, Figure
from fits.figures.style import CATEGORIES, DASHES, MARKS, MUTED, Look, look, ordered_colours
from fits.figures.ticks import log_marks, short_power
from tests.fits.figures.gallery import GALLERY, HOLD_OUT

Drawn = Callable[[str, Look], Canvas]
LOOKS = {"one": look("paper", 1), "two": look("paper", 2), "talk": look("talk")}

# Colours ----------------------------------------------------------------------------------------

# Machado, Oliveira & Fernandes 2009 (doi 10.1109/TVCG.2009.113), severity 1, of linear RGB
SEEN_AS = {
    "all": np.eye(3),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
}
APART = 15.0  # CIELAB distance between any two categories, to anybody; about 2.3 is just seen
NEXT = 10.0  # between neighbours of up to eight ordered values


def lab(colour: str | tuple[float, ...], seen_as: np.ndarray) -> np.ndarray:
    """CIELAB (D65) of an sRGB colour as it is seen."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(seen_as @ linear, 0, 1)
    to_xyz = np.array(
        [
            [0.4124564, 0.3575761, 0.1804375],
            [0.2126729, 0.7151522, 0.0721750],
            [0.0193339, 0.1191920, 0.9503041],
        ]
    )
    xyz = to_xyz @ linear / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("eyes", SEEN_AS)
@pytest.mark.parametrize("palette", [CATEGORIES, MUTED], ids=["categories", "muted"])
def test_categories_are_told_apart_by_colour(palette: tuple[str, ...], eyes: str) -> None:
    seen = [lab(colour, SEEN_AS[eyes]) for colour in palette]
    least = min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2))
    assert least > APART


def test_red_and_green_would_not_pass() -> None:
    seen = [lab(colour, SEEN_AS["deuteranopia"]) for colour in ("#8c5a2b", "#5e7a1f")]
    assert np.linalg.norm(seen[0] - seen[1]) < APART
    assert np.linalg.norm(lab("#8c5a2b", SEEN_AS["all"]) - lab("#5e7a1f", SEEN_AS["all"])) > APART


def test_categories_have_a_mark_and_a_dash_each_for_grey_print() -> None:
    assert len(set(MARKS)) == len(set(map(str, DASHES))) == len(CATEGORIES)


@pytest.mark.parametrize("eyes", SEEN_AS)
def test_ordered_colours_grow_lighter_for_all_eyes(eyes: str) -> None:
    for count in range(2, 9):
        seen = [lab(tuple(one[:3]), SEEN_AS[eyes]) for one in ordered_colours(count)]
        light = [one[0] for one in seen]
        assert light == sorted(light)
        assert min(np.diff(light)) > 5  # in grey, too
        assert min(np.linalg.norm(a - b) for a, b in itertools.pairwise(seen)) > NEXT


# Every figure in every look ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def figures() -> dict[str, Figure]:
    return {name: make() for name, make in GALLERY.items()}


@pytest.fixture(params=LOOKS)
def shown(request: pytest.FixtureRequest) -> Iterator[Look]:
    """A look, in force: axes choose their ticks by it."""
    with LOOKS[request.param].applied():
        yield LOOKS[request.param]


@pytest.fixture(scope="module")
def drawn(figures: dict[str, Figure]) -> Callable[[str, Look], Canvas]:
    """A figure as it stands on its canvas, laid out once."""

    @functools.cache
    def draw(name: str, shown: Look) -> Canvas:
        with shown.applied():
            canvas = Canvas(figsize=figures[name].size(shown))
            figures[name].draw(canvas)
            canvas.draw_without_rendering()
        return canvas

    return draw


def texts(canvas: Canvas) -> Iterator[tuple[str, Bbox]]:
    """Every text that is shown, with its place in inches."""
    found = [text for part in (canvas, *canvas.subfigs) for text in part.texts]
    for part in (canvas, *canvas.subfigs):
        found += [one for one in (part._supxlabel, part._supylabel) if one is not None]
    for axes in canvas.get_axes():
        if axes.axison:
            found += [axes.title, axes._right_title, *axes.texts]
            for axis in (axes.xaxis, axes.yaxis):
                found += [axis.label, *ticks(axis)]
    for legend in canvas.findobj(Legend):
        found += [legend.get_title(), *legend.get_texts()]
    for text in found:
        if text.get_visible() and text.get_text().strip():
            yield text.get_text(), Bbox(text.get_window_extent().get_points() / canvas.dpi)


def ticks(axis: Axis) -> list[Text]:
    """Labels of an axis that lie between its ends; none where a neighbour has them."""
    low, high = sorted(axis.get_view_interval())
    room = 1e-6 * (high - low)
    marks = [one for one in axis.get_major_ticks() if low - room <= one.get_loc() <= high + room]
    return [one.label1 for one in marks if one.label1.get_visible()]


@pytest.mark.parametrize("name", GALLERY)
def test_text_stays_on_the_page(name: str, drawn: Drawn, shown: Look) -> None:
    canvas = drawn(name, shown)
    width, height = canvas.get_size_inches()
    for text, box in texts(canvas):
        assert min(box.x0, box.y0) > -0.02, (text, box)
        assert box.x1 < width + 0.02, (text, box)
        assert box.y1 < height + 0.02, (text, box)


@pytest.mark.parametrize("name", GALLERY)
def test_labels_of_ticks_do_not_run_into_each_other(name: str, drawn: Drawn, shown: Look) -> None:
    for axes in drawn(name, shown).get_axes():
        for axis in (axes.xaxis, axes.yaxis) if axes.axison else ():
            labels = [one for one in ticks(axis) if one.get_visible() and not one.get_rotation()]
            for one, two in itertools.pairwise(labels):
                both = one.get_window_extent(), two.get_window_extent()
                assert not both[0].overlaps(both[1]), (one.get_text(), two.get_text())


@pytest.mark.parametrize("name", GALLERY)
def test_a_legend_covers_no_panel_and_a_title_no_title(
    name: str, drawn: Drawn, shown: Look
) -> None:
    canvas = drawn(name, shown)
    legends = [one.get_window_extent() for one in canvas.findobj(Legend)]
    for axes in canvas.get_axes():
        panel = axes.get_window_extent()
        for legend in legends:
            both = Bbox.intersection(panel, legend)
            assert both is None or min(both.width, both.height) < 0.02 * canvas.dpi
    titles = [axes.title for axes in canvas.get_axes() if axes.title.get_text()]
    for one, two in itertools.combinations(titles, 2):
        assert not one.get_window_extent().overlaps(two.get_window_extent()), one.get_text()


@pytest.mark.parametrize("name", GALLERY)
def test_a_logarithmic_axis_has_two_labels_or_more(name: str, drawn: Drawn, shown: Look) -> None:
    for axes in drawn(name, shown).get_axes():
        for axis, scale in ((axes.xaxis, axes.get_xscale()), (axes.yaxis, axes.get_yscale())):
            labels = {one.get_text() for one in ticks(axis)} - {""}
            if scale in ("log", "symlog") and labels:  # none where a neighbour has them
                assert len(labels) >= 2, labels


@pytest.mark.parametrize("name", HOLD_OUT)
def test_what_was_held_out_is_hollow_and_named(name: str, drawn: Drawn, shown: Look) -> None:
    (handle,) = [
        handle
        for legend in drawn(name, shown).findobj(Legend)
        for text, handle in zip(legend.get_texts(), legend.legend_handles, strict=True)
        if "held out" in text.get_text()
    ]
    if name == "fit_of_curves":  # too dense for marks
        assert handle.get_linestyle() == ":"
    else:
        assert handle.get_markerfacecolor() == "white"


@pytest.mark.parametrize("name", ["fit_in_two", "loss_curves", "losses_by_rewarm"])
@pytest.mark.parametrize("kind", FORMATS)
def test_the_same_figure_gives_the_same_bytes_in_every_look(
    name: str, kind: str, shown: Look, figures: dict[str, Figure]
) -> None:
    first, second = figures[name].render(kind, shown), GALLERY[name]().render(kind, shown)
    assert first == second
    assert b"CreationDate" not in first
    assert b"dc:date" not in first


@pytest.mark.parametrize("name", ["fit_in_two", "critical_ratio"])
def test_files_are_as_large_as_the_look_says(
    name: str, figures: dict[str, Figure], shown: Look
) -> None:
    width, height = figures[name].size(shown)
    assert width == {1: 3.25, 2: 6.75}.get(shown.columns if shown.style == "paper" else 0, 10.0)
    assert shown.style == "paper" or height == 5.6
    rows, columns = imread(io.BytesIO(figures[name].render("png", shown))).shape[:2]
    assert (columns, rows) == (round(width * 200), round(height * 200))
    box = f'width="{72 * width:g}pt" height="{72 * height:g}pt"'
    assert box in figures[name].render("svg", shown).decode()


def test_type_on_paper_is_eight_points_and_in_a_talk_twice_that(drawn: Drawn) -> None:
    for shown, points, ems_across in ((LOOKS["one"], 8, 29), (LOOKS["talk"], 16, 45)):
        canvas = drawn("fit_in_one", shown)
        lower = canvas.axes[-1]
        assert lower.xaxis.label.get_fontsize() == points
        assert {one.get_fontsize() for one in lower.get_xticklabels()} == {points * 7 / 8}
        with shown.applied():
            assert int(ems(canvas)) == ems_across


def test_text_of_a_pdf_is_text(figures: dict[str, Figure]) -> None:
    pdf = figures["fit_in_one"].render("pdf", LOOKS["one"])
    assert b"/FontFile2" in pdf  # TrueType, embedded
    assert b"/Type3" not in pdf


# Looks and ticks --------------------------------------------------------------------------------


def test_another_look_is_refused() -> None:
    with pytest.raises(Refused, match="unknown style 'poster'; allowed: paper, talk"):
        look("poster")
    with pytest.raises(Refused, match="columns 3: a paper has 1 or 2"):
        look("paper", 3)
    with pytest.raises(Refused, match="a talk has no columns"):
        look("talk", 1)


@pytest.mark.parametrize(
    ("low", "high", "room", "marks"),
    [
        (2e3, 1e6, 6, [3e3, 1e4, 3e4, 1e5, 3e5, 1e6]),
        (1e5, 1e6, 6, [1e5, 2e5, 5e5, 1e6]),
        (1.6, 4.5, 6, [2.0, 2.5, 3.0, 3.5, 4.0]),
        (1e2, 1e20, 5, [1e5, 1e10, 1e15, 1e20]),
        (1.0, 1e4, 9, [1, 10, 100, 1000, 10000]),
        (1.0, 1e4, 2, [1, 1e4]),
    ],
)
def test_marks_of_a_logarithmic_axis(
    low: float, high: float, room: int, marks: list[float]
) -> None:
    np.testing.assert_allclose(log_marks(low, high, room), marks)


def test_no_axis_is_left_with_one_mark() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        low = 10 ** rng.uniform(-6, 20)
        high = low * 10 ** rng.uniform(0.02, 12)
        room = int(rng.integers(2, 10))
        found = log_marks(low, high, room)
        assert len(found) >= 2
        assert ((found >= low * (1 - 1e-9)) & (found <= high * (1 + 1e-9))).all()


def test_powers_are_written_short() -> None:
    assert [short_power(value) for value in (1e18, 2.5e19, 1e-3)] == ["1e18", "2.5e19", "1e-3"]
