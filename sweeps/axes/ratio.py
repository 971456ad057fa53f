"""`PHASE.ratio`: weight of the phase's first corpus; the others keep their proportions."""

from lab.errors import Refused
from sweeps.axes import Axis, Json, require_number


def _get(phase: Json, path: str) -> Json:
    return phase["mixture"][0]["weight"]


def _set(phase: Json, value: Json, path: str) -> None:
    mixture = phase["mixture"]
    ratio = require_number(value, path, "a number in [0, 1]", lambda one: 0 <= one <= 1)
    others = sum(share["weight"] for share in mixture[1:])
    if len(mixture) < 2 or others <= 0:
        raise Refused(f"{path}: the phase's mixture needs a second corpus with a weight")
    for share in mixture[1:]:
        share["weight"] *= (1 - ratio) / others
    mixture[0]["weight"] = ratio


AXIS = Axis("mixture", _get, _set)
