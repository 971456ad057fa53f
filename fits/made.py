"""Tables made of published laws, to try things on: nobody's measurements.

Losses are a law's at its published coefficients, times log-normal noise.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fits.laws import law
from fits.rates import Rates, schedule

if TYPE_CHECKING:
    import pandas as pd

Floats = NDArray[np.float64]

BUDGETS = np.geomspace(6e18, 3e22, 15)  # FLOP
SIZES = 2e7 * 1.5 ** np.arange(20)  # parameters
REACH = 6.0  # how far the sizes of a budget reach to either side of sqrt(C / 120), about the best
PEAK, END, WARMUP = 3e-4, 3e-5, 2160  # of the curves, as in 2503.12811
EVERY = 128  # steps between the losses of a curve


def made_points(noise: float = 0.01, seed: int = 0) -> "pd.DataFrame":
    """Final losses at fifteen budgets: columns run, n_params, n_tokens, budget_flop, loss_nats.

    Of Chinchilla's law as refitted in 2404.10102; `noise` is the standard deviation of the
    logarithm of the loss.
    """
    import pandas as pd

    budgets, sizes = (axis.ravel() for axis in np.meshgrid(BUDGETS, SIZES, indexing="ij"))
    near = np.abs(np.log(sizes) - 0.5 * np.log(budgets / 120)) <= np.log(REACH)
    budgets, sizes = budgets[near], sizes[near]
    tokens = budgets / (6 * sizes)
    chinchilla = law("chinchilla")
    x = {"n_params": sizes, "n_tokens": tokens}
    loss = chinchilla.predict(chinchilla.published["2404.10102"], x)
    noisy = loss * np.exp(noise * np.random.default_rng(seed).normal(size=len(loss)))
    columns = {"run": np.arange(len(loss)), **x, "budget_flop": budgets}
    return pd.DataFrame({**columns, "loss_nats": noisy})


def made_curves(noise: float = 0.0015, seed: int = 0) -> tuple["pd.DataFrame", dict[str, Floats]]:
    """(losses along curves: columns curve, split, step, lr, loss_nats; the rate of every step).

    Of the multi-power law as its authors fitted it at 25 M parameters (2503.12811). A constant, a
    cosine and a two-stage schedule to fit (split `train`), and a warm-up, stable, decay schedule
    and a cosine three times as long to predict (`test`).
    """
    import pandas as pd

    rates = {
        "constant": schedule("constant", 24_000, PEAK, warmup=WARMUP),
        "cosine": schedule("cosine", 24_000, PEAK, warmup=WARMUP, end=END),
        "two-stage": schedule("two-stage", 16_000, PEAK, warmup=WARMUP, end=3 * END, decay=8_000),
        "wsd": schedule("wsd", 24_000, PEAK, warmup=WARMUP, end=END, decay=4_000),
        "long cosine": schedule("cosine", 72_000, PEAK, warmup=WARMUP, end=END),
    }
    parts = []
    for name, rate in rates.items():
        steps = np.arange(WARMUP, len(rate) + 1, EVERY)
        split = "test" if name in ("wsd", "long cosine") else "train"
        parts.append({"curve": name, "split": split, "step": steps, "lr": rate[steps - 1]})
    frame = pd.concat([pd.DataFrame(part) for part in parts], ignore_index=True)
    multi_power = law("multi-power")
    coefficients = next(v for k, v in multi_power.published.items() if k.endswith(" 25M"))
    places = Rates(rates, frame["curve"].tolist(), frame["step"].to_numpy())
    loss = multi_power.predict(coefficients, {"rates": places})
    random = np.random.default_rng(seed)
    return frame.assign(loss_nats=loss * np.exp(noise * random.normal(size=len(loss)))), rates
