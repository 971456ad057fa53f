"""What a study of the base law found: tables, figures, evidence for its claims."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fits.allocation import allocate
from fits.base_law import (
    COUNTS,
    Exponents,
    exponent_table,
    exponents,
    irreducible,
    law_over_units,
    predicted_by_unit,
    rivals,
)
from fits.errors import Refused
from fits.figures.base_law_figures import exponent_figure, floor_figure, law_figure
from fits.report import Findings, Table
from fits.result import Fit
from fits.verdicts import Evidence, by_unit, nothing

PUBLISHED_A = ("Chinchilla's .50", 0.50)  # approach 1 of 2203.15556, table 2
Floor = tuple[pd.DataFrame, float, float]  # cooled ends, entropy rate, least loss of the windows


def findings(
    grid: pd.DataFrame,
    larger: pd.DataFrame | None,
    floors: Mapping[str, Floor],
    laws: Sequence[str],
    kaplan: float,
    corpus: str,
    prefix: str,
    notes: Sequence[str],
) -> Findings:
    """The findings on cooled ends (`fits.base_law.cooled_ends`).

    larger: ends of the run that was predicted (names `prefix, law`), if it is there; floors: by
    claim, runs on texts whose least loss is known. Raises Refused where the grid gives no law.
    """
    with_embeddings, without = (exponents(grid, column) for column in COUNTS.values())
    law = with_embeddings.law
    if law is None:
        raise Refused(with_embeddings.why["parametric"])
    named = [dataclasses.replace(one, count=how) for how, one in _counted(with_embeddings, without)]
    table = exponent_table(named)
    known, measured = _measured(larger, laws, prefix)
    errors, error_note = larger_errors(grid, law, larger)
    rows, gaps, gone, floor_fits = _floors(floors)
    budgets = [*np.unique(np.geomspace(grid["budget_flop"].min(), grid["budget_flop"].max(), 3))]
    budgets += [] if larger is None else [float(larger["budget_flop"].mean())]
    tables = [
        Table(
            "exponents",
            "a of N* ~ C^a (b = 1 - a of D*) by three approaches on the same cooled losses; "
            "intervals: t over trunk seeds.",
            table,
            hidden=() if table["why not"].any() else ("why not",),
        ),
        Table(
            "rivals",
            "Laws of N and D ranked by held-out loss on the mean over seeds (difference: to the "
            "best, as the objective measures it).",
            rivals(grid, laws),
        ),
        Table(
            "allocation",
            "The law's best split of a budget, C = 6 N D; beyond: how many times outside what was "
            "fitted.",
            allocate(law, budgets).table().drop(columns="edge"),
        ),
        Table(
            "losses",
            "Mean and standard deviation over seeds of the loss at the end of each run of the "
            "grid, and the larger one.",
            _losses(grid, larger),
        ),
    ]
    figures = [law_figure(grid, law, known, corpus)]
    lines = [(f"Kaplan's {kaplan:g}", kaplan), PUBLISHED_A]
    figures.append(exponent_figure(table, lines))
    for approach, frontier in with_embeddings.frontiers.items():
        figures.append(dataclasses.replace(frontier.figure(), name=approach))
    if rows:
        caption = (
            "E of the law on texts whose truth is known. A window shows a model no more than its "
            "context; `windows allow` is the least loss on the very windows that were evaluated."
        )
        tables.insert(1, Table("irreducible loss", caption, pd.DataFrame(rows)))
        figures.append(floor_figure(pd.DataFrame(rows)))
    read_once = float(grid["epochs"].max())
    evidence = {
        prefix: _over_seeds(errors, read_once, error_note),
        **_agreement(with_embeddings, read_once),
        "kaplan": _over_seeds(
            [kaplan - a for a in without.by_unit["parametric"].values()],
            read_once,
            without.why.get("parametric", ""),
        ),
    }
    for name, (ends, _, _) in floors.items():
        evidence[name] = _over_seeds(gaps[name], float(ends["epochs"].max()), gone[name])
    return Findings(
        headline=_headline(table, law, errors),
        tables=tables,
        fits=[one for one in (law, without.law, *floor_fits) if one is not None],
        figures=figures,
        notes=[*notes, *_doubts(law)],
        readings={
            "exponents": table.replace({np.nan: None}).to_dict("records"),
            "irreducible": rows,
            "larger_relative_errors": errors,
        },
        evidence=evidence,
        measured=measured,
    )


def larger_errors(
    grid: pd.DataFrame, law: Fit, larger: pd.DataFrame | None
) -> tuple[list[float], str]:
    """(predicted - measured) / measured by seed, each seed's own law; and why there is none."""
    if larger is None:
        return [], "the larger run is not there"
    place = larger.drop_duplicates(["n_params", "n_tokens"])
    if len(place) != 1:
        raise Refused(f"the larger run has {len(place)} sizes or lengths, it must have one")
    n_params, n_tokens = place[["n_params", "n_tokens"]].iloc[0].astype(float)
    said = predicted_by_unit(grid, law, n_params, n_tokens)
    came = dict(zip(larger["unit"], larger["loss_nats"], strict=True))
    why = "" if said else law.identified.unidentified or "one seed: no law of its own"
    return [(said[unit] - came[unit]) / came[unit] for unit in said if unit in came], why


def _counted(with_embeddings: Exponents, without: Exponents) -> list[tuple[str, Exponents]]:
    return list(zip(COUNTS, (with_embeddings, without), strict=True))


def _measured(
    larger: pd.DataFrame | None, laws: Sequence[str], prefix: str
) -> tuple[pd.DataFrame | None, dict[str, float]]:
    if larger is None:
        return None, {}
    mean = float(larger["loss_nats"].mean())
    return larger, {f"{prefix}, {name}": mean for name in laws}


def _agreement(read: Exponents, epochs: float) -> dict[str, Evidence]:
    return {
        name: _over_seeds(
            read.differences(name, "parametric"),
            epochs,
            "; ".join(read.why[k] for k in (name, "parametric") if k in read.why),
        )
        for name in ("isoflop", "envelope")
    }


def _over_seeds(effects: Sequence[float], epochs: float, why: str) -> Evidence:
    return by_unit(effects, epochs, why) if effects else nothing(why or "no seed has it")


def _floors(
    floors: Mapping[str, Floor],
) -> tuple[list[dict[str, Any]], dict[str, list[float]], dict[str, str], list[Fit]]:
    """(rows of the table, E less truth by seed, why there is none, the laws) by claim."""
    rows: list[dict[str, Any]] = []
    gaps: dict[str, list[float]] = {}
    gone: dict[str, str] = {}
    laws: list[Fit] = []
    for name, (ends, rate, allowed) in floors.items():
        gaps[name], gone[name] = [], ""
        try:
            one = law_over_units(ends, name=f"loss on {name}")
        except Refused as refusal:
            gone[name] = str(refusal)
            continue
        row, gaps[name], gone[name] = irreducible(ends, one, allowed)
        rows.append({"text": name, **row, "windows allow": allowed, "entropy rate": rate})
        laws.append(one)
    return rows, gaps, gone, laws


def _losses(grid: pd.DataFrame, larger: pd.DataFrame | None) -> pd.DataFrame:
    every = grid if larger is None else pd.concat([grid, larger])
    places = ["arm", *COUNTS.values(), "n_tokens", "budget_flop"]
    found = every.groupby(places, sort=False)["loss_nats"].agg(["mean", "std", "count"])
    names = {"mean": "loss_nats", "std": "sd_over_seeds", "count": "seeds"}
    return found.reset_index().rename(columns=names)


def _headline(table: pd.DataFrame, law: Fit, errors: Sequence[float]) -> str:
    parametric = table[table["approach"] == "parametric"].iloc[0]
    text = f"L = {law.params['E']:.3g} + A / N^{law.params['alpha']:.3g} + "
    text += f"B / D^{law.params['beta']:.3g} (nats/token)"
    if np.isfinite(parametric["a"]):
        text += f"; N* ~ C^{parametric['a']:.3f}"
        if np.isfinite(parametric["low"]):
            text += f" (95 % interval {parametric['low']:.3f} .. {parametric['high']:.3f} over "
            text += f"{parametric['seeds']} trunk seeds)"
    if errors:
        text += f"; the larger run's loss was predicted {100 * np.mean(errors):+.2f} % off"
    return f"{text}."


def _doubts(law: Fit) -> list[str]:
    """What the fit itself says against being believed."""
    return [f"The law: {note}" for note in law.notes]
