"""Loss in model size and data."""

import numpy as np

from fits.form import Law, Parameter, Values, Variable

LOSS = Variable("loss_nats", "nats/token", "cross-entropy on held-out text")
N_PARAMS = Variable("n_params", "parameters", "model size N")
N_TOKENS = Variable("n_tokens", "tokens", "training tokens D")


def _chinchilla(p: Values, x: Values) -> np.ndarray:
    return p["E"] + p["A"] * x["n_params"] ** -p["alpha"] + p["B"] * x["n_tokens"] ** -p["beta"]


CHINCHILLA = Law(
    name="chinchilla",
    title="Loss in size and data (Chinchilla, approach 3)",
    formula="L = E + A / N^alpha + B / D^beta",
    response=LOSS,
    variables=(N_PARAMS, N_TOKENS),
    parameters=(
        Parameter("E", "irreducible loss", low=0.0),
        Parameter("A", "size coefficient", low=0.0),
        Parameter("B", "data coefficient", low=0.0),
        Parameter("alpha", "size exponent", 0.01, 3.0, (0.15, 0.3, 0.5, 0.8)),
        Parameter("beta", "data exponent", 0.01, 3.0, (0.15, 0.3, 0.5, 0.8)),
    ),
    source="Hoffmann et al. 2022, arXiv 2203.15556, eq. 2 and appendix D.2",
    predict=_chinchilla,
    linear=("E", "A", "B"),
    objective="huber-log",
    published={
        # the TeX source's digits; the rounded 1.69, 406.4, 410.7, .34, .28 are what is quoted
        "2203.15556": {"E": 1.69, "A": 406.4, "B": 410.7, "alpha": 0.3392, "beta": 0.2849},
        # the optimum of the Huber objective on the reconstructed points; see also eq. 4 there
        "2404.10102": {
            "E": 1.817235,
            "A": 477.84,
            "B": 2143.9,
            "alpha": 0.347313,
            "beta": 0.367183,
        },
    },
)

LAWS = (CHINCHILLA,)
