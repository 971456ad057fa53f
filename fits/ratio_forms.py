"""Rival forms of loss against the mixture ratio, ranked by ratios left out.

The papers disagree: a power of R (Gu et al. 2024, arXiv 2407.17467), an exponential in R (Ye et al.
2024, arXiv 2403.16952, who reject the power since it diverges), an inverse power of the corpus's
own share (Que et al. 2024, arXiv 2406.01375). All have three parameters here, so that none wins by
having more. Each ratio is left out in turn; with fewer than six no difference can be called sure
(`fits.comparing`: random signs of the folds).
"""

import math
from typing import Any

import numpy as np
import pandas as pd

from fits.comparing import compare
from fits.continual import ratio_laws
from fits.errors import Refused

FORMS = ("cmr-ratio", "data-mixing", "ratio-inverse")
MIN_RATIOS = 5  # one is left out, three parameters, and one to spare


def inner_ratios(table: pd.DataFrame, horizon: int) -> pd.DataFrame:
    """Rows of `changes` at a horizon with 0 < R < 1: where the forms are fitted."""
    return table[(table["tokens"] == horizon) & (table["ratio"] > 0) & (table["ratio"] < 1)]


def rank_forms(table: pd.DataFrame, general: str, horizon: int) -> pd.DataFrame:
    """A row a size, corpus and form, best first; of the mean over units that have every ratio.

    Columns: n_params, corpus, rank (NA without one), form, rms_nats of ratios left out, verdict,
    difference (of mean squares, to the best), ratios, why. `own_share` is R for the domain's loss
    and 1 - R for the general one.
    """
    rows: list[dict[str, Any]] = []
    for (size, corpus), here in inner_ratios(table, horizon).groupby(["n_params", "corpus"]):
        ratios = here["ratio"].nunique()
        counts = here.groupby("unit")["ratio"].transform("nunique")
        mean = here[counts == ratios].groupby("ratio", as_index=False)["loss_nats"].mean()
        head = {"n_params": size, "corpus": corpus}
        if len(mean) < MIN_RATIOS:
            rows.append({**head, "why": f"{len(mean)} ratios; ranked from {MIN_RATIOS} on"})
            continue
        mean["own_share"] = 1 - mean["ratio"] if corpus == general else mean["ratio"]
        try:
            ranked = compare(FORMS, mean, by="ratio", columns={"ratio_domain": "ratio"})
        except Refused as refusal:
            rows.append({**head, "why": str(refusal)})
            continue
        for one in ranked.table.to_dict("records"):
            rows.append(
                {
                    **head,
                    "rank": one["rank"],
                    "form": one["law"],
                    "rms_nats": math.sqrt(one["loss"]),
                    "verdict": one["verdict"],
                    "difference": one["difference"],
                    "ratios": one["points"],
                    "why": one["why"],
                }
            )
    columns = ["n_params", "corpus", "rank", "form", "rms_nats", "verdict", "difference", "ratios"]
    out = pd.DataFrame(rows, columns=[*columns, "why"])
    return out.astype({"rank": "Int64"})


def held_out_errors(
    table: pd.DataFrame, corpus: str, size: int, horizon: int, held_out: float
) -> dict[Any, float]:
    """Unit -> loss that its own `cmr-ratio` predicts at the ratio left out, less that measured.

    The ratio is the one nearest to `held_out`. Units whose fit is not possible are left out.
    """
    here = table[(table["corpus"] == corpus) & (table["n_params"] == size)]
    errors: dict[Any, float] = {}
    for unit, own in here.groupby("unit"):
        for one in ratio_laws(own, horizon, held_out):
            (row,) = one.held_out
            if np.isfinite(row.predicted):
                errors[unit] = row.predicted - row.observed
    return errors
