"""What the marks of a drawn figure stand for: rows of the figure's data.

A figure's `data` holds every number that it shows, so a mark is found there by its two values; no
drawing function needs to say anything. A mark may be drawn as a percentage or in thousandths. One
that is in no row may be a mean: then it stands for the rows of a group (by up to four columns)
whose mean it is, at its place. One that was moved aside, so that bars do not overlap, is known by
its other value, if that stands in one row alone.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fits.figures.plots import Figure

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

Floats = NDArray[np.float64]
Rows = tuple[int, ...]

SCALES = (1.0, 100.0, 1e3)  # a value is drawn as it is, in percent, in thousandths
WITHIN = 1e-9  # relative: sums in another order differ by 1e-15
MOST_VALUES = 40  # of a column that tells groups apart
MOST_SIGNS = 200  # of a line: more of them run together
FEW = 7  # such columns are tried, those of the fewest values
MOST_COLUMNS = 4  # that tell groups apart, with the one along the axis


@dataclass(frozen=True)
class Mark:
    """`x`, `y`: from the picture's upper left, in shares of its width and height.

    `rows`: places in the figure's data, several where the mark is their mean. `alone`: it has a
    sign of its own; otherwise it is a vertex of a line, or one of very many signs.
    """

    x: float
    y: float
    rows: Rows
    alone: bool


def with_marks(figure: Figure) -> tuple[bytes, list[Mark]]:
    """(the picture as SVG, the marks in it that stand for rows, line by line)."""
    found: list[Mark] = []
    picture = figure.render("svg", seen=lambda canvas: found.extend(_marks(canvas, figure.data)))
    return picture, found


@dataclass(frozen=True)
class _Series:
    """Places of a line or of a cloud of points that are in view."""

    x: Floats
    y: Floats
    on_page: Floats  # [n, 2], shares of width and height
    alone: bool


def _marks(canvas: "Canvas", data: "pd.DataFrame") -> Iterator[Mark]:
    table = _Table(data)
    seen: set[tuple[float, float, Rows]] = set()
    for series in _series(canvas):
        for (x, y), rows in zip(series.on_page, table.rows_of(series), strict=True):
            mark = Mark(round(float(x), 4), round(float(y), 4), rows, series.alone)
            if rows and (mark.x, mark.y, rows) not in seen:
                seen.add((mark.x, mark.y, rows))
                yield mark


def _series(canvas: "Canvas") -> Iterator[_Series]:
    width, height = canvas.bbox.width, canvas.bbox.height
    for axes in canvas.axes:
        for places, alone in _drawn(axes):
            pixels = axes.transData.transform(places)
            box = axes.bbox
            inside = (
                np.isfinite(pixels).all(axis=1)
                & (pixels[:, 0] >= box.x0 - 1)
                & (pixels[:, 0] <= box.x1 + 1)
                & (pixels[:, 1] >= box.y0 - 1)
                & (pixels[:, 1] <= box.y1 + 1)
            )
            if inside.any():
                on_page = pixels[inside] / (width, height)
                on_page[:, 1] = 1 - on_page[:, 1]
                sparse = int(inside.sum()) <= MOST_SIGNS
                yield _Series(places[inside, 0], places[inside, 1], on_page, alone and sparse)


def _drawn(axes: "Axes") -> Iterator[tuple[Floats, bool]]:
    """Places [n, 2] of what is drawn at values of the data, and whether it has marks."""
    from matplotlib.collections import PathCollection

    for line in axes.lines:
        marker = line.get_marker()
        if line.get_transform() is axes.transData and marker not in ("|", "_"):  # caps of bars
            yield np.asarray(line.get_xydata(), float), marker not in (None, "None", "", " ")
    for cloud in axes.collections:
        if isinstance(cloud, PathCollection) and cloud.get_offset_transform() is axes.transData:
            yield np.ma.filled(np.ma.asarray(cloud.get_offsets(), float), np.nan), True


class _Table:
    """The data of a figure, asked by value."""

    def __init__(self, data: "pd.DataFrame") -> None:
        from pandas.api.types import is_bool_dtype, is_numeric_dtype

        self.data = data.reset_index(drop=True)
        numeric = [
            name
            for name in self.data.columns
            if is_numeric_dtype(self.data[name]) and not is_bool_dtype(self.data[name])
        ]
        self.values = {name: self.data[name].to_numpy(float, na_value=np.nan) for name in numeric}
        self.order = {name: np.argsort(own, kind="stable") for name, own in self.values.items()}
        most = min(MOST_VALUES, len(self.data) / 2)  # else there is nothing to take a mean of
        counts = {name: self.data[name].astype(str).nunique() for name in self.data}
        few = sorted((name for name in counts if 1 < counts[name] <= most), key=counts.__getitem__)
        self.sets = [
            names
            for count in range(MOST_COLUMNS + 1)
            for names in itertools.combinations(few[:FEW], count)
        ]
        self.means: dict[Any, Any] = {}
        self.last: Any = None  # how the last mean was found: the next line is likely its like

    def rows_of(self, series: _Series) -> list[Rows]:
        """Rows behind each place of a series, () where none are known."""
        return (self._by_both(series) or self._by_mean(series) or self._by_one(series)) or [
            ()
        ] * len(series.x)

    def _by_both(self, series: _Series) -> list[Rows] | None:
        """Rows that hold both values; the two columns are those of the whole series."""
        best: list[Rows] | None = None
        across = [(name, self._with(name, series.x, scale)) for name, scale in self._scaled()]
        across = [(name, found) for name, found in across if all(found)]
        up = [(name, self._with(name, series.y, scale)) for name, scale in self._scaled()]
        up = [(name, found) for name, found in up if all(found)]
        for (x, at_x), (y, at_y) in itertools.product(across, up):
            if x == y:
                continue
            both = [tuple(sorted(set(a) & set(b))) for a, b in zip(at_x, at_y, strict=True)]
            if all(both) and (best is None or sum(map(len, both)) < sum(map(len, best))):
                best = both
        return best

    def _by_mean(self, series: _Series) -> list[Rows] | None:
        """Rows of a group whose mean the places are."""
        across: list[str | None] = [n for n in self.values if all(self._with(n, series.x))]
        if series.alone and not _fractions(series.x):
            across.append(None)  # places 0, 1, 2 ... for values that are not drawn to scale
        fractions = [name for name, own in self.values.items() if _fractions(own)]
        ways: Iterable[Any] = itertools.product(across, fractions, self.sets, SCALES)
        if self.last is not None:
            ways = itertools.chain([self.last], ways)
        for way in ways:
            x, y, names, scale = way
            few = len(names) < MOST_COLUMNS or x is None  # a place is a column more
            if few and x in across and x != y and not {x, y} & set(names):
                found = self._group(x, y, names, series, scale)
                if found is not None:
                    self.last = way
                    return found
        return None

    def _group(
        self, x: str | None, y: str, names: tuple[str, ...], series: _Series, scale: float
    ) -> list[Rows] | None:
        """Rows behind each place, if all places are means of `y` by `names` and `x`."""
        if (x, y, names) not in self.means:
            by = [*names] if x is None else [*names, x]
            grouped = self.data.groupby(by, dropna=False, observed=True) if by else None
            mean = np.full(len(self.data), np.nan)
            if grouped is not None:
                mean = grouped[y].transform("mean").to_numpy(float)
            line = np.zeros(len(self.data), np.int64)  # a line is of one group, over all x
            if names and x is not None:
                line = self.data.groupby(list(names), dropna=False, observed=True).ngroup()
            self.means[x, y, names] = mean, np.asarray(line)
        mean, line = self.means[x, y, names]
        lines: set[int] | None = None
        hits: list[NDArray[np.int64]] = []
        for place, wanted in zip(series.x, series.y, strict=True):
            there = _close(mean, wanted / scale)
            if x is not None:
                there &= _close(self.values[x], place)
            hits.append(np.flatnonzero(there))
            mine = set(line[hits[-1]].tolist())
            lines = mine if lines is None else lines & mine
            if not lines:
                return None
        assert lines
        return [tuple(rows[line[rows] == min(lines)].tolist()) for rows in hits]

    def _by_one(self, series: _Series) -> list[Rows] | None:
        """Rows that alone hold one of the values, where the other was moved aside."""
        for wanted in (series.y, series.x):
            if not _fractions(wanted):
                continue
            for name, scale in self._scaled():
                found = self._with(name, wanted, scale)
                if any(len(rows) == 1 for rows in found):
                    return [tuple(rows) if len(rows) == 1 else () for rows in found]
        return None

    def _scaled(self) -> Iterator[tuple[str, float]]:
        return itertools.product(self.values, SCALES)

    def _with(self, name: str, wanted: Floats, scale: float = 1.0) -> list[list[int]]:
        """Rows whose column `name` has each of the values; all empty once one is nowhere."""
        own, order = self.values[name], self.order[name]
        ascending = own[order]
        wanted = wanted / scale
        room = WITHIN * np.abs(wanted)
        first = np.searchsorted(ascending, wanted - room, "left")
        last = np.searchsorted(ascending, wanted + room, "right")
        if np.any(first == last):
            return [[]] * len(wanted)
        return [order[a:b].tolist() for a, b in zip(first, last, strict=True)]


def _close(values: Floats, wanted: float) -> NDArray[np.bool_]:
    close: NDArray[np.bool_] = np.abs(values - wanted) <= WITHIN * np.abs(wanted)
    return close


def _fractions(values: Floats) -> bool:
    """Whether values tell rows apart: counts and places 0, 1, 2 ... do not."""
    known = values[np.isfinite(values)]
    return bool(np.any(known != np.round(known)))
