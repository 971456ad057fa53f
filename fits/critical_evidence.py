"""What a sweep of critical ratios says of each statement of `cmr_full`, as evidence.

An effect is read off at every trunk seed: paired between arms, sizes and horizons of one seed, as
bounds where a seed's critical ratio lies beyond the grid (`fits.unit_ratios`). What could not be
read is `nothing`, with the reason. The statements, with the smallest effect that matters, stand in
the study's file.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from fits.continual_controls import branch_losses, end_losses, falls_at_critical, trunk_losses
from fits.errors import Refused
from fits.ratio_forms import held_out_errors
from fits.unit_ratios import (
    Bounds,
    Late,
    Line,
    along_size,
    at,
    changes_by_seed,
    late_horizons,
    paired,
    unit_readings,
)
from fits.verdicts import Evidence, by_unit, estimated, nothing

PHASE, RATIO = "cpt", "cpt_ratio"
BRANCHED = ("far", "near", "constant", "reset")  # roles whose arms are branches of every ratio


@dataclass(frozen=True)
class Measured:
    """The arms of the study as tables of `changes`, by seed; an arm that did not run is not there.

    results: the tidy table. domains: ("far", "near") -> corpus. arms: role -> names of arms;
    roles: far, near (an arm a size), constant, reset, and scratch-far, scratch-near, union-far,
    union-near (a run a seed; a phase of their own). horizons in tokens, ascending; eps the
    tolerance of the statements, all_eps those of the readings.
    """

    results: pd.DataFrame
    general: str
    domains: Mapping[str, str]
    arms: Mapping[str, Sequence[str]]
    horizons: tuple[int, ...]
    eps: float
    all_eps: tuple[float, ...]
    held_out_ratio: float

    @cached_property
    def _read(self) -> tuple[dict[str, pd.DataFrame], list[str]]:
        found: dict[str, pd.DataFrame] = {}
        missing: list[str] = []
        for role in BRANCHED:
            parts = []
            for arm in self.arms.get(role, ()):
                try:
                    parts.append(changes_by_seed(self.results, arm, PHASE, RATIO))
                except Refused as refusal:
                    missing.append(str(refusal))
            if parts:
                found[role] = pd.concat(parts, ignore_index=True)
        if "far" not in found:
            raise Refused("no arm with the far domain has a finished run")
        return found, missing

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Role -> `changes`, of the roles with branches of the phase `cpt`. Raises Refused."""
        return self._read[0]

    @property
    def missing(self) -> list[str]:
        """Arms of these roles that have no finished run, in words."""
        return self._read[1]

    @cached_property
    def alike(self) -> dict[str, pd.DataFrame]:
        """`tables` with the ratios alone that every role and size has: what is compared between
        arms is interpolated between the same ratios."""
        sets = [
            set(own["ratio"])
            for table in self.tables.values()
            for _, own in table.groupby("n_params")
        ]
        shared = set.intersection(*sets)
        return {role: one[one["ratio"].isin(shared)] for role, one in self.tables.items()}

    @cached_property
    def readings(self) -> dict[str, pd.DataFrame]:
        """Role -> `unit_readings`."""
        return {
            role: unit_readings(table, self.general, self.horizons, self.all_eps)
            for role, table in self.alike.items()
        }

    @property
    def sizes(self) -> list[int]:
        """Sizes that ran, ascending."""
        return sorted(int(one) for one in self.tables["far"]["n_params"].unique())

    @property
    def last(self) -> int:
        return self.horizons[-1]

    @property
    def earlier(self) -> int:
        """The last horizon that is half the last one or less: up to it laws in T are fitted."""
        return max((h for h in self.horizons if 2 * h <= self.last), default=self.horizons[0])

    @cached_property
    def late(self) -> tuple[dict[str, list[Late]], list[str]]:
        """(domain -> late horizons predicted, who has too few early ones)."""
        found: dict[str, list[Late]] = {}
        without: list[str] = []
        for role in ("far", "near"):
            if role in self.readings:
                found[role], said = late_horizons(self.readings[role], self.earlier)
                without += [f"{role}: {one}" for one in said]
        return found, without

    def critical(self, role: str, size: int, horizon: int | None = None) -> dict[Any, Bounds]:
        """Seed -> bounds of the critical ratio at the statements' tolerance."""
        if role not in self.readings:
            return {}
        return at(self.readings[role], size, self.last if horizon is None else horizon, self.eps)

    def epochs(self, *roles: str) -> float:
        """How often the corpus that is read most was read in the arms of these roles."""
        names = [arm for role in roles for arm in self.arms.get(role, ())]
        read = self.results[self.results["arm"].isin(names)]["epochs"]
        return float(read.max()) if len(read) else 0.0


def nearer(m: Measured) -> tuple[str, str]:
    """(the domain on which the trunk's loss was lower, the other one), as roles."""
    losses = trunk_losses(m.tables["far"])
    of = losses[losses["n_params"] == m.sizes[0]].set_index("corpus")["loss_nats"]
    order = sorted(("far", "near"), key=lambda role: of.get(m.domains[role], math.inf))
    return order[0], order[1]


def evidence(m: Measured, held_back: int | None) -> dict[str, Evidence]:
    """Evidence by statement. held_back: the size (parameters) that was trained last, if it was."""
    first, smallest = m.horizons[0], m.sizes[0]
    far = m.critical("far", smallest)
    near_role, far_role = nearer(m)
    return {
        "nearer_larger": _difference(
            m.critical(near_role, smallest),
            m.critical(far_role, smallest),
            m.epochs("far", "near"),
            f"nearer by the trunk's loss: {m.domains[near_role]}",
        ),
        "grows_with_tokens": _difference(far, m.critical("far", smallest, first), m.epochs("far")),
        "grows_with_size": _with_size(m, held_back),
        "turning_point_passed": _turned(m, smallest),
        "constant_trunk_larger": _difference(
            m.critical("constant", smallest), far, m.epochs("far", "constant")
        ),
        "reset_does_not_matter": _difference(
            m.critical("reset", smallest), far, m.epochs("far", "reset")
        ),
        "size_extrapolates": _size_extrapolates(m, held_back),
        "tokens_extrapolate": _tokens_extrapolate(m, smallest),
        "ratio_law_predicts": _numbers(
            held_out_errors(m.tables["far"], m.domains["far"], smallest, m.last, m.held_out_ratio),
            m.epochs("far"),
            "no seed has the ratios that the law needs",
        ),
        "continuing_beats_scratch": _against_scratch(m, smallest),
        "continuing_matches_union": _against_union(m, smallest),
    }


def _difference(
    more: Mapping[Any, Bounds], less: Mapping[Any, Bounds], epochs: float, note: str = ""
) -> Evidence:
    pairs = paired(more, less)
    if not pairs:
        return nothing("no seed has both")
    beyond = sum(low < high for low, high in pairs)
    said = f"{beyond} of {len(pairs)} seeds lie beyond the grid: bounds" if beyond else ""
    return by_unit(pairs, epochs, "; ".join(one for one in (note, said) if one))


def _numbers(values: Mapping[Any, float], epochs: float, without: str) -> Evidence:
    return by_unit(list(values.values()), epochs) if values else nothing(without)


def _with_size(m: Measured, held_back: int | None) -> Evidence:
    if held_back is None or held_back not in m.sizes:
        return nothing("the largest size did not run")
    far = m.critical("far", held_back)
    return _difference(far, m.critical("far", m.sizes[0]), m.epochs("far"))


def _turned(m: Measured, size: int) -> Evidence:
    """The lesser fall of the two domains, at each seed."""
    falls: list[dict[Any, Bounds]] = [
        falls_at_critical(m.alike[role], m.general, size, m.critical(role, size), m.earlier, m.last)
        for role in ("far", "near")
        if role in m.tables
    ]
    seeds = sorted(set.intersection(*(set(one) for one in falls)))
    if len(falls) < 2 or not seeds:
        return nothing("one of the domains did not run")
    pairs = [
        (min(one[seed][0] for one in falls), min(one[seed][1] for one in falls)) for seed in seeds
    ]
    return by_unit(pairs, m.epochs("far", "near"))


def size_line(m: Measured, role: str, held_back: int, slope: bool = True) -> Line:
    """The critical ratio of a domain at the last horizon, along the sizes below `held_back`."""
    by_size = {size: m.critical(role, size) for size in m.sizes}
    return along_size(by_size, held_back, slope)


def _size_extrapolates(m: Measured, held_back: int | None) -> Evidence:
    if held_back is None or held_back not in m.sizes:
        return nothing("the largest size did not run")
    line = size_line(m, "far", held_back)
    came = m.critical("far", held_back)
    if line.why:
        return nothing(line.why)
    if any(low < high for low, high in came.values()):
        return nothing("a seed of the largest size is censored")
    mean = sum(low for low, _ in came.values()) / len(came)
    error = line.error_against(len(came))
    if not error > 0:
        return nothing("the seeds do not differ at all")
    note = "predicted less measured"
    return estimated(line.predicted - mean, error, line.degrees, m.epochs("far"), note)


def _tokens_extrapolate(m: Measured, size: int) -> Evidence:
    for one in m.late[0].get("far", ()):
        if one.fit.group == {"n_params": size, "eps": m.eps} and m.last in one.errors:
            without = "one seed: no error over seeds"
            return _numbers(one.errors[m.last], m.epochs("far"), without)
    return nothing("too few early horizons without a censored seed, or the last one has one")


def _against_scratch(m: Measured, size: int) -> Evidence:
    """Domain loss of a run from scratch less that of the branch at R = 1, the lesser domain."""
    gains: list[dict[Any, float]] = []
    for role in ("far", "near"):
        corpus = m.domains[role]
        scratch = _ends(m, f"scratch-{role}", corpus)
        branch = (
            branch_losses(m.tables[role], corpus, size, 1.0, m.last) if role in m.tables else {}
        )
        gains.append({seed: scratch[seed] - branch[seed] for seed in set(scratch) & set(branch)})
    seeds = sorted(set(gains[0]) & set(gains[1]))
    worst = {seed: min(one[seed] for one in gains) for seed in seeds}
    roles = ("far", "near", "scratch-far", "scratch-near")
    return _numbers(worst, m.epochs(*roles), "no seed has both a branch and a run from scratch")


def _against_union(m: Measured, size: int) -> Evidence:
    """Mean of general and domain loss, branch at R = 1/2 less union, mean of the two domains."""
    costs: list[dict[Any, float]] = []
    for role in ("far", "near"):
        if role not in m.tables:
            continue
        each: list[dict[Any, float]] = []
        for corpus in (m.general, m.domains[role]):
            union = _ends(m, f"union-{role}", corpus)
            branch = branch_losses(m.tables[role], corpus, size, 0.5, m.last)
            each.append({seed: branch[seed] - union[seed] for seed in set(union) & set(branch)})
        both = set(each[0]) & set(each[1])
        costs.append({seed: (each[0][seed] + each[1][seed]) / 2 for seed in both})
    if len(costs) < 2:
        return nothing("one of the domains did not run")
    seeds = sorted(set(costs[0]) & set(costs[1]))
    mean = {seed: (costs[0][seed] + costs[1][seed]) / 2 for seed in seeds}
    roles = ("far", "near", "union-far", "union-near")
    return _numbers(mean, m.epochs(*roles), "no seed has both a branch and a union")


def _ends(m: Measured, role: str, corpus: str) -> dict[Any, float]:
    found: dict[Any, float] = {}
    for arm in m.arms.get(role, ()):
        found |= end_losses(m.results, arm, corpus)
    return found
