"""How long fits take: the full grid of starts, a bootstrap, a loss-curve law."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd

from fits.fitting import fit
from fits.laws import law
from fits.laws.size_and_data import HOFFMANN_STARTS
from fits.rates import Rates, schedule
from fits.table import read_table

NOISE = 0.0015  # of the made-up tables, of the logarithm of the loss


def bench_fit(repeats: int) -> dict[str, Any]:
    """Median seconds over `repeats`; on the public tables where LAB_PUBLIC_TABLES has them.

    The grid is that of Hoffmann et al. (2203.15556, appendix D.2): 4500 starts, on the 240 points
    of 2404.10102. The loss-curve fit is of the multi-power law on three curves (2503.12811).
    Elsewhere both are made of the published coefficients, with as many points.
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
    return _made_points(), _made_curves(), "made of published coefficients"


def _made_points() -> pd.DataFrame:
    random = np.random.default_rng(0)
    grid = np.meshgrid(np.geomspace(5e7, 1.6e10, 16), np.geomspace(1e9, 5e11, 15))
    sizes, tokens = (axis.ravel() for axis in grid)
    chinchilla = law("chinchilla")
    loss = chinchilla.predict(
        chinchilla.published["2404.10102"], {"n_params": sizes, "n_tokens": tokens}
    )
    noisy = loss * np.exp(NOISE * random.normal(size=len(loss)))
    return pd.DataFrame({"n_params": sizes, "n_tokens": tokens, "loss_nats": noisy})


def _made_curves() -> tuple[pd.DataFrame, dict[str, Any]]:
    random = np.random.default_rng(1)
    rates = {
        "constant": schedule("constant", 24_000, 3e-4, warmup=2160),
        "cosine": schedule("cosine", 24_000, 3e-4, warmup=2160, end=3e-5),
        "two-stage": schedule("two-stage", 16_000, 3e-4, warmup=2160, end=9e-5, decay=8_000),
    }
    steps = {name: np.arange(2176, len(rate) + 1, 128) for name, rate in rates.items()}
    frame = pd.DataFrame(
        [{"curve": name, "step": int(step)} for name, of in steps.items() for step in of]
    )
    multi_power = law("multi-power")
    coefficients = next(v for k, v in multi_power.published.items() if k.endswith("25M"))
    places = Rates(rates, frame["curve"].tolist(), frame["step"].to_numpy())
    loss = multi_power.predict(coefficients, {"rates": places})
    frame["loss_nats"] = loss * np.exp(NOISE * random.normal(size=len(frame)))
    return frame, rates
