"""What looks wrong with a table's units: said, never mended."""

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from fits.form import RATES, Law

if TYPE_CHECKING:
    import pandas as pd

# ln of 2^20 symbols, which no usual vocabulary exceeds: what guessing alike among them costs
GUESSING_NATS = 20 * math.log(2)
SMALLEST_MODEL = 1e3  # parameters; fewer are more likely thousands or millions of them
FEWEST_TOKENS = 1e-3  # a parameter, at every row; fewer are more likely steps, or billions
HIGHEST_RATE = 1.0
RUN_COLUMNS = ("run", "run_id", "Name", "name")

_OTHER_UNITS = re.compile(
    r"(?i)(?<![a-z])(bits?|bpb|bpc|bpd|log2|ppl|perplexity|acc|accuracy)(?![a-z])"
)
_STEPS = re.compile(r"(?i)(?:^|[^a-z])(?:global_?)?(?:steps?|iterations?|iters?)$")


def doubts(
    law: Law,
    frame: "pd.DataFrame",
    chosen: Mapping[str, str],
    values: Mapping[str, Any],
    by: str | None,
) -> list[str]:
    """Lines on values that are implausible in the law's units.

    chosen: law's name -> column. values: of every variable and of the response, [n] each. by: the
    column of the independent unit, if one is named.
    """
    said: list[str] = []
    if frame.empty:  # refused, further on
        return said
    loss = chosen.get("loss_nats")
    if loss is not None:
        said += _of_losses(loss, values["loss_nats"])
    if "n_params" in values:
        said += _of_sizes(chosen["n_params"], values["n_params"])
    for name in ("n_tokens", "tokens", "cpt_tokens"):
        column = chosen.get(name, "")
        if name in values and _STEPS.search(column):
            said.append(
                f"column {column} is read as tokens, and is called as steps are: "
                f"--columns {name}={column}*TOKENS_A_STEP"
            )
    if "n_params" in values and "n_tokens" in values:
        most = float(np.max(values["n_tokens"] / values["n_params"]))
        if most < FEWEST_TOKENS:
            said.append(
                f"no row has more than {most:.2g} tokens a parameter: are n_tokens "
                f"({chosen['n_tokens']}) counted in steps, or in billions?"
            )
    for one in law.variables:
        if one.name not in values or one.unit != "1" or "share" not in one.meaning:
            continue
        if (high := float(np.max(values[one.name]))) > 1:
            said.append(
                f"shares {one.name} go up to {high:.3g}: if they are in percent, "
                f"--columns {one.name}={chosen[one.name]}/100"
            )
    if RATES in values:
        highest = max(float(np.max(curve.rate)) for curve in values[RATES].curves)
        if highest > HIGHEST_RATE:
            said.append(f"learning rates go up to {highest:.3g}: is it a share of the peak?")
    return [*said, *_of_rows(law, frame, by)]


def _of_losses(column: str, loss: Any) -> list[str]:
    said = []
    if unit := _OTHER_UNITS.search(column):
        said.append(
            f"column {column} is read as nats a token; {unit.group()} are another unit (nats are "
            "bits times .6931, a byte's times bytes a token, or the logarithm of a perplexity)"
        )
    if (high := float(np.max(loss))) > GUESSING_NATS:
        said.append(
            f"losses go up to {high:.3g} nats, above the {GUESSING_NATS:.1f} of guessing among a "
            "million symbols: perplexities, or sums over a batch?"
        )
    return said


def _of_sizes(column: str, sizes: Any) -> list[str]:
    if (low := float(np.min(sizes))) >= SMALLEST_MODEL:
        return []
    return [
        f"models of {low:.4g} parameters: if they are counted in millions, "
        f"--columns n_params={column}*1e6"
    ]


def _of_rows(law: Law, frame: "pd.DataFrame", by: str | None) -> list[str]:
    """Rows of one run, of a law of runs' ends, are taken for independent ones."""
    run = next((name for name in RUN_COLUMNS if name in frame.columns), None)
    if law.rates or run is None or by is not None:
        return []
    rows, runs = len(frame), frame[run].nunique()
    if not 0 < runs < rows:
        return []
    return [
        f"{rows} rows are of {runs} runs ({run}), and count as independent: take the last of each "
        f"(lab table --last {run}), or name the unit (--by {run})"
    ]
