"""allocate, design, frontier: what fitted laws and tables of losses are for."""

import argparse
from pathlib import Path
from typing import Any

from fits.columns import with_columns
from fits.errors import Refused, meant
from fits.plain import for_json, rows_for_json
from fits.table import rows_where
from sweeps.commands.laws import chosen_fits, number, pairs
from sweeps.commands.table import read_said

METHODS = ("akima", "parabola", "envelope")


def allocate(told: argparse.Namespace) -> Any:
    """Compute-optimal size and tokens of every fit in a file, by budget."""
    from fits.allocation import allocate as split

    flops = [number(text, "--flops") for text in told.flops.split(",")]
    at = {name: number(text, "--at") for name, text in pairs(told.at, "--at").items()}
    values = []
    for one in chosen_fits(told.fit, told.name, told.law):
        found = split(one, flops, flop_per_param_token=told.flop_per_param_token, at=at)
        rows = rows_for_json(found.table().to_dict("records"))
        notes = [note for optimum in found.optima for note in optimum.notes]
        values.append({"fit": one.label(), "optima": rows, "notes": notes})
        if not told.json:
            print(found.summary())
    return values


def design(told: argparse.Namespace) -> Any:
    """Which run to do next, of a table of candidates."""
    from fits.designing import design as next_runs

    fits = chosen_fits(told.fit, told.name, told.law)
    if len(fits) > 1:
        known = "; ".join(one.label() for one in fits)
        raise Refused(f"{told.fit} holds several fits ({known}): choose one with --name")
    candidates = read_said(told.candidates)
    columns = pairs(told.columns, "--columns")
    candidates = with_columns(with_columns(candidates, columns), {told.cost: told.cost})
    found = next_runs(
        fits[0], candidates, told.cost, told.target, budget=told.budget, columns=columns
    )
    if not told.json:
        print(found.summary())
    return {
        "target": found.target,
        "half_width": for_json(found.half_width),
        "best": for_json(found.best),
        "best_per_cost": for_json(found.best_per_cost),
        "candidates": rows_for_json(found.candidates.to_dict("records")),
        "sequence": rows_for_json(found.sequence.to_dict("records")),
    }


def frontier(told: argparse.Namespace) -> Any:
    """Chinchilla's first two approaches: optima by budget, without a law of the loss."""
    from fits.envelopes import envelope
    from fits.isoflops import isoflop
    from fits.table import require_column

    if told.method not in METHODS:
        hint = meant(told.method, METHODS)
        raise Refused(f"unknown method {told.method!r}; allowed: {', '.join(METHODS)}{hint}")
    if told.method == "envelope" and told.noise is not None:
        raise Refused("--noise is for akima and parabola: an envelope resamples its runs")
    columns = pairs(told.columns, "--columns")
    frame = with_columns(read_said(told.table), columns)
    if told.where:
        frame = frame[rows_where(frame, told.where)]
    parts: list[tuple[str, Any]] = [("", frame)]
    if told.per:
        require_column(told.per, frame)
        parts = [(str(value), rows) for value, rows in frame.groupby(told.per, sort=True)]
    if told.to and len(parts) > 1:
        raise Refused(f"--to writes one figure, and --per gives {len(parts)}: choose with --where")
    values = []
    for name, rows in parts:
        if told.method == "envelope":
            found = envelope(rows, columns)
        else:
            found = isoflop(rows, told.method, columns, noise_nats=told.noise)
        values.append({**({told.per: name} if told.per else {}), **found.to_dict()})
        if not told.json:
            print(*([f"{told.per} {name}"] if told.per else []), found.summary(), sep="\n")
        if told.to:
            found.figure().save(Path(told.to))
    return values
