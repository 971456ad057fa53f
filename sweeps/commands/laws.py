"""laws, fit, predict."""

import argparse
from pathlib import Path
from typing import Any

from fits.errors import Refused
from fits.fitting import fit as fit_one
from fits.fitting import fit_groups
from fits.laws import all_laws, law
from fits.result import Fit
from fits.saved import load_fits, save_fits, to_dict
from fits.table import read_table, write_table


def list_laws(told: argparse.Namespace) -> Any:
    """Every law with formula, variables, units and source."""
    rows = []
    for one in all_laws():
        variables = {v.name: v.unit for v in (*one.variables, one.response)}
        rows.append(
            {
                "name": one.name,
                "title": one.title,
                "formula": one.formula,
                "variables": variables,
                "response": one.response.name,
                "parameters": {p.name: p.meaning for p in one.parameters},
                "objective": one.objective,
                "source": one.source,
            }
        )
        if not told.json:
            units = ", ".join(f"{name} ({unit})" for name, unit in variables.items())
            print(f"{one.name}\n  {one.formula}\n  {one.title}\n  {units}\n  {one.source}\n")
    return rows


def _pairs(text: str, option: str) -> dict[str, str]:
    pairs = {}
    for item in filter(None, text.split(",")):
        name, equals, value = item.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise Refused(f"{option} {item!r}: must read NAME=VALUE")
        pairs[name.strip()] = value.strip()
    return pairs


def fit(told: argparse.Namespace) -> Any:
    """Fit one or several laws to a table."""
    laws = [law(name.strip()) for name in told.law.split(",")]
    try:
        pin = {name: float(value) for name, value in _pairs(told.pin, "--pin").items()}
    except ValueError as error:
        raise Refused(f"--pin: {error}") from None
    if told.bootstrap < 0:
        raise Refused(f"--bootstrap {told.bootstrap}: must not be negative")
    frame = read_table(told.table)
    if told.by and told.by not in frame.columns:
        known = ", ".join(map(str, frame.columns))
        raise Refused(f"--by {told.by}: the table has no such column; it has {known}")
    options: dict[str, Any] = {
        "columns": _pairs(told.columns, "--columns"),
        "where": told.where,
        "holdout": told.holdout,
        "pin": pin,
        "bootstrap_draws": told.bootstrap,
        "by": told.by,
    }
    found: list[Fit] = []
    for one in laws:
        if told.per:
            found += fit_groups(one, frame, told.per, **options)
        else:
            found.append(fit_one(one, frame, **options))
    if told.to:
        save_fits(found, told.to)
    if not told.json:
        print("\n".join(one.summary() for one in found))
        return None
    values = [_as_json(one) for one in found]
    return values if told.per or len(laws) > 1 else values[0]


def _as_json(one: Fit) -> dict[str, Any]:
    value = to_dict(one)
    for key in ("data", "draws", "unit_params", "name"):
        del value[key]
    return value


def predict(told: argparse.Namespace) -> Any:
    """Predictions of every fit that the table's rows belong to."""
    import pandas as pd

    fits = load_fits(told.fit)
    if told.name:
        chosen = [one for one in fits if told.name in (one.name, one.law_name, one.label())]
        if not chosen:
            known = "; ".join(dict.fromkeys(one.label() for one in fits))
            raise Refused(f"no fit {told.name!r} in {told.fit}; it has {known}")
        fits = chosen
    elif len({one.law_name for one in fits}) > 1:
        known = ", ".join(dict.fromkeys(one.law_name for one in fits))
        raise Refused(f"{told.fit} holds several laws ({known}): choose one with --name")
    frame = read_table(told.table)
    taken = [name for name in ("fit", "predicted", "low", "high") if name in frame.columns]
    if taken:
        raise Refused(f"the table has a column {taken[0]!r} of its own: rename it")
    parts = []
    for one in fits:
        rows = frame
        for column, value in one.group.items():
            if column in frame.columns:
                rows = rows[rows[column] == value]
            elif len(fits) > 1:
                raise Refused(f"the fits are per {column}, and the table has no such column")
        if len(rows):
            part = rows.copy()
            part.insert(0, "fit", one.label())
            parts.append(part.join(one.predict(rows)))
    if not parts:
        raise Refused("no row of the table belongs to a group that was fitted")
    out = pd.concat(parts)
    if told.to:
        write_table(out, Path(told.to))
    if told.json:
        return out.astype(object).where(out.notna(), None).replace(_INFINITE).to_dict("records")
    print(out.to_string(index=False) if not told.to else f"{len(out)} rows -> {told.to}")
    return None


_INFINITE = {float("inf"): None, float("-inf"): None}
