"""A Python file of the user's own: code, and only ever run where it is named.

A law of one's own is a file with a `LAW` (`fits.form.Law`), named where a law is:
`lab fit my_law.py losses.csv`, `fits.fit("my_law.py", table)`. Before anything is fitted it is
tried once, so that a slip in it is said as one, and not as a fit that fails.
"""

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from fits.engine.dual import Dual, value_of
from fits.errors import Refused
from fits.form import Law

TRIED = np.array([2.0, 3.0])  # values of each variable at the trial


def run_file(path: str | Path) -> ModuleType:
    """The module that a file makes. Raises Refused: no such file, or where and why it fails."""
    path = Path(path)
    if not path.is_file():
        raise Refused(f"no file {path}")
    spec = importlib.util.spec_from_file_location(f"own_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up there
    try:
        spec.loader.exec_module(module)
    except Refused:
        raise
    except Exception as error:
        raise Refused(_fault(path, error)) from error
    return module


def law_of_file(path: str | Path) -> Law:
    """The `LAW` of a file, tried once. Raises Refused."""
    from fits.laws import all_laws

    law = getattr(run_file(path), "LAW", None)
    if not isinstance(law, Law):
        raise Refused(f"{path} defines no LAW: it must be a fits.form.Law")
    if law.name in [one.name for one in all_laws()]:  # a saved fit would be read as of that one
        raise Refused(f"{path}: {law.name} is a law of the library: choose another name")
    try:
        _try(law)
    except Refused as refusal:
        raise Refused(f"{path}: law {law.name}: {refusal}") from None
    return law


def _fault(path: Path, error: Exception) -> str:
    """Where in the file it went wrong, and how, in a line."""
    place = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else None
    for frame in traceback.extract_tb(error.__traceback__):
        if Path(frame.filename) == path or frame.filename == str(path.resolve()):
            place = frame.lineno
    said = (str(error) or "no reason given").splitlines()[0]
    where = f"{path}, line {place}" if place else f"{path}"
    return f"{where}: {type(error).__name__}: {said}"


def _try(law: Law) -> None:
    """One prediction with gradients, of two points at the first starts. Raises Refused."""
    for name in law.linear:
        if name not in law.names:
            raise Refused(f"linear names {name!r}, which is no parameter: {', '.join(law.names)}")
    for one in law.parameters:
        if not (one.starts or one.name in law.linear):
            raise Refused(f"parameter {one.name} needs starts: it does not enter linearly")
    if law.rates:  # reads whole curves, of which two points have none
        return
    once = _predicted(law, 1.0)
    if value_of(once).shape not in ((2,), ()):
        raise Refused(
            f"predict gives an array of shape {value_of(once).shape} at 2 rows: it must give one "
            "value a row"
        )
    if not law.linear:
        return
    twice = _predicted(law, 2.0)
    alike = [_slope(once, name) == _slope(twice, name) for name in law.linear]
    if not all(alike) or not np.allclose(value_of(twice), 2 * value_of(once), rtol=1e-9):
        raise Refused(
            f"{', '.join(law.linear)}: not linear, or beside something that is in no linear term: "
            "leave them out of `linear`, and give them starts"
        )


def _predicted(law: Law, size: float) -> Any:
    """What the law predicts where every linear parameter is `size`, with its derivatives."""
    params: dict[str, Any] = {}
    for one in law.parameters:
        at = size if one.name in law.linear else one.starts[0]
        params[one.name] = Dual(at, {one.name: 1.0})
    x = {one.name: TRIED.copy() for one in law.variables}
    try:
        with np.errstate(all="ignore"):
            return law.predict(params, x)
    except Exception as error:  # noqa: BLE001 (whatever the law does)
        known = f"parameters {', '.join(law.names)}; variables {', '.join(x)}"
        raise Refused(
            f"predict fails, {type(error).__name__}: {str(error).splitlines()[0][:120]}; it must "
            f"be operators and NumPy's exp, log, sqrt, power, maximum ... of {known}"
        ) from None


def _slope(found: Any, name: str) -> list[float]:
    slope = found.slopes.get(name, 0.0) if isinstance(found, Dual) else 0.0
    return [float(one) for one in np.round(np.broadcast_to(slope, (2,)), 12)]
