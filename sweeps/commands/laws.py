"""laws, fit, predict."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fits.columns import with_columns
from fits.errors import Refused, meant
from fits.form import Law
from fits.laws import all_laws, law
from fits.table import require_column, write_table
from sweeps.commands.table import read_said

if TYPE_CHECKING:  # SciPy comes with these; `lab laws` needs none of it
    from fits.result import Fit


def list_laws(told: argparse.Namespace) -> Any:
    """Every law with formula, variables, units, source and published coefficients."""
    rows = []
    for one in all_laws():
        variables = {v.name: v.unit for v in (*one.variables, one.response)}
        rows.append(
            {
                "name": one.name,
                "title": one.title,
                "formula": one.formula,
                "variables": variables,
                "meanings": {v.name: v.meaning for v in (*one.variables, one.response)},
                "response": one.response.name,
                "parameters": {p.name: p.meaning for p in one.parameters},
                "objective": one.objective,
                "published": {key: dict(values) for key, values in one.published.items()},
                "source": one.source,
            }
        )
        if not told.json:
            print(_described(one))
    return rows


def _described(one: Law) -> str:
    units = ", ".join(f"{v.name} ({v.unit})" for v in one.variables)
    lines = [
        f"{one.name}   {one.title}",
        f"  {one.formula}",
        f"  {one.response.name} ({one.response.unit}) in {units}",
    ]
    for key, values in one.published.items():
        lines.append(f"  {key}: {', '.join(f'{k} {v:.6g}' for k, v in values.items())}")
    return "\n".join([*lines, f"  {one.source}", ""])


def pairs(text: str, option: str) -> dict[str, str]:
    """NAME=VALUE,... as a mapping. Raises Refused."""
    found = {}
    for item in filter(None, text.split(",")):
        name, equals, value = item.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise Refused(f"{option} {item!r}: must read NAME=VALUE")
        found[name.strip()] = value.strip()
    return found


def fit(told: argparse.Namespace) -> Any:
    """Fit one or several laws to a table."""
    from fits.fitting import fit as fit_one
    from fits.fitting import fit_groups, fit_shared
    from fits.saved import save_fits

    laws = [law(name.strip()) for name in told.law.split(",")]
    options = _options(told)
    frame = with_columns(read_said(told.table), options["columns"])
    if told.by and told.by not in frame.columns:
        known = [str(one) for one in frame.columns]
        hint = meant(told.by, known)
        raise Refused(
            f"--by {told.by}: the table has no such column; it has {', '.join(known)}{hint}"
        )
    shared = [name.strip() for name in told.share.split(",") if name.strip()]
    _refuse_options(told, laws, shared)
    if told.per:
        require_column(told.per, frame)
    columns = _columns_of(laws, options["columns"])
    found: list[Fit] = []
    for one in laws:
        its = {**options, "columns": columns[one.name]}
        if shared:
            found.append(fit_shared(one, frame, told.per, shared, **its))
        elif told.per:
            found += fit_groups(one, frame, told.per, **its)
        else:
            found.append(fit_one(one, frame, **its))
    tried, texts = _left_out(told, laws, frame, options)
    if told.to:
        save_fits(found, told.to)
    if not told.json:
        print("\n".join([*(one.summary() for one in found), *texts]))
    values: list[Any] = [_as_json(one) for one in found]
    if tried:
        return {"fits": values, **tried}
    return values if told.per else values[0]


def _left_out(
    told: argparse.Namespace, laws: list[Law], frame: Any, options: dict[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Rows left out in turn: the ranking of several laws, or how well one predicts them."""
    if len(laws) == 1 and not (told.leave_out or told.rolling):
        return {}, []
    from fits.comparing import compare
    from fits.holdouts import hold_out

    kept = {k: options[k] for k in ("columns", "where", "objective", "level", "rates")}
    asked = {k: options[k] for k in ("pin", "bound", "tie") if options[k]}
    how = {"by": told.leave_out or told.by, "rolling": told.rolling}
    groups = [("", frame)]
    if told.per:
        groups = [(f"{told.per} {v}", rows) for v, rows in frame.groupby(told.per, sort=True)]
    values, texts = [], []
    for name, part in groups:
        if len(laws) > 1:
            own = {one.name: _of_law(one, asked) for one in laws}
            found: Any = compare(laws, part, own=own, **how, **kept)
        else:
            found = hold_out(laws[0], part, **how, **kept, **asked)
        values.append({**({"group": name} if name else {}), **found.to_dict()})
        texts += ["", *([name] if name else []), found.summary()]
    return {"ranking" if len(laws) > 1 else "left_out": values if told.per else values[0]}, texts


def _refuse_options(told: argparse.Namespace, laws: list[Law], shared: list[str]) -> None:
    if told.leave_out and told.rolling:
        raise Refused("--leave-out and --rolling exclude each other")
    if shared and not told.per:
        raise Refused("--share needs --per, the column whose values share parameters")
    if shared and (len(laws) > 1 or told.leave_out or told.rolling):
        raise Refused("--share takes one law, and no rows are left out in turn with it")


def _columns_of(laws: list[Law], columns: dict[str, str]) -> dict[str, dict[str, str]]:
    """By law, the columns that it reads; of one law all, so that it refuses what it does not."""
    if len(laws) == 1:
        return {laws[0].name: columns}
    read = {
        one.name: {one.response.name, *(v.name for v in one.variables), *["curve"][: one.rates]}
        for one in laws
    }
    for name in columns:
        if not any(name in names for names in read.values()):
            known = ", ".join(sorted(set().union(*read.values())))
            raise Refused(f"no law has a variable {name!r}; they have {known}")
    return {
        law: {name: columns[name] for name in columns if name in names}
        for law, names in read.items()
    }


def _of_law(law: Law, asked: dict[str, Any]) -> dict[str, Any]:
    """What is asked of parameters that this law has."""
    own = {k: {n: v for n, v in of.items() if n in law.names} for k, of in asked.items()}
    return {k: of for k, of in own.items() if of}


def _options(told: argparse.Namespace) -> dict[str, Any]:
    """What is asked of the fit. Raises Refused."""
    if told.bootstrap < 0:
        raise Refused(f"--bootstrap {told.bootstrap}: must not be negative")
    if told.bootstrap and told.interval != "profile":
        raise Refused("--bootstrap and --interval exclude each other")
    drawn = {"interval": "bootstrap", "draws": told.bootstrap}
    return {
        "columns": pairs(told.columns, "--columns"),
        "where": told.where,
        "holdout": told.holdout,
        "objective": told.objective,
        "pin": {name: number(v, "--pin") for name, v in pairs(told.pin, "--pin").items()},
        "bound": {n: _range(v) for n, v in pairs(told.bound, "--bound").items()},
        "tie": pairs(told.tie, "--tie"),
        "by": told.by,
        "level": told.level,
        "rates": read_said(told.rates) if told.rates else None,
        **(drawn if told.bootstrap else {"interval": told.interval}),
    }


def number(text: str, option: str) -> float:
    """A number. Raises Refused."""
    try:
        return float(text)
    except ValueError:
        raise Refused(f"{option} {text!r}: must be a number") from None


def _range(text: str) -> tuple[float, float]:
    low, colon, high = text.partition(":")
    if not colon:
        raise Refused(f"--bound {text!r}: must read LOW:HIGH, an empty side is unbounded")
    return (
        number(low, "--bound") if low.strip() else float("-inf"),
        number(high, "--bound") if high.strip() else float("inf"),
    )


def _as_json(one: "Fit") -> dict[str, Any]:
    from fits.saved import to_dict

    value = to_dict(one)
    for key in ("data", "draws", "unit_params", "name"):
        del value[key]
    return value


def predict(told: argparse.Namespace) -> Any:
    """Predictions of every fit that the table's rows belong to."""
    import pandas as pd

    fits = chosen_fits(told.fit, told.name, told.law)
    if len({one.law_name for one in fits}) > 1:
        known = ", ".join(dict.fromkeys(one.law_name for one in fits))
        raise Refused(f"{told.fit} holds several laws ({known}): choose one with --name")
    columns = pairs(told.columns, "--columns")
    rates = read_said(told.rates) if told.rates else None
    frame = read_said(told.table)
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
            parts.append(part.join(one.predict(rows, columns=columns, rates=rates)))
    if not parts:
        raise Refused("no row of the table belongs to a group that was fitted")
    out = pd.concat(parts)
    if told.to:
        write_table(out, Path(told.to))
    if told.json:
        return out.astype(object).where(out.notna(), None).replace(_INFINITE).to_dict("records")
    print(out.to_string(index=False) if not told.to else f"{len(out)} rows -> {told.to}")
    return None


def chosen_fits(path: str, name: str | None, own: str | None = None) -> "list[Fit]":
    """The fits of a file, or those of a name, law or label. `own`: file of a law. Refused."""
    from fits.own import law_of_file
    from fits.saved import load_fits

    fits = load_fits(path, [law_of_file(own)] if own else [])
    if not name:
        return fits
    chosen = [one for one in fits if name in (one.name, one.law_name, one.label())]
    if not chosen:
        known = list(dict.fromkeys(one.label() for one in fits))
        hint = meant(name, [*known, *(one.law_name for one in fits)])
        raise Refused(f"no fit {name!r} in {path}; it has {'; '.join(known)}{hint}")
    return chosen


_INFINITE = {float("inf"): None, float("-inf"): None}
