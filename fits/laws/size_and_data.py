"""Loss in model size and data.

Three ways to join what size and data leave undone: Kaplan's bracket, whose one outer exponent is
the data's; Chinchilla's sum; and the power mean, which is Chinchilla's sum under a free outer
exponent k (k = 1 is Chinchilla). Over-training is Chinchilla with one exponent for both.
"""

from types import MappingProxyType

import numpy as np

from fits.form import Law, Parameter, Values, Variable

FLOPS_A_TOKEN = 6.0  # and parameter: C = 6 N D

LOSS = Variable("loss_nats", "nats/token", "cross-entropy on held-out text")
N_PARAMS = Variable("n_params", "parameters", "model size N")
N_WITHOUT_EMBEDDINGS = Variable(
    "n_params", "parameters", "model size N without embeddings, of tokens and of positions"
)
N_TOKENS = Variable("n_tokens", "tokens", "training tokens D")

# Kaplan -------------------------------------------------------------------------------------

_KAPLAN = "Kaplan et al. 2020, arXiv 2001.08361"
_KAPLAN_EXPONENTS = (0.05, 0.15, 0.5)


def _kaplan_size(p: Values, x: Values) -> np.ndarray:
    return np.exp(p["alpha_N"] * (np.log(p["N_c"]) - np.log(x["n_params"])))


def _kaplan_data(p: Values, x: Values) -> np.ndarray:
    return np.exp(p["alpha_D"] * (np.log(p["D_c"]) - np.log(x["n_tokens"])))


def _kaplan(p: Values, x: Values) -> np.ndarray:
    """The bracket as the logarithm of a sum of exponentials: N_c / N to the ratio of the exponents
    overflows at starts far off."""
    of_size = p["alpha_N"] / p["alpha_D"] * (np.log(p["N_c"]) - np.log(x["n_params"]))
    of_data = np.log(p["D_c"]) - np.log(x["n_tokens"])
    larger = np.maximum(of_size, of_data)
    return np.exp(p["alpha_D"] * (larger + np.log1p(np.exp(of_size + of_data - 2.0 * larger))))


_N_C = Parameter("N_c", "size at which the size term is 1 nat", 0.0, np.inf, (1e10, 1e14))
_D_C = Parameter("D_c", "tokens at which the data term is 1 nat", 0.0, np.inf, (1e10, 1e14))
_ALPHA_N = Parameter("alpha_N", "size exponent", 0.01, 3.0, _KAPLAN_EXPONENTS)
_ALPHA_D = Parameter("alpha_D", "data exponent", 0.01, 3.0, _KAPLAN_EXPONENTS)

KAPLAN_SIZE = Law(
    name="kaplan-size",
    title="Loss in size alone, data without end (Kaplan)",
    formula="L = (N_c / N)^alpha_N",
    response=LOSS,
    variables=(N_WITHOUT_EMBEDDINGS,),
    parameters=(_N_C, _ALPHA_N),
    source=f"{_KAPLAN}, eq. 1.1",
    predict=_kaplan_size,
    published={"2001.08361": {"N_c": 8.8e13, "alpha_N": 0.076}},
)

KAPLAN_DATA = Law(
    name="kaplan-data",
    title="Loss in data alone, a large model stopped early (Kaplan)",
    formula="L = (D_c / D)^alpha_D",
    response=LOSS,
    variables=(N_TOKENS,),
    parameters=(_D_C, _ALPHA_D),
    source=f"{_KAPLAN}, eq. 1.2",
    predict=_kaplan_data,
    published={"2001.08361": {"D_c": 5.4e13, "alpha_D": 0.095}},
)

KAPLAN = Law(
    name="kaplan",
    title="Loss in size and data (Kaplan)",
    formula="L = ((N_c / N)^(alpha_N / alpha_D) + D_c / D)^alpha_D",
    response=LOSS,
    variables=(N_WITHOUT_EMBEDDINGS, N_TOKENS),
    parameters=(_N_C, _D_C, _ALPHA_N, _ALPHA_D),
    source=f"{_KAPLAN}, eq. 1.5 and table 2",
    predict=_kaplan,
    published={  # the joint fit of table 2: not the constants of eqs. 1.1 and 1.2
        "2001.08361": {"N_c": 6.4e13, "D_c": 1.8e13, "alpha_N": 0.076, "alpha_D": 0.103},
    },
)

# Chinchilla ---------------------------------------------------------------------------------


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

# parameter of CHINCHILLA -> the starts of appendix D.2 along it, in the law's own units; their
# product is the 4500 starts of the paper. An exponent of 0 is no value of the law: a start there
# begins at the bound.
HOFFMANN_STARTS = MappingProxyType(
    {
        "E": tuple(float(np.exp(e)) for e in (-1.0, -0.5, 0.0, 0.5, 1.0)),
        "A": tuple(float(np.exp(a)) for a in (0.0, 5.0, 10.0, 15.0, 20.0, 25.0)),
        "B": tuple(float(np.exp(b)) for b in (0.0, 5.0, 10.0, 15.0, 20.0, 25.0)),
        "alpha": (0.0, 0.5, 1.0, 1.5, 2.0),
        "beta": (0.0, 0.5, 1.0, 1.5, 2.0),
    }
)

# Power mean ---------------------------------------------------------------------------------


def _power_mean(p: Values, x: Values) -> np.ndarray:
    of_size = p["A"] * x["n_params"] ** -p["alpha"]
    of_data = p["B"] * x["n_tokens"] ** -p["beta"]
    return (of_size + of_data) ** p["k"] + p["E"]


POWER_MEAN = Law(
    name="power-mean",
    title="Loss in size and data that need each other (Skaling)",
    formula="L = (A / N^alpha + B / D^beta)^k + E",
    response=LOSS,
    variables=(N_PARAMS, N_TOKENS),
    parameters=(
        # as the paper's bounds, but that E may exceed 3 nats; E and k stand in for each other
        # where no run comes near the floor
        Parameter("E", "irreducible loss", 0.0, np.inf, (0.5, 1.5)),
        Parameter("A", "size coefficient", 0.0, np.inf, (1e3, 1e6)),
        Parameter("B", "data coefficient", 0.0, np.inf, (1e3, 1e6)),
        Parameter("alpha", "size exponent, before k", 0.01, 3.0, (0.4, 0.9)),
        Parameter("beta", "data exponent, before k", 0.01, 3.0, (0.4, 0.9)),
        Parameter(
            "k",
            "coupling: 1 is Chinchilla, below it size and data help each other",
            0.01,
            3.0,
            (0.4,),
        ),
    ),
    source="Skaling, arXiv 2608.07222; k is .31 to .45 on its two grids",
    predict=_power_mean,
    objective="huber-log",
)

# Over-training ------------------------------------------------------------------------------


def _over_training(p: Values, x: Values) -> np.ndarray:
    flops = FLOPS_A_TOKEN * x["n_params"] * x["n_tokens"]
    tokens_a_parameter = x["n_tokens"] / x["n_params"]
    of_size = p["a"] * (tokens_a_parameter / flops) ** p["eta"]
    of_data = p["b"] * (tokens_a_parameter * flops) ** -p["eta"]
    return p["E"] + of_size + of_data


OVER_TRAINING = Law(
    name="over-training",
    title="Loss in compute and tokens a parameter",
    formula="L = E + (a M^eta + b M^-eta) C^-eta, M = D / N, C = 6 N D",
    response=LOSS,
    variables=(N_PARAMS, N_TOKENS),
    parameters=(
        Parameter("E", "irreducible loss", low=0.0),
        Parameter("a", "size coefficient", low=0.0),
        Parameter("b", "data coefficient", low=0.0),
        Parameter(
            "eta",
            "exponent of compute, half that of size and data",
            0.005,
            1.5,
            (0.05, 0.1, 0.2, 0.4),
        ),
    ),
    source="Gadre et al. 2024, arXiv 2403.08540",
    predict=_over_training,
    linear=("E", "a", "b"),
    published={  # loss on C4 of models trained on each; least squares of the five small runs
        "2403.08540 C4": {"E": 1.51, "a": 141.0, "b": 190.0, "eta": 0.121},
        "2403.08540 RedPajama": {"E": 1.84, "a": 212.0, "b": 367.0, "eta": 0.136},
        "2403.08540 RefinedWeb": {"E": 1.73, "a": 157.0, "b": 246.0, "eta": 0.127},
    },
)

LAWS = (KAPLAN_SIZE, KAPLAN_DATA, KAPLAN, CHINCHILLA, POWER_MEAN, OVER_TRAINING)
