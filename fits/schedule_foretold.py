"""What laws of loss curves say of schedules before these are run, and what came of it.

How far a prediction may miss is taken from the fitted curves alone: each whose rate falls is left
out in turn, and foretold from the others. That knows neither what extrapolation to more steps adds
nor a rate that rises again.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from fits.errors import Refused
from fits.schedules import PERCENT, Curves, UnitFits, errors, predicted_losses, unit_fits

COLUMNS = ("name", "predicted", "low", "high", "unit", "how")


def predictions(
    data: Curves, fitted: Sequence[str], held: Sequence[str], laws: Sequence[str], after: int
) -> pd.DataFrame:
    """Two rows a law and curve (COLUMNS): its last loss, and the law's error along it. Raises
    Refused.

    The last loss is the mean over units of their fits, give or take the largest relative error of a
    last loss among curves left out. The error along a curve is expected to be as when curves were
    left out, and at most twice the worst of those.
    """
    fits = unit_fits(data, fitted, laws, after)
    return foretell(data, fits, left_out(data, fitted, laws, after), held)


def left_out(data: Curves, fitted: Sequence[str], laws: Sequence[str], after: int) -> pd.DataFrame:
    """`errors` of each fitted curve whose rate falls, by a fit to the others. Raises Refused.

    A constant rate is no test of a law of schedules, and is always fitted.
    """
    found = []
    for name in fitted:
        if not (np.diff(np.asarray(data.rates[name])) < 0).any():
            continue
        others = [one for one in fitted if one != name]
        if others:
            fits = unit_fits(data, others, laws, after)
            found.append(errors(data, fits, others, [name], after))
    if not found:
        raise Refused("no fitted curve has a rate that falls and others beside it")
    return pd.concat(found, ignore_index=True)


def foretell(
    data: Curves, fits: UnitFits, beforehand: pd.DataFrame, held: Sequence[str]
) -> pd.DataFrame:
    """Rows of `predictions`; beforehand: of `left_out`."""
    rows = []
    for law in dict.fromkeys(law for law, _ in fits):
        before = beforehand[beforehand["law"] == law]
        worst_end = float(before["end_error"].abs().max()) / PERCENT
        usual, worst = float(before["curve_error"].mean()), float(before["curve_error"].max())
        mine = [one for (name, _), one in fits.items() if name == law]
        for name in held:
            last = [data.end(name)]
            each = [predicted_losses(one, data.rates[name], last)[0] for one in mine]
            middle = float(np.mean(each))
            how = f"mean of {len(each)} seeds' fits; +- the worst end error of a curve left out"
            ends = middle * (1 - worst_end), middle * (1 + worst_end)
            rows.append([end_name(law, name), middle, *ends, "nats", how])
            how = "mean over curves left out and seeds; 0 to twice the worst"
            rows.append([curve_name(law, name), usual, 0.0, 2 * worst, "% of the loss", how])
    return pd.DataFrame(rows, columns=list(COLUMNS))


def end_name(law: str, curve: str) -> str:
    """The name of the prediction of a curve's last loss."""
    return f"{law}: last loss of {curve}"


def curve_name(law: str, curve: str) -> str:
    """The name of the prediction of a law's error along a curve."""
    return f"{law}: error along {curve}"


def measured(table: pd.DataFrame) -> dict[str, float]:
    """What came of `predictions`, by name, mean over units; table: of `errors`."""
    found = {}
    for (law, name), rows in table.groupby(["law", "curve"]):
        found[end_name(str(law), str(name))] = float(rows["loss_end"].mean())
        found[curve_name(str(law), str(name))] = float(rows["curve_error"].mean())
    return found
