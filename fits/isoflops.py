"""Chinchilla's second approach: at each budget, the size with the least loss (IsoFLOP curves).

Two readings of a curve. `parabola`: the vertex of a parabola in ln N through the losses (Hoffmann
et al. 2022, 2203.15556, section 3.2). `akima`: the minimum of Akima's piecewise cubic through
(ln N, ln L) (Porian et al. 2024, 2406.19146).

A parabola is biased even without noise (2603.22339). Measured on 15 sizes centred on the optimum:
D* is off by +0.1 % where they reach a factor 2 to each side and by +1.8 % at a factor 16 on the law
of 2404.10102, by -1.7 % and -23 % where alpha is three times beta; Akima's by at most 0.1 % and
1.3 %. The exponent is right in all of these, as every budget is off by the same factor: an exponent
is no witness for the sizes. Akima's curve follows the noise too: say how large that is.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fits.errors import Refused
from fits.frontier import (
    FLOP_PER_PARAM_TOKEN,
    Frontier,
    columns_of,
    edge_notes,
    power_laws,
)
from fits.parabola import parabola

if TYPE_CHECKING:
    import pandas as pd
    from scipy.interpolate import Akima1DInterpolator

Floats = NDArray[np.float64]
Method = Literal["akima", "parabola"]
MIN_SIZES = 3
_LINE_PLACES = 81  # of a curve that is shown
_ON_THE_END = 1e-9  # of the range of ln N: a minimum so near its end is at the end
_FAR = math.log(1e3)  # beyond the sizes tried: the vertex of what is nearly a line, no number
_MOST_NOISE = 0.1  # of the least loss: beyond it a noisy loss may be none


def isoflop(
    table: "pd.DataFrame",
    method: Method = "akima",
    columns: Mapping[str, str] | None = None,
    noise_nats: float | None = None,
    draws: int = 1000,
    places_per_gap: int | None = None,
    same_budget: float = 1e-3,
    level: float = 0.95,
    seed: int = 0,
) -> Frontier:
    """Compute-optimal N and D by budget, and their power laws, from final losses.

    `table`: a row per run with `budget_flop`, `n_params`, `loss_nats` and, if there, `n_tokens`;
    `columns` maps these names to the table's own. Budgets within `same_budget` (relative) are one.
    Without `budget_flop` it is 6 N D; without `n_tokens`, D* is C / (6 N*). Runs of one size and
    budget are averaged.

    `noise_nats`: standard deviation of a run's loss over seeds. With it every optimum is the median
    over `draws` sets of losses with such noise added, as in Porian et al., and the exponents get an
    interval by the regressions of the draws beside that of t. `places_per_gap`: look for Akima's
    minimum at so many places per size, not for the exact one; Porian et al. took 25 (N* of theirs
    are such places).

    Raises Refused: a missing column, a value that is not positive, fewer than three sizes at a
    budget, fewer than three budgets whose optimum is inside the sizes tried.
    """
    import pandas as pd

    _check(method, noise_nats, draws, places_per_gap)
    read = columns_of(table, columns, ("n_params", "loss_nats"), ("budget_flop", "n_tokens"))
    if noise_nats is not None and noise_nats > _MOST_NOISE * read["loss_nats"].min():
        raise Refused(f"noise of {noise_nats:g} nats beside a loss of {read['loss_nats'].min():g}")
    notes = []
    if "budget_flop" not in read:
        if "n_tokens" not in read:
            columns_of(table, columns, ("budget_flop",), ("n_params", "loss_nats", "n_tokens"))
        read["budget_flop"] = FLOP_PER_PARAM_TOKEN * read["n_params"] * read["n_tokens"]
        notes.append("budgets are 6 N D")
    random = np.random.default_rng(seed)
    rows, drawn, curves = [], [], []
    for budget, members in _budgets(read["budget_flop"], same_budget):
        curve = _Curve.of(budget, {name: values[members] for name, values in read.items()})
        if len(curve.log_n) < MIN_SIZES:
            raise Refused(
                f"budget {budget:.4g} FLOP has {len(curve.log_n)} sizes, an IsoFLOP curve needs "
                f"{MIN_SIZES}: leave those rows out"
            )
        row, log_n = _optimum(curve, method, noise_nats, draws, places_per_gap, random)
        rows.append(row)
        drawn.append(log_n)
        curves += [curve.table(), curve.drawn(method)]
        if len(curve.log_n) < len(members):
            notes.append(f"{budget:.4g} FLOP: runs of one size are averaged")
    optima = pd.DataFrame(rows)
    log_n, log_d = np.stack(drawn, axis=-1)
    added = f"noise of {noise_nats:g} nats added" if noise_nats else ""
    laws = power_laws(optima, log_n, log_d, added, independent=True)
    if noise_nats:
        notes.append(f"optima are medians over {draws} draws with {added}")
    notes += edge_notes(optima)
    name = (columns or {}).get("loss_nats", "loss_nats")
    frame = pd.concat(curves, ignore_index=True)
    return Frontier(f"isoflop {method}", optima, frame, laws, name, level, tuple(notes))


def _check(method: str, noise: float | None, draws: int, places: int | None) -> None:
    if method not in get_args(Method):
        raise Refused(f"no method {method!r}; there are {', '.join(get_args(Method))}")
    if noise is not None and not 0 < noise < np.inf:
        raise Refused(f"noise_nats is a positive standard deviation, not {noise:g}")
    if draws < 2:
        raise Refused(f"draws must be 2 or more, not {draws}")
    if places is not None and (places < 2 or method != "akima"):
        raise Refused("places_per_gap is 2 or more, and for the method akima alone")


def _budgets(budget_flop: Floats, same: float) -> list[tuple[float, NDArray[np.int64]]]:
    """(budget, rows) of each group within `same` of its least, in order."""
    order = np.argsort(budget_flop, kind="stable")
    groups: list[list[int]] = []
    for row in order:
        if groups and budget_flop[row] <= budget_flop[groups[-1][0]] * (1 + same):
            groups[-1].append(int(row))
        else:
            groups.append([int(row)])
    return [(float(np.median(budget_flop[one])), np.array(one)) for one in groups]


@dataclass(frozen=True)
class _Curve:
    """Losses [n] at one budget over increasing ln N; each the mean of `runs`."""

    budget: float
    log_n: Floats
    log_d: Floats
    loss: Floats
    runs: Floats

    @classmethod
    def of(cls, budget: float, read: Mapping[str, Floats]) -> "_Curve":
        sizes, which, runs = np.unique(read["n_params"], return_inverse=True, return_counts=True)
        tokens = read.get("n_tokens", budget / (FLOP_PER_PARAM_TOKEN * read["n_params"]))
        loss = np.bincount(which, read["loss_nats"]) / runs
        log_d = np.bincount(which, np.log(tokens)) / runs
        return cls(budget, np.log(sizes), log_d, loss, runs.astype(np.float64))

    def tokens_at(self, log_n: Floats) -> Floats:
        """ln D there: straight in ln N between sizes; beyond them N D stays as it is."""
        inside = np.clip(log_n, self.log_n[0], self.log_n[-1])
        return np.interp(inside, self.log_n, self.log_d) + (inside - log_n)

    def table(self) -> "pd.DataFrame":
        return self._frame(self.log_n, self.loss, "measured")

    def drawn(self, method: Method) -> "pd.DataFrame":
        """The interpolating curve at places close enough to be shown."""
        places = np.linspace(self.log_n[0], self.log_n[-1], _LINE_PLACES)
        return self._frame(places, self.at(places, method), "interpolated")

    def at(self, log_n: Floats, method: Method) -> Floats:
        """The interpolated loss."""
        if method == "akima":
            return np.exp(_akima(self.log_n, np.log(self.loss)[:, None])(log_n)[:, 0])
        centre = self.log_n.mean()
        return np.polyval(np.polyfit(self.log_n - centre, self.loss, 2), log_n - centre)

    def _frame(self, log_n: Floats, loss: Floats, kind: str) -> "pd.DataFrame":
        import pandas as pd

        columns = {"curve": self.budget, "n_params": np.exp(log_n), "train_flop": self.budget}
        return pd.DataFrame({**columns, "loss": loss, "kind": kind})


def _optimum(
    curve: _Curve,
    method: Method,
    noise: float | None,
    draws: int,
    places: int | None,
    random: np.random.Generator,
) -> tuple[dict[str, object], Floats]:
    """The row of `optima` for one budget, and (ln N*, ln D*) of its draws, [2, draws]."""
    place, note = _minima(curve.log_n, curve.loss[:, None], method, places)
    found, edge = float(place[0]), note[0]
    drawn = np.empty(0)
    inside = ""
    if noise is not None:
        scatter = noise / np.sqrt(curve.runs)[:, None]
        noisy = curve.loss[:, None] + scatter * random.normal(size=(len(curve.loss), draws))
        drawn, edges = _minima(curve.log_n, noisy, method, places)
        kept = edges == ""
        drawn = np.where(kept, drawn, np.nan)
        inside = f"{100 * kept.mean():.0f} % of draws inside" if not kept.all() else ""
        if not edge and 2 * kept.sum() < draws:
            edge = "within the noise of the edge of the sizes tried"
        elif not edge:
            found = float(np.median(drawn[kept]))
    least = int(curve.loss.argmin())
    if not edge and least in (0, len(curve.loss) - 1):
        inside = "; ".join(filter(None, ["least measured loss at the last size tried", inside]))
    if not curve.log_n[0] - _FAR < found < curve.log_n[-1] + _FAR:
        found = np.nan
    n = np.exp(found)
    d = np.exp(curve.tokens_at(np.array([found]))[0])
    loss = curve.at(np.array([found]), method)[0]
    row = {"budget_flop": curve.budget, "n_opt": n, "d_opt": d, "tokens_per_param": d / n}
    row |= {"loss_opt": loss, "source": f"{method} over {len(curve.log_n)} sizes"}
    row |= {"edge": bool(edge), "note": edge or inside}
    return row, np.stack([drawn, curve.tokens_at(drawn)])


_SMALLEST, _LARGEST = "the smallest size tried is best", "the largest size tried is best"


def _minima(
    x: Floats, losses: Floats, method: Method, places: int | None
) -> tuple[Floats, NDArray[np.str_]]:
    """Where each column of `losses` [n, k] has its minimum over x = ln N, and why it is none."""
    if method == "parabola":
        return _vertices(x, losses)
    at = _akima_exact(x, losses) if places is None else _akima_places(x, losses, places)
    return at, np.where(at == x[0], _SMALLEST, np.where(at == x[-1], _LARGEST, ""))


def _vertices(x: Floats, losses: Floats) -> tuple[Floats, NDArray[np.str_]]:
    found = parabola(x, losses)
    return found.vertex, found.why_none(x[0], x[-1], "sizes")


def _akima(x: Floats, y: Floats) -> "Akima1DInterpolator":
    from scipy.interpolate import Akima1DInterpolator

    return Akima1DInterpolator(x, y)  # y [n] or [n, k]


def _akima_places(x: Floats, losses: Floats, places: int) -> Floats:
    fine = np.linspace(x[0], x[-1], (len(x) - 1) * places)
    return np.asarray(fine[_akima(x, np.log(losses))(fine).argmin(axis=0)])


def _akima_exact(x: Floats, losses: Floats) -> Floats:
    """The least of every knot and every root of the derivative, piece by piece."""
    curve = _akima(x, np.log(losses))
    c3, c2, c1, c0 = curve.c  # [n - 1, k] each, of powers of x - x[piece]
    width = np.diff(x)[:, None]
    inner = [np.zeros_like(c0), np.broadcast_to(width, c0.shape)]
    # roots of 3 c3 u^2 + 2 c2 u + c1 without cancellation; where none is real, NaN
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        root = np.sqrt(c2**2 - 3 * c3 * c1)
        q = -(c2 + np.where(c2 >= 0, root, -root))
        inner += [q / (3 * c3), c1 / q]
    u = np.stack(inner)
    u = np.where((u >= 0) & (u <= width), u, 0.0)
    value = ((c3 * u + c2) * u + c1) * u + c0
    at = (u + x[:-1, None]).reshape(-1, value.shape[-1])
    best = value.reshape(at.shape).argmin(axis=0)
    found = at[best, np.arange(at.shape[1])]
    ends = np.abs(found[None] - x[[0, -1], None]) <= _ON_THE_END * (x[-1] - x[0])
    return np.where(ends[0], x[0], np.where(ends[1], x[-1], found))
