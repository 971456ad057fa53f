"""Loss when data is repeated: Muennighoff et al. 2023, arXiv 2305.16264.

Chinchilla's form, in what the data and the size are worth. Tokens read again are worth less each
time: passes beyond the first add at most R_D* passes' worth. Parameters beyond those that the
unique tokens can use decay alike. The paper fits in two stages: E, A, B, alpha and beta from runs
of one pass, then the two R* with those pinned.
"""

from typing import Any

import numpy as np

from fits.form import Law, Parameter, Values, Variable
from fits.laws.size_and_data import LOSS, N_PARAMS, N_TOKENS

UNIQUE_TOKENS = Variable("unique_tokens", "tokens", "different tokens there are to train on")


def optimal_size(p: Values, unique_tokens: Any) -> Any:
    """N_opt(U_D): the size whose compute-optimal training, at C = 6 N D, takes just these tokens.

    From the law's own E, A, B, alpha, beta: N and D minimise Chinchilla's sum where
    alpha A / N^alpha = beta B / D^beta. At the published parameters it is .051 U_D.
    """
    size_to_data = np.log(p["alpha"]) + np.log(p["A"]) - np.log(p["beta"]) - np.log(p["B"])
    return np.exp((size_to_data + p["beta"] * np.log(unique_tokens)) / p["alpha"])


def _worth(unique: Any, repeats: Any, decay: Any) -> Any:
    """What `unique` and `repeats` times as much again are worth, in the unit of `unique`."""
    return unique - unique * decay * np.expm1(-repeats / decay)


def _data_constrained(p: Values, x: Values) -> Any:
    unique = np.minimum(x["unique_tokens"], x["n_tokens"])  # a run of less than a pass
    usable = np.minimum(optimal_size(p, unique), x["n_params"])
    data = _worth(unique, x["n_tokens"] / unique - 1.0, p["R_D*"])
    size = _worth(usable, x["n_params"] / usable - 1.0, p["R_N*"])
    return p["E"] + p["A"] * size ** -p["alpha"] + p["B"] * data ** -p["beta"]


DATA_CONSTRAINED = Law(
    name="data-constrained",
    title="Loss in size and repeated data",
    formula=(
        "L = E + A / N'^alpha + B / D'^beta, D' = U_D (1 + R_D* (1 - exp(-R_D / R_D*))), "
        "R_D = D / U_D - 1, N' alike from U_N = min(N_opt(U_D), N)"
    ),
    response=LOSS,
    variables=(N_PARAMS, N_TOKENS, UNIQUE_TOKENS),
    parameters=(  # none enters linearly: A and B move the kink of N' too
        Parameter("E", "irreducible loss", 0.0, np.inf, (1.5,)),
        Parameter("A", "size coefficient", 0.0, np.inf, (300.0, 3000.0)),
        Parameter("B", "data coefficient", 0.0, np.inf, (300.0, 3000.0)),
        Parameter("alpha", "size exponent", 0.01, 3.0, (0.3, 0.5)),
        Parameter("beta", "data exponent", 0.01, 3.0, (0.3, 0.5)),
        Parameter("R_D*", "passes that repetition can be worth at most", 0.0, np.inf, (5.0, 20.0)),
        Parameter("R_N*", "the like for excess parameters", 0.0, np.inf, (5.0,)),
    ),
    source="Muennighoff et al. 2023, arXiv 2305.16264, section 3",
    predict=_data_constrained,
    objective="huber-log",
    published={
        "2305.16264": {
            "E": float(np.exp(0.6254804)),
            "A": float(np.exp(6.255414)),
            "B": float(np.exp(7.3049974)),
            "alpha": 0.3526596,
            "beta": 0.3526596,
            "R_D*": 15.387756,
            "R_N*": 5.309743,
        },
    },
)

LAWS = (DATA_CONSTRAINED,)
