"""Ticks: at 1, 2 and 5 or at powers, as many as there is room for, never fewer than two.

Chosen when the figure is drawn, since only then the length of an axis is known. Counts are written
as people say them (120 k, 20 B) and the axis's label carries what is counted.
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

# marks in a decade, from few to many; a loss that halves lies within one decade
_MARKS = (
    (1.0,),
    (1.0, 3.0),
    (1.0, 2.0, 5.0),
    (1.0, 1.5, 2.0, 3.0, 5.0, 7.0),
    (1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0),
)
_STRIDES = (8, 5, 4, 3, 2, 1)  # decades between marks, where there are many
_WANTED = 4


def token_axis(axes: "Axes", name: str = "x") -> None:
    """Counts: 120 k, 1.2 M, 20 B."""
    _axis(axes, name, short_count)


def number_axis(axes: "Axes", name: str = "y") -> None:
    """Plain numbers: losses, errors, rates, steps."""
    _axis(axes, name, lambda value: f"{value:g}")


def loss_axis(axes: "Axes") -> None:
    """Plain numbers on the axis of a loss."""
    number_axis(axes, "y")


def flop_axis(axes: "Axes") -> None:
    """1e18, 1e19, ...: no name is short for these, and figures parse no formulas."""
    _axis(axes, "x", short_power)


def values_axis(
    axes: "Axes", values: Sequence[float], name: str = "x", as_text: Callable[[float], str] = str
) -> None:
    """Ticks at the values that were tried, every second or third one where there are many."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    axis = _of(axes, name)
    axis.set_major_locator(_at_values(sorted(values)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: as_text(value)))
    axis.set_minor_locator(NullLocator())


def step_axis(axes: "Axes") -> None:
    """A logarithmic axis of steps that shows 0, the state before the first."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    axes.set_xscale("symlog", linthresh=1.0)
    high = max(10.0, axes.dataLim.x1)
    marks = [0.0, *(10.0**k for k in range(int(math.log10(high)) + 1))]
    axes.xaxis.set_major_locator(_at_values(marks))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())


def short_count(value: float) -> str:
    """A count as people write it: 950, 120 k, 1.2 M, 20 B."""
    for limit, unit in ((1e12, " T"), (1e9, " B"), (1e6, " M"), (1e3, " k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def short_power(value: float) -> str:
    """1e18, 2.5e19."""
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{float(digits):g}e{int(power)}"


def _of(axes: "Axes", name: str) -> "Axis":
    return axes.xaxis if name == "x" else axes.yaxis


def _axis(axes: "Axes", name: str, as_text: Callable[[float], str]) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    axis = _of(axes, name)
    axis.set_major_formatter(FuncFormatter(lambda value, _: as_text(value)))
    if (axes.get_xscale() if name == "x" else axes.get_yscale()) == "log":
        axis.set_major_locator(_log_marks())
        axis.set_minor_formatter(NullFormatter())


def _log_marks() -> Any:
    from matplotlib.ticker import Locator

    class LogMarks(Locator):
        def __call__(self) -> Any:
            return self.tick_values(*_view(self))

        def tick_values(self, vmin: float, vmax: float) -> Any:
            low, high = sorted((vmin, vmax))
            return log_marks(low, high, _room(self.axis))

    return LogMarks()


def log_marks(low: float, high: float, room: int) -> "np.ndarray[Any, Any]":
    """Marks of a logarithmic axis between its ends: the fewest that are enough, if they fit."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    kinds = [(stride, (1.0,)) for stride in _STRIDES] + [(1, marks) for marks in _MARKS[1:]]
    found = np.array([])
    for stride, marks in kinds:
        decades = range(first - first % stride, last + 1, stride)
        every = np.array([mark * 10.0**k for k in decades for mark in marks])
        inside = every[(every >= low * (1 - 1e-9)) & (every <= high * (1 + 1e-9))]
        if len(inside) > room and len(found) >= 2:
            break
        found = inside
        if len(inside) >= min(_WANTED, room):
            break
    return found if len(found) >= 2 else np.linspace(low, high, 4)[1:-1]


def _at_values(values: Sequence[float]) -> Any:
    from matplotlib.ticker import Locator

    class AtValues(Locator):
        def __call__(self) -> Any:
            return self.tick_values(*_view(self))

        def tick_values(self, vmin: float, vmax: float) -> Any:
            return np.array(values[:: max(1, -(-len(values) // _room(self.axis)))])

    return AtValues()


def _view(locator: Any) -> tuple[float, float]:
    low, high = locator.axis.get_view_interval()
    return float(low), float(high)


def _room(axis: Any) -> int:
    """How many labels fit: matplotlib allows three ems each along x, and `120 k` needs four."""
    space = axis.get_tick_space()
    return max(2, int(0.75 * space) if axis.axis_name == "x" else int(space))
