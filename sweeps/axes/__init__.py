"""Names for what people sweep and no single field holds: `PHASE.NAME` in a path, a file a name.

`cpt.ratio` is `ratio.py`. Such a file has an `AXIS`; whatever a run's fields hold needs none.
"""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from lab.errors import Refused

Json = Any


@dataclass(frozen=True)
class Axis:
    """How a name reads and sets a phase, which is plain JSON (`lab.spec.Phase`).

    field: the one field of the phase that `set` changes. get(phase, path): the value now.
    set(phase, value, path): changes the phase in place. Both raise Refused; path is for its text.
    """

    field: str
    get: Callable[[Json, str], Json]
    set: Callable[[Json, Json, str], None]


@lru_cache(maxsize=1)
def named_axes() -> dict[str, Axis]:
    """Every axis by its name, that of its file."""
    names = [one.name for one in pkgutil.iter_modules(__path__)]
    return {name: importlib.import_module(f"{__name__}.{name}").AXIS for name in names}


def require_number(value: Json, path: str, allowed: str, holds: Callable[[float], bool]) -> float:
    """A number of which `holds` is true; `allowed` says what that is. Raises Refused."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not holds(value):
        raise Refused(f"{path} = {value!r}: must be {allowed}")
    return value
