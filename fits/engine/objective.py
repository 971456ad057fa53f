"""What a fit minimises: a sum over points of the loss of each residual.

Named as `loss` or `loss-log` (of the residual of the logarithm), with a number where the loss has
one: `squares`, `squares-log`, `huber-log` (delta 1e-3, as in 2203.15556), `huber:0.02`,
`absolute-log`, `pinball:0.9`. Always a sum, never a mean: a mean of small losses ends optimisers
early (27 % above the optimum on the 240 points of 2404.10102 with SciPy's defaults).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fits.errors import Refused, meant

Floats = NDArray[np.float64]

HUBER_DELTA = 1e-3
WINDOW = 0.7  # of the scatter; as wide as the scatter itself, 95 % intervals cover up to 99 %
NORMAL_MAD = 1.4826  # standard deviation over median absolute deviation, of a normal
LOSSES = ("squares", "huber", "absolute", "pinball")
_ALLOWED = (
    "squares, huber[:DELTA], absolute or pinball:QUANTILE, each also as squares-log, "
    "huber-log[:DELTA] ..., of the logarithm"
)


@dataclass(frozen=True)
class Objective:
    """`number` is Huber's delta (in the unit of the residual) or the quantile of a pinball.

    `smooth`, a number or one for each lane [S, 1], rounds the kink of `absolute` and `pinball`
    within that distance of 0; None: not at all.
    """

    loss: str
    log: bool = False
    number: float = 0.0
    smooth: Any = None

    @property
    def name(self) -> str:
        """As `objective` reads it, to the last digit."""
        kind = f"{self.loss}-log" if self.log else self.loss
        if self.loss == "pinball" or (self.loss == "huber" and self.number != HUBER_DELTA):
            short = f"{self.number:g}"
            return f"{kind}:{short if float(short) == self.number else repr(self.number)}"
        return kind

    @property
    def kinked(self) -> bool:
        """Whether the loss has no slope at 0: no Hessian, no curvature to take intervals from."""
        return self.loss in ("absolute", "pinball")

    def residuals(self, y: Floats, predicted: Floats) -> Floats:
        """Observed less predicted; of the logarithm NaN where the prediction is not positive."""
        if not self.log:
            return y - predicted
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.log(y) - np.log(np.where(predicted > 0, predicted, np.nan))

    def losses(self, r: Floats) -> Floats:
        """The loss of each residual."""
        size = np.abs(r)
        if self.loss == "squares":
            return r * r
        if self.loss == "huber":
            d = self.number
            return np.where(size <= d, 0.5 * r * r, d * (size - 0.5 * d))
        if self.smooth is not None:
            size = np.where(
                size <= self.smooth, 0.5 * r * r / self.smooth, size - 0.5 * self.smooth
            )
        return self._side(r) * size

    def pulls(self, r: Floats) -> tuple[Floats, Floats]:
        """(slope of the loss at each residual, slope / residual: the weight of its square)."""
        if self.loss == "squares":
            return 2.0 * r, np.full_like(r, 2.0)
        size = np.abs(r)
        if self.loss == "huber":
            weight = np.minimum(1.0, self.number / np.maximum(size, 1e-300))
        else:
            weight = self._side(r) / np.maximum(
                size, 1e-300 if self.smooth is None else self.smooth
            )
        return weight * r, weight

    def bends(self, r: Floats) -> Floats:
        """Second derivative of the loss at each residual, smoothed; not of losses with a kink.

        Huber's is 1 within delta and 0 beyond. With a delta far below the scatter that is the
        density of residuals at 0, point by point, and a window not far below the scatter estimates
        it far more steadily (Powell 1991, for absolute losses).
        """
        if self.loss == "squares":
            return np.full_like(r, 2.0)
        window = max(self.number, WINDOW * NORMAL_MAD * float(np.median(np.abs(r))))
        return np.where(np.abs(r) <= window, self.number / window, 0.0)

    def _side(self, r: Floats) -> Any:
        return 1.0 if self.loss == "absolute" else np.where(r > 0, self.number, 1.0 - self.number)


def objective(name: str) -> Objective:
    """The objective of this name. Raises Refused."""
    kind, colon, text = name.partition(":")
    log = kind.endswith("-log")
    loss = kind.removesuffix("-log")
    refusal = Refused(f"unknown objective {name!r}; allowed: {_ALLOWED}{meant(loss, LOSSES)}")
    if loss not in LOSSES:
        raise refusal
    number = HUBER_DELTA if loss == "huber" else 0.0
    if colon:
        try:
            number = float(text)
        except ValueError:
            raise refusal from None
        if loss not in ("huber", "pinball"):
            raise refusal
    if loss == "huber" and not 0 < number < np.inf:
        raise Refused(f"objective {name!r}: Huber's delta must be positive")
    if loss == "pinball" and not 0 < number < 1:
        raise Refused(f"objective {name!r}: a pinball needs its quantile, such as pinball:0.9")
    return Objective(loss, log, number)
