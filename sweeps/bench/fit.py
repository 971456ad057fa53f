"""How long fits take: the full grid of starts, a bootstrap, a loss-curve law."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from fits.fitting import fit
from fits.laws.size_and_data import HOFFMANN_STARTS
from fits.made import made_curves, made_points
from fits.table import read_table


def bench_fit(repeats: int) -> dict[str, Any]:
    """Median seconds over `repeats`; on the public tables where LAB_PUBLIC_TABLES has them.

    The grid is that of Hoffmann et al. (2203.15556, appendix D.2): 4500 starts, on the 240 points
    of 2404.10102. The loss-curve fit is of the multi-power law on three curves (2503.12811).
    Elsewhere both are made of published laws (`fits.made`).
    """
    points, curves, told = _tables()
    full = fit("chinchilla", points, starts=HOFFMANN_STARTS, interval="none")
    return {
        "tables": told,
        "starts": full.starts,
        "agree": full.agree,
        "chinchilla_grid_seconds": _median(
            lambda: fit("chinchilla", points, starts=HOFFMANN_STARTS, interval="none"), repeats
        ),
        "chinchilla_bootstrap_1000_seconds": _median(
            lambda: fit("chinchilla", points, interval="bootstrap", draws=1000), repeats
        ),
        "chinchilla_profile_seconds": _median(lambda: fit("chinchilla", points), repeats),
        "multi_power_seconds": _median(
            lambda: fit("multi-power", curves[0], rates=curves[1], interval="none"), repeats
        ),
        "multi_power_profile_seconds": _median(
            lambda: fit("multi-power", curves[0], rates=curves[1]), repeats
        ),
    }


def _median(work: Callable[[], Any], repeats: int) -> float:
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - begun)
    return median(seconds)


def _tables() -> tuple[pd.DataFrame, tuple[pd.DataFrame, Any], str]:
    folder = Path(os.environ.get("LAB_PUBLIC_TABLES", ""))
    names = ("chinchilla_epoch245.csv", "mpl_loss_curves_25M_100M.csv")
    if os.environ.get("LAB_PUBLIC_TABLES") and all((folder / name).is_file() for name in names):
        points, curves = (read_table(folder / name) for name in names)
        points = points[points["in_published_fit"] == 1]
        train = curves[(curves["model_size_M"] == 25) & (curves["split"] == "train")]
        return points, (train, None), "public"
    curves, rates = made_curves()
    return made_points(), (curves[curves["split"] == "train"], rates), "made of published laws"
