"""Laws of continual pre-training along its loss curve: annealing, and the shift to another text.

Wang, Tissue et al. (ICML 2025, arXiv 2505.07796): from the transfer on, the loss on either text
leaves the curve that pre-training would have gone on with, by a term in the rate summed since; the
annealing before and after weighs differently. One fit a validation set: B > 0 on the text of
pre-training (it is forgotten), B < 0 on the new one. They read the realised rate of every step, so
length and peak of a rewarm enter through nothing else, and `transfer_step`, the last step of
pre-training, of every row; rows up to there are pre-training's, without a shift.

S1 and S2 are those of `annealing` (`fits.laws.schedule`) over the whole curve, cut at the transfer:
S1pt, S2pt are what they are there, S1cpt, S2cpt what they gain after it. The paper says of neither
of two things how it takes them; here

- the rise of a rewarm counts in S2cpt, as a negative area: the warm-up from scratch alone does not;
- the momentum of changes before the transfer goes on past it, and what it adds there counts in
  S2cpt. So the two areas sum to that of the whole curve, and without a shift and with C1 = C2 the
  law is `annealing`.

B, E and beta go together: where E S1cpt is small, or as beta goes to 0, B (1 - (1 + E S)^-beta) is
B beta ln(1 + E S), and only B beta is known (the paper prints B = 29.12 beside beta = .001).
`cpt-dynamics-product` is the same law with the product as its parameter, so that its profile is
that of B beta. There beta may pass 0, where the shift is B beta ln(1 + E S), to a shift that goes
on growing: a bound at 0 would cut the profile off, where the data do not.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fits.engine.dual import value_of
from fits.form import Law, Parameter, Values, Variable
from fits.laws.schedule import LAMBDA, LOSS, RATE, STEP
from fits.rates import Rates

Floats = NDArray[np.float64]

TRANSFER = Variable("transfer_step", "steps", "last step of pre-training on the row's curve")
NO_BETA = 1e-7  # (1 - e^-(beta x)) / beta and its slope lose digits below; it is x there


def _unshifted(p: Values, x: Values) -> tuple[Any, Floats]:
    """(the loss without the shift term, S1cpt [n])."""
    rates: Rates = x["rates"]
    before, after, area_before, area_after = rates.split(x["transfer_step"], LAMBDA)
    grown = (before + after) ** -p["alpha"]
    annealed = p["C1"] * area_before + p["C2"] * area_after
    return p["L0"] + p["A"] * grown - annealed, after


def _dynamics(p: Values, x: Values) -> Any:
    loss, after = _unshifted(p, x)
    return loss - p["B"] * np.expm1(-p["beta"] * np.log1p(p["E"] * after))


def _by_product(p: Values, x: Values) -> Any:
    loss, after = _unshifted(p, x)
    number = value_of(p["beta"])
    beta = p["beta"] + np.where(np.abs(number) < NO_BETA, NO_BETA - number, 0.0)
    return loss - p["B_beta"] * np.expm1(-beta * np.log1p(p["E"] * after)) / beta


# Four coefficients that must not be negative would be searched and not eliminated; the signs of C1
# and C2 are left to the data.
_UNSHIFTED = (
    Parameter("L0", "loss at infinite S1, without annealing and shift", 0.0),
    Parameter("A", "coefficient of the cumulative rate S1", 0.0),
    Parameter("alpha", "exponent of S1", 0.01, 3.0, (0.3, 0.6)),
    Parameter("C1", "loss per annealing area of pre-training"),
    Parameter("C2", "loss per annealing area after the transfer"),
)
_E = Parameter("E", "how soon the shift sets in, per S1cpt", 0.0, 1e7, (3.0, 100.0, 3000.0))


def _beta(low: float) -> Parameter:
    return Parameter("beta", "exponent of the shift", low, 10.0, (0.05, 0.3, 1.0))


_SOURCE = "Wang et al. 2025, arXiv 2505.07796"
_COLUMNS = ("L0", "A", "alpha", "B", "E", "beta", "C1", "C2")
_PRINTED = {  # one row a fit: FineWeb, then Knowledge-Pile (A, C, D) or Pile-of-Law (B)
    "setting A, 106M, D_pt": (3.057, 0.490, 0.497, 0.366, 28.0, 0.189, 0.299, 0.298),
    "setting A, 106M, D_cpt": (3.024, 0.412, 0.677, -0.666, 5662.0, 0.146, 0.278, 0.324),
    "setting B, 106M, D_pt": (3.064, 0.482, 0.511, 1.353, 37.0, 0.262, 0.294, 0.264),
    "setting B, 106M, D_cpt": (2.978, 0.485, 0.701, -1.409, 383.0, 0.368, 0.274, 0.298),
    "setting C, 594M, D_pt": (2.688, 0.526, 0.483, 29.12, 100.0, 0.001, 0.437, 0.395),
    "setting C, 594M, D_cpt": (2.657, 0.443, 0.566, -0.518, 100.0, 0.424, 0.360, 0.358),
    "setting D, 1720M, D_pt": (2.496, 0.569, 0.474, 8.71, 100.0, 0.004, 0.485, 0.438),
    "setting D, 1720M, D_cpt": (2.557, 0.407, 0.682, -0.527, 100.0, 0.390, 0.440, 0.412),
}

CPT_DYNAMICS = Law(
    name="cpt-dynamics",
    title="Loss curve of continual pre-training under a schedule",
    formula=(
        "L = L0 + A (S1pt + S1cpt)^-alpha - C1 S2pt - C2 S2cpt + B (1 - (1 + E S1cpt)^-beta),"
        " S2 with .999^(i-k)"
    ),
    response=LOSS,
    variables=(STEP, RATE, TRANSFER),
    parameters=(*_UNSHIFTED, Parameter("B", "loss once the shift is complete"), _E, _beta(1e-4)),
    source=_SOURCE,
    predict=_dynamics,
    linear=("L0", "A", "C1", "C2", "B"),
    objective="huber-log",
    published={
        f"{_SOURCE}, {fitted}": dict(zip(_COLUMNS, row, strict=True))
        for fitted, row in _PRINTED.items()
    },
    rates=True,
)

CPT_DYNAMICS_PRODUCT = Law(
    name="cpt-dynamics-product",
    title="Loss curve of continual pre-training, B beta its parameter",
    formula=(
        "L = L0 + A (S1pt + S1cpt)^-alpha - C1 S2pt - C2 S2cpt"
        " + B_beta (1 - (1 + E S1cpt)^-beta) / beta, S2 with .999^(i-k)"
    ),
    response=LOSS,
    variables=(STEP, RATE, TRANSFER),
    parameters=(
        *_UNSHIFTED,
        Parameter("B_beta", "loss per ln(1 + E S1cpt), as beta goes to 0"),
        _E,
        _beta(-1.0),
    ),
    source=f"{_SOURCE} (which has B and beta)",
    predict=_by_product,
    linear=("L0", "A", "C1", "C2", "B_beta"),
    objective="huber-log",
    rates=True,
)

LAWS = (CPT_DYNAMICS, CPT_DYNAMICS_PRODUCT)
