"""The report of a complete study of critical ratios: tables, laws and figures beside the evidence.

`Measured` is what ran (`fits.critical_evidence`); everything here is read off it, so that a table
of results is enough to write the report again.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from fits import continual
from fits.continual_controls import (
    both_criteria,
    branch_losses,
    end_losses,
    mean_and_sd,
    trunk_losses,
    turning_by_laws,
)
from fits.critical import fraction
from fits.critical_evidence import Measured, evidence, size_line
from fits.critical_foretold import measured
from fits.engine.uncertainty import mean_interval
from fits.figures import continual_figures
from fits.figures.critical_arms_figure import critical_arms_figure
from fits.figures.plots import Figure
from fits.plain import rows_for_json
from fits.ratio_forms import rank_forms
from fits.report import Findings, Table
from fits.result import Fit
from fits.unit_ratios import paired

DOMAINS = ("far", "near")


def findings(
    m: Measured,
    held_back: int | None,
    rewarm: int,
    lams: Sequence[float],
    union: float,
    notes: Sequence[str],
) -> Findings:
    """Everything. held_back: the size that was predicted, if there is one; rewarm in tokens.

    Raises Refused where the far domain has no finished run.
    """
    there = [role for role in DOMAINS if role in m.tables]
    critical = all_readings(m)
    own = {role: _of(m, role) for role in there}
    ratio_fits: dict[str, list[Fit]] = {
        role: continual.ratio_laws(own[role], m.last, m.held_out_ratio) for role in there
    }
    token_fits = {}
    for role in there:
        smallest = own[role][own[role]["n_params"] == m.sizes[0]]
        token_fits[role] = continual.token_laws(smallest, m.general, m.domains[role], rewarm)
    late, unfitted = m.late
    labelled = [
        *(replace(one.fit, name=f"{role}: {one.fit.name}") for role in there for one in late[role]),
        *(replace(one, name=f"{role}: {one.name}") for role in there for one in ratio_fits[role]),
        *(replace(one, name=f"{role}: {one.name}") for role in there for one in token_fits[role]),
    ]
    tables = [
        Table(
            "critical ratio",
            "Largest domain share that keeps the change of general loss within eps, by monotone "
            "interpolation of the measured grid, mean over seeds; interval: t over trunk seeds. "
            "control_change is that of R = 0 off the same trunks.",
            critical,
            hidden=("critical_ratio", "low", "high", "censored"),
        ),
        Table(
            "criteria",
            f"After {m.last:,} tokens: tolerance and turning point apart, and which is the lesser.",
            _by_role(
                m.alike, lambda table: both_criteria(table, m.general, m.last, m.all_eps), there
            ),
        ),
        Table(
            "turning points by laws",
            "Where dL_domain/dT + lam dL_general/dT = 0 by the paper's token laws, means over "
            "seeds; rms_nats says how well the law of the general loss follows its points.",
            pd.concat(
                [
                    turning_by_laws(token_fits[role], m.sizes[0], lams, m.last).assign(arm=role)
                    for role in there
                ]
            ),
        ),
        Table(
            "distance",
            "Loss of the trunk before it is continued: how far each text lies from it.",
            trunk_losses(m.tables["far"]),
        ),
        Table(
            "differences",
            f"Critical ratios at eps = {m.eps:g}, differences paired over trunk seeds with t "
            "intervals; bounds where a seed lies beyond the grid.",
            differences(m),
        ),
        Table(
            "late horizons",
            f"R_CMR = a T^s + b fitted up to {m.earlier:,} tokens, then measured. error: predicted "
            "less measured, of the mean; its interval: t over the errors of the seeds' own fits. "
            "still_error: of the rival that the ratio stays as at the last fitted horizon.",
            late_table(m),
        ),
        Table(
            "ratio forms",
            f"Forms of loss against ratio after {m.last:,} tokens: each ratio left out in turn. "
            "worse: random signs of the ratios give as large a difference in 2.5 % at most.",
            _by_role(own, lambda table: rank_forms(table, m.general, m.last), there),
        ),
        Table(
            "controls",
            f"Losses at the end at {m.sizes[0]:,} parameters: branches (R), as many tokens of "
            f"domain text from scratch, and the union of the texts of R = {union:g} from scratch.",
            controls(m),
        ),
    ]
    return Findings(
        headline=_headline(m, critical),
        tables=[one for one in tables if len(one.frame)],
        fits=labelled,
        figures=_figures(m, critical, ratio_fits, held_back),
        notes=[*notes, *m.missing, *unfitted],
        readings={
            "critical": rows_for_json(critical.to_dict("records")),
            "differences": rows_for_json(differences(m).to_dict("records")),
        },
        evidence=evidence(m, held_back),
        measured=measured(m, held_back) if held_back in m.sizes else {},
    )


def all_readings(m: Measured) -> pd.DataFrame:
    """`fits.continual.readings` of every role, with a column `arm` (the role) in front."""
    return _by_role(
        m.alike,
        lambda table: continual.readings(table, m.general, m.horizons, m.all_eps),
        list(m.tables),
    )


def _of(m: Measured, role: str) -> pd.DataFrame:
    """The changes of a domain's arms on the general corpus and its own."""
    table = m.tables[role]
    return table[table["corpus"].isin([m.general, m.domains[role]])]


def _by_role(
    tables: Mapping[str, pd.DataFrame],
    read: Callable[[pd.DataFrame], pd.DataFrame],
    roles: Sequence[str],
) -> pd.DataFrame:
    parts = []
    for role in roles:
        one = read(tables[role])
        one.insert(0, "arm", role)
        parts.append(one)
    return pd.concat(parts, ignore_index=True)


def differences(m: Measured) -> pd.DataFrame:
    """Differences of critical ratios that the claims and their neighbours are about.

    Columns: difference, n_params, mean, low, high, seeds, bounds (where a seed is censored).
    """
    first, last = m.horizons[0], m.last
    smallest, largest = m.sizes[0], m.sizes[-1]
    asked: list[tuple[str, int, Any, Any]] = []
    for size in m.sizes:
        for role in DOMAINS:
            what = f"{role}: {last:,} less {first:,} tokens"
            later, sooner = m.critical(role, size), m.critical(role, size, first)
            asked.append((what, size, later, sooner))
        asked.append(("near less far", size, m.critical("near", size), m.critical("far", size)))
    for role in DOMAINS if largest > smallest else ():
        what = f"{role}: less {smallest:,} parameters"
        asked.append((what, largest, m.critical(role, largest), m.critical(role, smallest)))
    for role in ("constant", "reset"):
        what = f"{role} less far"
        asked.append((what, smallest, m.critical(role, smallest), m.critical("far", smallest)))
    rows = []
    for what, size, more, less in asked:
        pairs = paired(more, less)
        if not pairs:
            continue
        row: dict[str, Any] = {"difference": what, "n_params": size, "seeds": len(pairs)}
        row["bounds"] = ""
        if any(low < high for low, high in pairs):
            lowest = float(np.mean([low for low, _ in pairs]))
            highest = float(np.mean([high for _, high in pairs]))
            row["bounds"] = f"{lowest:+.3f} .. {highest:+.3f}"
        else:
            each = [low for low, _ in pairs]
            one = mean_interval(each)
            row |= {"mean": float(np.mean(each)), "low": one.low, "high": one.high}
        rows.append(row)
    columns = ["difference", "n_params", "mean", "low", "high", "seeds", "bounds"]
    return pd.DataFrame(rows, columns=columns)


def late_table(m: Measured) -> pd.DataFrame:
    """Late horizons: predicted, measured, their difference with its interval, and the rival's."""
    rows = []
    for role, found in m.late[0].items():
        for one in found:
            for row in one.fit.held_out:
                horizon = int(row.variables["cpt_tokens"])
                apart = mean_interval(list(one.errors[horizon].values()))
                rows.append(
                    {
                        "arm": role,
                        **one.fit.group,
                        "horizon_tokens": horizon,
                        "predicted": row.predicted,
                        "measured": row.observed,
                        "error": row.predicted - row.observed,
                        "error_low": apart.low,
                        "error_high": apart.high,
                        "seeds": len(one.errors[horizon]),
                        "still_error": float(np.mean(list(one.still[horizon].values()))),
                    }
                )
    return pd.DataFrame(rows)


def controls(m: Measured) -> pd.DataFrame:
    """Loss on each corpus at the end: branches, from scratch on the domain, on the union."""
    rows: list[dict[str, Any]] = []
    size = m.sizes[0]
    for role in DOMAINS:
        if role not in m.tables:
            continue
        for corpus in (m.general, m.domains[role]):
            head = {"domain": m.domains[role], "corpus": corpus}
            for ratio in sorted(m.tables[role]["ratio"].unique()):
                each = branch_losses(m.tables[role], corpus, size, float(ratio), m.last)
                what = f"R = {fraction(float(ratio)) if ratio else 0}"
                rows.append({**head, "what": what, **mean_and_sd(each)})
            for kind in ("scratch", "union"):
                ends: dict[Any, float] = {}
                for arm in m.arms.get(f"{kind}-{role}", ()):
                    ends |= end_losses(m.results, arm, corpus)
                if ends:
                    rows.append({**head, "what": kind, **mean_and_sd(ends)})
    return pd.DataFrame(rows)


def _figures(
    m: Measured,
    critical: pd.DataFrame,
    ratio_fits: Mapping[str, list[Fit]],
    held_back: int | None,
) -> list[Figure]:
    """By arm first; then the domains, each as `cmr` shows its own."""
    corpus = m.domains
    labels = {
        "far": f"{corpus['far']} (far)",
        "near": f"{corpus['near']} (near)",
        "constant": f"{corpus['far']}, trunk's rate held",
        "reset": f"{corpus['far']}, optimizer reset",
    }
    told = []
    for role in DOMAINS if held_back is not None and held_back in m.sizes else ():
        assert held_back is not None
        line = size_line(m, role, held_back)
        if not line.why:
            low, high = line.interval(max(1, len(m.critical(role, held_back))))
            told.append((role, held_back, line.predicted, low, high))
    shared = sorted(m.alike["far"]["ratio"].unique())
    frame = pd.DataFrame(told, columns=["arm", "n_params", "critical_ratio", "low", "high"])
    figures = [critical_arms_figure(critical, frame, labels, m.eps, shared)]
    for role, fits in ratio_fits.items():
        table, domain = m.tables[role], corpus[role]
        own = critical[critical["arm"] == role].drop(columns="arm")
        grid = sorted(m.alike[role]["ratio"].unique())
        laws = [one.fit for one in m.late[0].get(role, ())]
        shown = [
            continual_figures.general_loss_figure(table, m.general, m.all_eps),
            continual_figures.critical_figure(own, grid, laws),
        ]
        if fits:
            shown.append(continual_figures.ratio_figure(fits, table, m.general, domain))
        figures += [
            replace(one, name=f"{one.name}_{role}", caption=f"{domain}: {one.caption}")
            for one in shown
        ]
    return figures


def _headline(m: Measured, critical: pd.DataFrame) -> str:
    here = critical[
        (critical["eps"] == m.eps)
        & (critical["horizon_tokens"] == m.last)
        & (critical["n_params"] == m.sizes[0])
    ].set_index("arm")
    said = [
        f"{m.domains[role]} {here.loc[role, 'reading']} ({here.loc[role, 'interval']})"
        for role in DOMAINS
        if role in here.index
    ]
    mean = math.nan
    if "far" in here.index:
        mean = float(here.loc["far", "control_change"])
    return (
        f"Critical ratio within {m.eps:g} nats after {m.last:,} tokens, {m.sizes[0]:,} "
        f"parameters: {', '.join(said)}; without domain text the general loss changes by "
        f"{mean:+.3f}."
    )
