"""What an order of quality gains, against how far the learning rate decays.

Own hypotheses on the statement of Luo et al. (2511.18903) that the gain of ascending order over
uniform order shrinks as the end rate falls; the paper prints no form. e is the end rate as a share
of the peak, g0 the gain that is left at e = 0, g1 what a constant rate (e = 1) adds to it. With
1-sqrt decay the mean rate of any stretch of the decay is linear in e, so that a gain in proportion
to the rate at which the best text is read would be linear; the rivals rise faster at small e.
"""

from typing import Any

import numpy as np

from fits.form import Law, Parameter, Values, Variable

END_RATIO = Variable("end_ratio", "1", "end rate as a share of the peak, 0..1", positive=False)
GAIN = Variable(
    "gain_nats", "nats/token", "loss in uniform order less that in this one", positive=False
)
SOURCE = "own hypothesis; the statement is that of Luo et al. 2026, arXiv 2511.18903"

_REST = Parameter("g0", "gain that is left where the rate falls to 0")
_RISE = Parameter("g1", "what a constant rate adds to it")


def _power(p: Values, x: Values) -> Any:
    return p["g0"] + p["g1"] * x["end_ratio"] ** p["s"]


def _linear(p: Values, x: Values) -> Any:
    return p["g0"] + p["g1"] * x["end_ratio"]


def _saturating(p: Values, x: Values) -> Any:
    return p["g0"] + p["g1"] * x["end_ratio"] * (1.0 + p["h"]) / (x["end_ratio"] + p["h"])


def _logarithmic(p: Values, x: Values) -> Any:
    return p["g0"] + p["g1"] * np.log1p(x["end_ratio"] / p["h"]) / np.log1p(1.0 / p["h"])


ORDER_GAIN = Law(
    name="order-gain",
    title="Gain of an order against the end rate: a power",
    formula="gain = g0 + g1 e^s",
    response=GAIN,
    variables=(END_RATIO,),
    parameters=(_REST, _RISE, Parameter("s", "exponent", 0.01, 10.0, (0.2, 0.5, 1.0, 2.0))),
    source=SOURCE,
    predict=_power,
    linear=("g0", "g1"),
)

ORDER_GAIN_LINEAR = Law(
    name="order-gain-linear",
    title="Gain of an order against the end rate: in proportion",
    formula="gain = g0 + g1 e",
    response=GAIN,
    variables=(END_RATIO,),
    parameters=(_REST, _RISE),
    source=SOURCE,
    predict=_linear,
    linear=("g0", "g1"),
)

ORDER_GAIN_SATURATING = Law(
    name="order-gain-saturating",
    title="Gain of an order against the end rate: saturating",
    formula="gain = g0 + g1 e (1 + h) / (e + h)",
    response=GAIN,
    variables=(END_RATIO,),
    parameters=(_REST, _RISE, Parameter("h", "end ratio of half the rise", 1e-3, 1e2, (0.1, 1.0))),
    source=SOURCE,
    predict=_saturating,
    linear=("g0", "g1"),
)

ORDER_GAIN_LOG = Law(
    name="order-gain-log",
    title="Gain of an order against the end rate: logarithmic",
    formula="gain = g0 + g1 ln(1 + e / h) / ln(1 + 1 / h)",
    response=GAIN,
    variables=(END_RATIO,),
    parameters=(_REST, _RISE, Parameter("h", "end ratio of its bend", 1e-3, 1e2, (0.01, 0.1, 1.0))),
    source=SOURCE,
    predict=_logarithmic,
    linear=("g0", "g1"),
)

LAWS = (ORDER_GAIN, ORDER_GAIN_LINEAR, ORDER_GAIN_SATURATING, ORDER_GAIN_LOG)
