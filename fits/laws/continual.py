"""The laws of continual pre-training: mixture ratio, tokens, and size.

CMR's (Gu et al., EMNLP 2024, arXiv 2407.17467): R is the share of domain tokens in the mixture of
continual pre-training, T its length in units of 0.2 B tokens (T = 100 is 20 B). The forms are the
paper's; it prints none of the coefficients. D-CPT's (Que et al., NeurIPS 2024, arXiv 2406.01375)
joins the ratio to size and tokens; no coefficients of it were found in print.
"""

from typing import Any

import numpy as np

from fits.form import Law, Parameter, Values, Variable
from fits.laws.size_and_data import N_PARAMS

TOKENS_A_UNIT = 0.2e9

RATIO = Variable("ratio_domain", "1", "share R of domain tokens in the mixture, 0..1")
ANY_RATIO = Variable(RATIO.name, RATIO.unit, f"{RATIO.meaning}, 0 too", positive=False)
CPT_TOKENS = Variable("cpt_tokens", "tokens", "tokens T of continual pre-training")
LOSS = Variable("loss_nats", "nats/token", "validation loss, general or domain")
CHANGE = Variable("change_nats", "nats/token", "validation loss less that before", positive=False)
CRITICAL = Variable("critical_ratio", "1", "critical mixture ratio, 0..1")

_SOURCE = "Gu et al. 2024, arXiv 2407.17467"


def _time(x: Values) -> Any:
    return x["cpt_tokens"] / TOKENS_A_UNIT


def _ratio(p: Values, x: Values) -> np.ndarray:
    return p["alpha"] * x["ratio_domain"] ** p["s"] + p["beta"]


def _domain_tokens(p: Values, x: Values) -> np.ndarray:
    return p["a1"] * _time(x) ** p["s1"] + p["b1"]


def _general_tokens(p: Values, x: Values) -> np.ndarray:
    t = _time(x)
    return p["a2"] * t ** p["s2"] + p["a3"] * t ** p["s3"] + p["b2"]


def _critical(p: Values, x: Values) -> np.ndarray:
    return p["a4"] * _time(x) ** p["s4"] + p["b3"]


CMR_RATIO = Law(
    name="cmr-ratio",
    title="Loss against mixture ratio",
    formula="L = alpha R^s + beta",
    response=LOSS,
    variables=(RATIO,),
    parameters=(
        Parameter("alpha", "change of loss from R = 0 to 1"),
        Parameter("s", "exponent", 0.01, 10.0, (0.1, 0.3, 1.0, 2.0, 4.0)),
        Parameter("beta", "loss at R -> 0 (no irreducible loss)"),
    ),
    source=_SOURCE,
    predict=_ratio,
    linear=("alpha", "beta"),
)

_EXPONENTS = (-1.0, -0.3, 0.3, 1.0)

CMR_DOMAIN_TOKENS = Law(
    name="cmr-domain-tokens",
    title="Change of domain loss against tokens",
    formula="dL = a1 T^s1 + b1",
    response=CHANGE,
    variables=(CPT_TOKENS,),
    parameters=(
        Parameter("a1", "coefficient"),
        Parameter("s1", "exponent", -3.0, 3.0, _EXPONENTS),
        Parameter("b1", "offset"),
    ),
    source=_SOURCE,
    predict=_domain_tokens,
    linear=("a1", "b1"),
)

CMR_GENERAL_TOKENS = Law(
    name="cmr-general-tokens",
    title="Change of general loss against tokens, rise then fall",
    formula="dL = a2 T^s2 + a3 T^s3 + b2",
    response=CHANGE,
    variables=(CPT_TOKENS,),
    parameters=(  # the terms are alike: each start has s2 < s3, so that they end in that order
        Parameter("a2", "coefficient of the first term"),
        Parameter("s2", "exponent of the first term", -3.0, 3.0, (-1.0, -0.3, 0.2)),
        Parameter("a3", "coefficient of the second term"),
        Parameter("s3", "exponent of the second term", -3.0, 3.0, (0.3, 0.6, 1.2)),
        Parameter("b2", "offset"),
    ),
    source=_SOURCE,
    predict=_general_tokens,
    linear=("a2", "a3", "b2"),
)

CMR_CRITICAL = Law(
    name="cmr-critical",
    title="Critical mixture ratio against tokens",
    formula="R_CMR = a4 T^s4 + b3",
    response=CRITICAL,
    variables=(CPT_TOKENS,),
    parameters=(
        Parameter("a4", "coefficient"),
        Parameter("s4", "exponent", -3.0, 3.0, _EXPONENTS),
        Parameter("b3", "offset"),
    ),
    source=_SOURCE,
    predict=_critical,
    linear=("a4", "b3"),
)


def _d_cpt(p: Values, x: Values) -> Any:
    of_size = p["A"] * x["n_params"] ** -p["alpha"]
    of_data = p["B"] * x["ratio_domain"] ** p["eta"] * x["cpt_tokens"] ** -p["beta"]
    of_ratio = p["C"] * (x["ratio_domain"] + p["eps"]) ** -p["gamma"]
    return p["E"] + of_size + of_data + of_ratio


# For the domain's loss R is the share of domain tokens. The paper fits the general loss apart, with
# the share of general tokens in R's place: name that column, `columns={"ratio_domain": ...}`.
D_CPT = Law(
    name="d-cpt",
    title="Loss in size, tokens and mixture ratio of continual pre-training (D-CPT)",
    formula="L = E + A / N^alpha + B R^eta / D^beta + C / (R + eps)^gamma, D the cpt_tokens",
    response=LOSS,
    variables=(N_PARAMS, CPT_TOKENS, ANY_RATIO),
    parameters=(
        Parameter("E", "irreducible loss", low=0.0),
        Parameter("A", "size coefficient", low=0.0),
        Parameter("B", "data coefficient", low=0.0),
        Parameter("C", "ratio coefficient", low=0.0),
        Parameter("alpha", "size exponent", 0.01, 3.0, (0.3, 0.8)),
        Parameter("beta", "data exponent", 0.01, 3.0, (0.2, 0.6)),
        Parameter("eta", "exponent of the ratio in the data term", 0.01, 10.0, (0.2, 1.0)),
        Parameter("eps", "ratio that the model brings along", 0.0, np.inf, (0.03, 0.3)),
        Parameter("gamma", "ratio exponent", 0.01, 10.0, (0.3, 1.0)),
    ),
    source="Que et al. 2024, arXiv 2406.01375, form L3",
    predict=_d_cpt,
    linear=("E", "A", "B", "C"),
    objective="huber-log",
)

LAWS = (CMR_RATIO, CMR_DOMAIN_TOKENS, CMR_GENERAL_TOKENS, CMR_CRITICAL, D_CPT)
