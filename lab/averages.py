"""Averages of the last states of a run: what decay does to a loss, averaging may do without decay.

Over K states W_1 .. W_K, oldest first (2511.18903, section 3):
    sma:K     simple: all weigh 1 / K
    wma:K     weighted: state i weighs i / (1 + .. + K)
    ema:K:a   exponential: M_1 = W_1, M_i = a W_i + (1 - a) M_{i-1}; the paper's is ema:6:0.2
Parameters are averaged. A state has moments of its optimizer too: an average is evaluated, never
trained on, so it has none.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.errors import Refused
from lab.spec import canonical

_WRITTEN = re.compile(r"(sma|wma):([0-9]{1,4})|ema:([0-9]{1,4}):([0-9.]{1,12})")


@dataclass(frozen=True)
class Average:
    """A way to average `count` states; `alpha` is the weight of the newest one in an `ema`."""

    kind: str
    count: int
    alpha: float = 0.0

    @property
    def weights(self) -> NDArray[np.float64]:
        """Weight of each state, oldest first; they sum to 1."""
        places = np.arange(1, self.count + 1, dtype=np.float64)
        if self.kind == "sma":
            return np.full(self.count, 1 / self.count)
        if self.kind == "wma":
            return places / places.sum()
        found = self.alpha * (1 - self.alpha) ** (self.count - places)
        found[0] = (1 - self.alpha) ** (self.count - 1)
        return found

    def state_id(self, members: Sequence[str]) -> str:
        """Identity of the average of these states, oldest first: 32 hexadecimal digits."""
        key = canonical(["average", self.kind, self.count, self.alpha, list(members)])
        return hashlib.sha256(key.encode()).hexdigest()[:32]


def average(written: str) -> Average:
    """`sma:6`, `wma:6` or `ema:6:0.2`. Raises Refused."""
    found = _WRITTEN.fullmatch(written)
    try:
        if found is not None and found[1]:
            one = Average(found[1], int(found[2]))
        elif found is not None:
            one = Average("ema", int(found[3]), float(found[4]))
        else:
            raise ValueError
        if one.count < 2 or not (one.kind != "ema" or 0 < one.alpha < 1):
            raise ValueError
    except ValueError:
        raise Refused(
            f"average {written!r}: must be sma:K, wma:K or ema:K:A, for K >= 2 states and 0 < A < 1"
        ) from None
    return one


def averaged(states: Iterable[Any], weights: NDArray[np.float64]) -> Any:
    """The weighted mean of trees of arrays on the host, summed in float64, in their own dtypes.

    `states` are taken one at a time, oldest first: no more than one is held beside the sum.
    """
    import jax  # whoever only asks for averages does not pay for it

    total: Any = None
    kinds: Any = None
    for state, weight in zip(states, weights.tolist(), strict=True):
        part = jax.tree.map(lambda leaf, w=weight: w * np.asarray(leaf, np.float64), state)
        if total is None:
            kinds = jax.tree.map(lambda leaf: np.asarray(leaf).dtype, state)
            total = part
        else:
            total = jax.tree.map(np.add, total, part)
    return jax.tree.map(lambda leaf, kind: leaf.astype(kind), total, kinds)
