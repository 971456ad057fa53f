"""Loss in the shares of a mixture: rivals of CMR's power of the ratio (`fits.laws.continual`).

A share here is of training tokens, 0..1. The shares of a mixture sum to 1.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from fits.errors import Refused
from fits.form import Law, Parameter, Values, Variable
from fits.laws.continual import ANY_RATIO, LOSS, RATIO
from fits.laws.size_and_data import N_TOKENS

# Exponential in the shares ------------------------------------------------------------------

_YE = "Ye et al. 2024, arXiv 2403.16952"
# Both positive, as in the paper, which takes the logarithm of L - c. Its fits are of two stages: c
# where ln(L - c) is straightest in the share, of 1000 from 0 to the lowest loss; then k and t, with
# that c pinned, by Huber(.02) of the loss. All at once, as here by default, is another optimum.
_FLOOR = Parameter("c", "loss that no mixture goes below", low=0.0)
_SCALE = Parameter("k", "loss above c at shares of 0", low=0.0)
_FEW_STARTS = {1: (-10.0, -3.0, -1.0, 1.0, 3.0), 2: (-3.0, -1.0, 1.0, 3.0), 3: (-3.0, -1.0, 1.0)}
_STARTS_LIMIT = 64


def _one_share(p: Values, x: Values) -> Any:
    return p["c"] + p["k"] * np.exp(p["t"] * x["ratio_domain"])


DATA_MIXING = Law(
    name="data-mixing",
    title="Loss against mixture ratio, exponential",
    formula="L = c + k exp(t R)",
    response=LOSS,
    variables=(ANY_RATIO,),
    parameters=(_FLOOR, _SCALE, Parameter("t", "rate", -50.0, 50.0, _FEW_STARTS[1])),
    source=f"{_YE}, of two domains",
    predict=_one_share,
    linear=("c", "k"),
)


def data_mixing(shares: Sequence[str]) -> Law:
    """The exponential law of these shares: columns, all the domains of the mixture, two or more.

    The last is left out: as the shares sum to 1 it is 1 less the others, and its rate t would stand
    in for k and the other rates. So each t_j is the paper's t_j less the last one's, and k the
    paper's times e to that. The law is called `data-mixing:a+b+c`, by which `law` finds it again.
    Raises Refused.
    """
    return _data_mixing(tuple(shares))


@lru_cache(maxsize=64)
def _data_mixing(shares: tuple[str, ...]) -> Law:
    if len(shares) < 2 or not all(shares) or len(set(shares)) < len(shares):
        raise Refused(
            f"data-mixing of {'+'.join(shares) or 'no shares'}: name two or more columns, each "
            "once, such as data-mixing:web+code+books"
        )
    if any(mark in share for share in shares for mark in "+,"):
        raise Refused(f"data-mixing of {'+'.join(shares)}: no + or , in the name of a share")
    free = shares[:-1]

    def predict(p: Values, x: Values) -> Any:
        total = p[f"t_{free[0]}"] * x[free[0]]
        for share in free[1:]:
            total = total + p[f"t_{share}"] * x[share]
        return p["c"] + p["k"] * np.exp(total)

    two = (-3.0, 1.0) if 2 ** len(free) <= _STARTS_LIMIT else (-1.0,)
    starts = _FEW_STARTS.get(len(free), two)
    rates = [
        Parameter(f"t_{share}", f"rate of {share}, less that of {shares[-1]}", -50.0, 50.0, starts)
        for share in free
    ]
    exponent = " + ".join(f"t_{share} {share}" for share in free)
    return Law(
        name=f"data-mixing:{'+'.join(shares)}",
        title=f"Loss in the shares of {len(shares)} domains, exponential",
        formula=f"L = c + k exp({exponent})",
        response=LOSS,
        variables=tuple(
            Variable(share, "1", f"share of {share} in the mixture, 0..1", positive=False)
            for share in free
        ),
        parameters=(_FLOOR, _SCALE, *rates),
        source=_YE,
        predict=predict,
        linear=("c", "k"),
    )


# Inverse power of the share ------------------------------------------------------------------

OWN_SHARE = Variable(
    "own_share", "1", "share of tokens from the corpus whose loss this is: R, or 1 - R"
)


def _inverse(p: Values, x: Values) -> Any:
    return p["E"] + p["C"] * x["own_share"] ** -p["gamma"]


# With the paper's eps (R + eps in R's place) four parameters would stand against three of the other
# forms; eps matters near R = 0, which takes no part where the forms are compared.
RATIO_INVERSE = Law(
    name="ratio-inverse",
    title="Loss against the share of its own corpus, inverse power",
    formula="L = E + C / r^gamma",
    response=LOSS,
    variables=(OWN_SHARE,),
    parameters=(
        Parameter("E", "loss that no share goes below", low=0.0),
        Parameter("C", "loss above E of the corpus alone", low=0.0),
        Parameter("gamma", "exponent of the share", 0.01, 10.0, (0.03, 0.1, 0.3, 1.0)),
    ),
    source="Que et al. 2024, arXiv 2406.01375: form L3 at one size and duration, with eps = 0",
    predict=_inverse,
    linear=("E", "C"),
)

# Share and volume ---------------------------------------------------------------------------


def _bimix(p: Values, x: Values) -> Any:
    share = x["ratio_domain"] ** -p["alpha"]
    return share * (p["B"] * x["n_tokens"] ** -p["beta"] + p["C"])


BIMIX = Law(
    name="bimix",
    title="Loss of a domain in its share and the training tokens",
    formula="L = (B / D^beta + C) / R^alpha",
    response=LOSS,
    variables=(RATIO, N_TOKENS),
    parameters=(
        Parameter("B", "data coefficient", low=0.0),
        Parameter("C", "loss at the end of data, of the domain alone", low=0.0),
        Parameter("alpha", "exponent of the share", 1e-3, 3.0, (0.02, 0.1, 0.4)),
        Parameter("beta", "data exponent", 0.01, 3.0, (0.15, 0.3, 0.5, 0.8)),
    ),
    # restated as A (B / s^beta + C) / r^alpha: three coefficients for two products, so A is 1
    source=(
        "Ge et al. 2024, arXiv 2405.14908: the form as restated elsewhere, unchecked against the "
        "paper; without its redundant A, and with its training volume in tokens"
    ),
    predict=_bimix,
    linear=("B", "C"),
)

LAWS = (DATA_MIXING, RATIO_INVERSE, BIMIX)
