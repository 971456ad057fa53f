"""Chinchilla's first approach: the envelope of training curves.

At each of many budgets the run with the least loss so far gives N* and D* (Hoffmann et al. 2022,
2203.15556, section 3.1). Curves are interpolated in (ln C, ln L), not smoothed. A loss read in the
middle of a schedule that still decays is higher than that of a run that ends there: give runs of
several horizons a size, as the paper did (four), or a constant rate.

Neighbouring budgets read the same runs, so the scatter about the line says nothing of its
uncertainty: whole runs are resampled. Two biases remain, measured on curves of the law of
2404.10102 (a = .514), sizes log-spaced over a factor 200. The frontier is a staircase over them:
without noise a is off by -.022 with 6 sizes, -.005 with 12, -.0017 with 20, -.0003 with 40. And the
least of many noisy curves is a lucky one: where whole runs differ by .002 nats (standard deviation
over seeds) a is low by .006 with 20 sizes and by .014 with 40, and of 60 such data sets the 95 %
interval held the truth in 98 % with 20 sizes, in 45 % with 40. Where seeds differ so much against
the gaps between neighbouring sizes, use IsoFLOP curves or a law of N and D.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fits.engine.uncertainty import MIN_BOOTSTRAP_UNITS
from fits.errors import Refused
from fits.frontier import (
    FLOP_PER_PARAM_TOKEN,
    MIN_BUDGETS,
    Frontier,
    columns_of,
    edge_notes,
    power_laws,
)
from fits.table import require_column

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_NONE = "no run reaches this budget"
_SMALLEST = (
    "the smallest size with a run there is best (smaller runs end before, or were not tried)"
)
_LARGEST = "the largest size with a run there is best (larger runs begin after, or were not tried)"


def envelope(
    table: "pd.DataFrame",
    columns: Mapping[str, str] | None = None,
    budgets: int = 1500,
    bootstrap: int = 200,
    level: float = 0.95,
    seed: int = 0,
) -> Frontier:
    """Compute-optimal N and D by budget, and their power laws, from training curves.

    `table`: a row per logged loss with `run`, `n_params`, `loss_nats` and `train_flop` or
    `n_tokens` (the other is by C = 6 N D); `columns` maps these names to the table's own.
    `budgets` log-spaced places are read, as many as in the paper. A run takes part where it has
    trained: between its first and its last row. `bootstrap` resamples of whole runs give the
    intervals; none below six runs.

    Raises Refused: a missing column, a value that is not positive, a run with one row, with two
    sizes or with two losses at one budget, fewer than three budgets with an optimum.
    """
    import pandas as pd

    if budgets < 3 or bootstrap < 0:
        raise Refused("budgets must be 3 or more and bootstrap 0 or more")
    columns = dict(columns or {})
    run_column = columns.pop("run", "run")
    require_column(run_column, table)
    read = columns_of(table, columns, ("n_params", "loss_nats"), ("train_flop", "n_tokens"))
    if "train_flop" not in read and "n_tokens" not in read:
        columns_of(table, columns, ("train_flop",), ("n_params", "loss_nats", "n_tokens"))
    per_param_token = FLOP_PER_PARAM_TOKEN * read["n_params"]
    flop = read.get("train_flop", per_param_token * read.get("n_tokens", 1.0))
    tokens = read.get("n_tokens", flop / per_param_token)
    frame = pd.DataFrame({"curve": table[run_column].to_numpy(), "n_params": read["n_params"]})
    frame = frame.assign(train_flop=flop, n_tokens=tokens, loss=read["loss_nats"])
    if frame["curve"].isna().any():
        raise Refused(f"column {run_column!r} has rows without a run")
    frame = frame.sort_values(["n_params", "curve", "train_flop"], kind="stable")

    log_c = np.linspace(np.log(flop.min()), np.log(flop.max()), budgets)
    names, sizes, log_loss, log_d = _on_budgets(frame, log_c)
    winner, why = _winners(sizes, log_loss, np.ones(len(sizes), bool))
    at = np.arange(budgets)
    n = np.where(why == _NONE, np.nan, sizes[winner])
    d = np.exp(log_d[winner, at])
    optima = pd.DataFrame({"budget_flop": np.exp(log_c), "n_opt": n, "d_opt": d})
    optima = optima.assign(
        tokens_per_param=d / n,
        loss_opt=np.where(why == _NONE, np.nan, np.exp(log_loss[winner, at])),
        source=np.where(why == _NONE, "", [f"run {names[k]}" for k in winner]),
        edge=why != "",
        note=why,
    )
    enough = len(sizes) >= MIN_BOOTSTRAP_UNITS
    drawn = _resampled(sizes, log_loss, log_d, bootstrap if enough else 0, seed)
    best_sizes = optima.loc[~optima["edge"], "n_opt"].nunique()
    if best_sizes < MIN_BUDGETS:
        raise Refused(
            f"{best_sizes} sizes are best somewhere without being the smallest or largest with a "
            f"run there, a power law needs {MIN_BUDGETS}: more sizes, or longer runs"
        )
    laws = power_laws(optima, *drawn, f"whole runs of {len(sizes)}", independent=False)
    notes = [f"{best_sizes} sizes are best at some budget; lucky runs are so more often"]
    notes += [] if enough else [f"{len(sizes)} runs: too few to resample"]
    notes += edge_notes(optima)
    curves = frame.drop(columns="n_tokens").assign(kind="measured").reset_index(drop=True)
    name = columns.get("loss_nats", "loss_nats")
    return Frontier("envelope", optima, curves, laws, name, level, tuple(notes))


def _on_budgets(
    frame: "pd.DataFrame", log_c: Floats
) -> tuple[list[object], Floats, Floats, Floats]:
    """Runs, their sizes [r], and ln L and ln D at budgets [r, m]; L infinite where not trained."""
    names, sizes, losses, tokens = [], [], [], []
    for name, rows in frame.groupby("curve", sort=False):
        c = np.log(rows["train_flop"].to_numpy())
        if len(c) < 2:
            raise Refused(f"run {name!r} has one row, a curve needs two: leave it out")
        if rows["n_params"].nunique() > 1:
            raise Refused(f"run {name!r} has rows of {rows['n_params'].nunique()} sizes: one a run")
        if np.any(np.diff(c) <= 0):
            again = rows["train_flop"].to_numpy()[1:][np.diff(c) <= 0][0]
            raise Refused(f"run {name!r} has two losses at {again:.4g} FLOP: leave one out")
        trained = (log_c >= c[0]) & (log_c <= c[-1])
        names.append(name)
        sizes.append(float(rows["n_params"].iloc[0]))
        log_loss = np.log(rows["loss"].to_numpy())
        losses.append(np.where(trained, np.interp(log_c, c, log_loss), np.inf))
        tokens.append(np.interp(log_c, c, np.log(rows["n_tokens"].to_numpy())))
    return names, np.array(sizes), np.array(losses), np.array(tokens)


def _winners(
    sizes: Floats, log_loss: Floats, present: Flags
) -> tuple[NDArray[np.int64], NDArray[np.str_]]:
    """The best of the runs `present` at each budget [m], and why it is no optimum ("": it is)."""
    losses = np.where(present[:, None], log_loss, np.inf)
    best = losses.argmin(axis=0)
    there = np.isfinite(losses)
    smallest = np.where(there, sizes[:, None], np.inf).min(axis=0)
    largest = np.where(there, sizes[:, None], -np.inf).max(axis=0)
    why = np.where(sizes[best] == smallest, _SMALLEST, "")
    why = np.where((sizes[best] == largest) & (why == ""), _LARGEST, why)
    return best, np.where(there.any(axis=0), why, _NONE)


def _resampled(
    sizes: Floats, log_loss: Floats, log_d: Floats, draws: int, seed: int
) -> tuple[Floats, Floats]:
    """ln N* and ln D* [draws, m] of envelopes of resampled runs; NaN on an edge.

    All NaN for a draw in which fewer than MIN_BUDGETS sizes are best somewhere: it has no law.
    """
    random = np.random.default_rng(seed)
    runs, budgets = log_loss.shape
    n, d = np.full((draws, budgets), np.nan), np.full((draws, budgets), np.nan)
    for k in range(draws):
        present = np.zeros(runs, bool)
        present[random.integers(0, runs, runs)] = True  # twice the same run is no other envelope
        best, why = _winners(sizes, log_loss, present)
        inside = why == ""
        if len(np.unique(sizes[best[inside]])) >= MIN_BUDGETS:
            n[k, inside] = np.log(sizes[best[inside]])
            d[k, inside] = log_d[best[inside], np.flatnonzero(inside)]
    return n, d
