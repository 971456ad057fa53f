"""Fits as JSON, there and back. Nothing read is believed: numbers are checked, names looked up."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fits.engine.objective import objective as objective_named
from fits.errors import Refused
from fits.files import write_whole
from fits.form import GROUP, Law
from fits.interval import Interval
from fits.laws import law as law_named
from fits.plain import for_json, plain
from fits.result import Fit, HeldOut
from fits.shared import shared_law
from fits.variables import finite, variables_from_dict, variables_to_dict

SCHEMA = 2


def save_fits(fits: Sequence[Fit], path: str | Path) -> None:
    """Write fits as JSON. Raises Failed."""
    write_whole(Path(path), to_text(fits).encode())


def load_fits(path: str | Path, laws: Sequence[Law] = ()) -> list[Fit]:
    """Read fits that `save_fits` or a study wrote; `laws`: laws of your own. Raises Refused."""
    if Path(path).suffix in (".csv", ".parquet"):
        raise Refused(f"{path} is a table, not a fit: lab fit LAW {path} --to fit.json makes one")
    try:
        text = Path(path).read_text()
    except OSError as error:
        raise Refused(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise Refused(f"{path} is not JSON: {error}") from None
    try:
        return from_text(text, laws)
    except Refused as refusal:
        raise Refused(f"{path}: {refusal}") from None


def to_text(fits: Sequence[Fit]) -> str:
    """Fits as JSON text."""
    tree = {"schema": SCHEMA, "fits": [to_dict(one) for one in fits]}
    return json.dumps(tree, indent=1, allow_nan=False) + "\n"


def from_text(text: str, laws: Sequence[Law] = ()) -> list[Fit]:
    """Fits from JSON text. Raises Refused."""
    try:
        tree = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refused(f"not JSON: {error}") from None
    if not isinstance(tree, dict) or not isinstance(tree.get("fits"), list):
        raise Refused("holds no fits")
    if tree.get("schema") != SCHEMA:
        raise Refused(f"holds fits of schema {tree.get('schema')!r}; this reads {SCHEMA}")
    return [from_dict(one, laws) for one in tree["fits"]]


def to_dict(one: Fit) -> dict[str, Any]:
    """Plain data; unbounded sides of intervals are null."""
    return {
        "name": one.name,
        "law": one.law_name,
        "shared": _shared_to_dict(one),
        "group": {key: plain(value) for key, value in one.group.items()},
        "params": {key: _param(one, key, value) for key, value in one.params.items()},
        "level": one.level,
        "objective": {"name": one.objective, "value": one.objective_value},
        "bounds": {name: [for_json(end) for end in ends] for name, ends in one.bounds.items()},
        "starts": one.starts,
        "agree": one.agree,
        "status": one.status,
        "degenerate": [list(pair) for pair in one.degenerate],
        "points": one.points,
        "residual_rms": one.residual_rms,
        "holdout": {
            "rows": [
                {**vars(row), "relative_error": for_json(row.relative_error)}
                for row in one.held_out
            ],
            "max_relative_error": for_json(one.max_relative_error),
        },
        "notes": list(one.notes),
        "exclusions": list(one.exclusions),
        "data": {"variables": variables_to_dict(one.x), "response": one.y.tolist()},
        "draws": list(one.draws),
        "units": one.units,
        "unit_params": list(one.unit_params),
    }


def from_dict(tree: Mapping[str, Any], laws: Sequence[Law] = ()) -> Fit:
    """A fit as `to_dict` wrote it. Raises Refused."""
    try:
        return _read(tree, laws)
    except Refused:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, IndexError) as error:
        raise Refused(f"not a fit: {type(error).__name__} {error}") from None


def _read(tree: Mapping[str, Any], laws: Sequence[Law]) -> Fit:
    name = str(tree["law"])
    law = next((own for own in laws if own.name == name), None)
    if law is None:
        law = _known(name)
    if tree["shared"] is not None:
        groups = [_scalar(value) for value in tree["shared"]["groups"]]
        law = shared_law(law, str(tree["shared"]["per"]), groups, tree["shared"]["parameters"])
    params = _params(law, {key: one["value"] for key, one in tree["params"].items()})
    level = _number(tree["level"])
    if not 0 < level < 1:
        raise Refused(f"not a fit: level {level}")
    x = variables_from_dict(law, tree["data"]["variables"])
    y = finite(tree["data"]["response"])
    if any(len(values) != len(y) for values in x.values()):
        raise Refused("not a fit: its columns of data differ in length")
    tied = {str(k): str(one["tied"]) for k, one in tree["params"].items() if one.get("tied")}
    pinned = {k: params[k] for k, one in tree["params"].items() if one["method"] == "pinned"}
    if not set(tied.values()) <= set(params) - set(tied) or set(tied) & set(pinned):
        raise Refused("not a fit: a parameter is tied to none that the law has and the fit found")
    if set(tied) | set(pinned) == set(params):
        raise Refused("not a fit: no parameter was free")
    objective = objective_named(str(tree["objective"]["name"]))
    _refuse_data(law, objective.log, x, y)
    return Fit(
        law=law,
        params=params,
        intervals={
            str(k): _interval(v)
            for k, v in tree["params"].items()
            if k not in pinned and k not in tied
        },
        objective=objective.name,
        objective_value=_number(tree["objective"]["value"]),
        starts=int(tree["starts"]),
        agree=int(tree["agree"]),
        x=x,
        y=y,
        pinned=pinned,
        bounds={str(k): _bounds(law, k, ends) for k, ends in tree["bounds"].items()},
        tied=tied,
        group={str(key): _scalar(value) for key, value in tree["group"].items()},
        name=str(tree["name"]),
        level=level,
        held_out=tuple(_held_out(row) for row in tree["holdout"]["rows"]),
        draws=tuple(_params(law, draw) for draw in tree["draws"]),
        units=_count(tree["units"], 2 if tree["draws"] else 0),
        unit_params=_units(law, tree["unit_params"]),
        notes=_texts(tree["notes"]),
        exclusions=_texts(tree["exclusions"]),
    )


def _known(name: str) -> Law:
    """A law of the library. A file never says which code to run: no path is followed. Refused."""
    try:
        if not name.endswith(".py"):
            return law_named(name)
    except Refused:
        pass
    raise Refused(
        f"unknown law {name!r}: if it is your own, name its file (--law FILE.py, or laws=[...])"
    )


def _refuse_data(law: Law, log: bool, x: Mapping[str, Any], y: Any) -> None:
    if len(y) == 0:
        raise Refused("not a fit: it holds no points")
    for one in law.variables:
        if one.positive and one.name in x and not (x[one.name] > 0).all():
            raise Refused(f"not a fit: {one.name} must be positive")
    if (log or law.response.positive) and not (y > 0).all():
        raise Refused(f"not a fit: {law.response.name} must be positive")
    if law.groups and not np.isin(x[GROUP], np.arange(len(law.groups))).all():
        raise Refused("not a fit: a point is of no group that was fitted")


def _interval(tree: Mapping[str, Any]) -> Interval:
    one = Interval(_end(tree["low"]), _end(tree["high"]), str(tree["method"]), str(tree["note"]))
    if one.low is not None and one.high is not None and one.low > one.high:
        raise Refused("not a fit: an interval ends before it begins")
    return one


def _units(law: Law, trees: Sequence[Mapping[str, Any]]) -> tuple[dict[str, float], ...]:
    if len(trees) == 1:
        raise Refused("not a fit: one unit has no scatter")
    return tuple(_params(law, one) for one in trees)


def _texts(lines: Any) -> tuple[str, ...]:
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise Refused("not a fit: notes and exclusions are lists of text")
    return tuple(lines)


def _shared_to_dict(one: Fit) -> dict[str, Any] | None:
    if not one.law.groups:
        return None
    return {
        "per": one.law.per,
        "groups": [plain(value) for value in one.law.groups],
        "parameters": [name for name in one.law.names if not name.endswith("]")],
    }


def _param(one: Fit, name: str, value: float) -> dict[str, Any]:
    target = one.tied.get(name, name)
    tied = {"tied": target} if name in one.tied else {}
    if target in one.pinned:
        method = "tied" if tied else "pinned"
        return {"value": value, "low": value, "high": value, "method": method, "note": "", **tied}
    own = one.intervals[target]
    plain = {"value": value, "low": own.low, "high": own.high, "method": own.method}
    return {**plain, "note": own.note, **tied}


def _held_out(row: Mapping[str, Any]) -> HeldOut:
    return HeldOut(
        {str(key): _scalar(value) for key, value in row["variables"].items()},
        _number(row["observed"]),
        _number(row["predicted"]),
        _end(row["low"]),
        _end(row["high"]),
    )


def _bounds(law: Law, name: Any, ends: Any) -> tuple[float, float]:
    if name not in law.names:
        raise Refused(f"not a fit: law {law.name} has no parameter {name!r}")
    low, high = ends
    low, high = (
        -math.inf if low is None else _number(low),
        math.inf if high is None else _number(high),
    )
    if not low < high:
        raise Refused(f"not a fit: the bounds of {name} leave nothing")
    return low, high


def _params(law: Law, values: Mapping[str, Any]) -> dict[str, float]:
    params = {str(name): _number(value) for name, value in values.items()}
    if set(params) != set(law.names):
        raise Refused(f"not a fit: law {law.name} has the parameters {', '.join(law.names)}")
    return params


def _scalar(value: Any) -> Any:
    if isinstance(value, (dict, list)):
        raise Refused("not a fit: a value is expected where a list or a table stands")
    return _number(value) if isinstance(value, float) else value


def _number(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{value} is not a finite number")
    return number


def _count(value: Any, least: int) -> int:
    if not isinstance(value, int) or value < least:
        raise Refused(f"not a fit: {value!r} units, where at least {least} were resampled")
    return value


def _end(value: Any) -> float | None:
    return None if value is None else _number(value)
