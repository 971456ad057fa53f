"""Rival laws on one table: which predicts best what it was not fitted to.

The same rows, the same response, the same objective, the same folds. Laws are ranked by the mean
loss, as the objective measures it, of rows left out; the difference to the best is paired row by
row, has its standard error over folds, and is called a tie unless the folds agree on it. Beside it
AICc and BIC, which count parameters instead. A law whose parameters are not identified goes last,
with the reason.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from fits.columns import with_columns
from fits.errors import Refused
from fits.folds import flipped_as_large, mean_over_folds
from fits.form import Law
from fits.holdouts import HoldOut, hold_out
from fits.laws import law as law_named
from fits.plain import for_json
from fits.result import Fit
from fits.table import resolve_columns

if TYPE_CHECKING:
    import pandas as pd

_OWN = ("pin", "bound", "tie", "starts")


@dataclass(frozen=True)
class Rival:
    """One law on the table. `held` is None where it could not be fitted.

    `why` says why it has no rank: another response, refused, not identified. `difference` is the
    mean of its held-out loss less that of the best, `error` the standard error of that over folds,
    `chance` how often random signs of the folds give as large a one; `verdict` is `best`, `tie`,
    `worse`, or empty without a rank.
    """

    law: Law
    held: HoldOut | None
    why: str = ""
    rank: int | None = None
    difference: float = math.nan
    error: float = math.nan
    chance: float = math.nan
    verdict: str = ""

    @property
    def loss(self) -> float:
        """Mean held-out loss, as the objective measures it; NaN where there is none."""
        return math.nan if self.held is None else float(self.held.losses.mean())

    @property
    def free(self) -> int:
        """Free parameters."""
        return len(self.law.names if self.held is None else self.held.whole.problem.free)

    @cached_property
    def aicc(self) -> float:
        """AIC with its correction for few points (Hurvich & Tsai 1989).

        Gaussian likelihood of the residuals, of the logarithm where the objective takes it; the
        variance counts as a parameter. NaN with too few points.
        """
        if self.held is None:
            return math.nan
        points, count = self.held.whole.points, self.free + 1
        if points <= count + 1:
            return math.nan
        return self._deviance + 2 * count + 2 * count * (count + 1) / (points - count - 1)

    @cached_property
    def bic(self) -> float:
        """Schwarz's criterion (1978), of the same likelihood."""
        if self.held is None:
            return math.nan
        return self._deviance + (self.free + 1) * math.log(self.held.whole.points)

    @property
    def _deviance(self) -> float:
        """-2 log likelihood at the variance that suits the residuals best."""
        assert self.held is not None
        whole = self.held.whole
        r = whole.problem.residuals(whole.params)
        square = float(r @ r) / whole.points
        if not 0 < square < math.inf:
            return math.nan
        return whole.points * (math.log(2 * math.pi * square) + 1)

    @property
    def status(self) -> str:
        """That of the fit to all rows, or what keeps the law from being compared."""
        if self.held is None:
            return "not comparable" if self.why.startswith("predicts") else "refused"
        if self.why:
            return "not identified" if self.why.startswith("not identified") else "refused"
        return self.held.whole.status


@dataclass(frozen=True)
class Comparison:
    """Laws in order: the ranked, best first, then those without a rank."""

    rivals: tuple[Rival, ...]
    level: float
    objective: str
    notes: tuple[str, ...]

    @property
    def fits(self) -> dict[str, Fit]:
        """The fit of each law to all rows, by the law's name."""
        return {one.law.name: one.held.whole for one in self.rivals if one.held is not None}

    @property
    def best(self) -> Rival:
        """The first in rank. Raises Refused where no law has a rank."""
        first = self.rivals[0]
        if first.rank is None:
            raise Refused(f"no law can be ranked: {first.law.name} {first.why}")
        return first

    @cached_property
    def table(self) -> "pd.DataFrame":
        """A row a law, in order; NaN where a law has no such number.

        `loss`: mean held-out loss as the objective measures it, per row; `difference`,
        `standard_error` and `chance`: to the best; `rms_relative_error` of held-out rows; `aicc`,
        `bic` less the smallest of the ranked laws.
        """
        import pandas as pd

        lowest = {
            name: min((getattr(r, name) for r in self.rivals if r.rank), default=math.nan)
            for name in ("aicc", "bic")
        }
        rows = []
        for one in self.rivals:
            held = one.held
            rows.append(
                {
                    "rank": one.rank,
                    "law": one.law.name,
                    "points": held.whole.points if held else 0,
                    "free": one.free,
                    "loss": one.loss,
                    "difference": one.difference,
                    "standard_error": one.error,
                    "chance": one.chance,
                    "verdict": one.verdict,
                    "rms_relative_error": held.rms()[0] if held else math.nan,
                    "aicc": one.aicc - lowest["aicc"],
                    "bic": one.bic - lowest["bic"],
                    "status": one.status,
                    "why": one.why,
                }
            )
        return pd.DataFrame(rows).astype({"rank": "Int64"})

    def summary(self) -> str:
        """The ranking as a table for people, with what it rests on."""
        heads = ("rank", "law", "free", "held-out loss", "less the best", "verdict", "rms error")
        cells = [(*heads, "AICc", "BIC", "status")]
        for row in self.table.to_dict("records"):
            rms = row["rms_relative_error"]
            cells.append(
                (
                    "-" if not isinstance(row["rank"], int) else str(row["rank"]),
                    row["law"],
                    str(row["free"]),
                    _number(row["loss"], ".4g"),
                    _difference(row["difference"], row["standard_error"]),
                    row["verdict"] or "-",
                    "-" if math.isnan(rms) else f"{100 * rms:.3g} %",
                    _number(row["aicc"], "+.1f"),
                    _number(row["bic"], "+.1f"),
                    row["status"],
                )
            )
        wide = [max(len(line[k]) for line in cells) for k in range(len(cells[0]))]
        lines = [
            "  ".join(text.ljust(size) for text, size in zip(line, wide, strict=True)).rstrip()
            for line in cells
        ]
        lines += [f"{one.law.name}: {one.why}" for one in self.rivals if one.why]
        return "\n".join([*lines, *(f"note: {one}" for one in self.notes)])

    def to_dict(self) -> dict[str, Any]:
        """For JSON; None where a law has no such number."""
        rows = [
            {key: for_json(value) for key, value in row.items()}
            for row in self.table.to_dict("records")
        ]
        return {
            "objective": self.objective,
            "level": self.level,
            "laws": rows,
            "notes": list(self.notes),
        }


def compare(
    laws: Sequence[str | Law],
    table: "pd.DataFrame",
    *,
    by: str | None = None,
    folds: int | None = None,
    rolling: str | None = None,
    cuts: Sequence[float] | None = None,
    horizon: float = math.inf,
    seed: int = 0,
    columns: Mapping[str, str] | None = None,
    where: str | None = None,
    objective: str | None = None,
    level: float = 0.95,
    rates: Any = None,
    own: Mapping[str, Mapping[str, Any]] | None = None,
) -> Comparison:
    """Rank rival laws on one table by cross-validation.

    What is left out: see `hold_out`; ten folds of rows unless told. The objective is the first
    law's unless told. own: by a law's name, its own `pin`, `bound`, `tie` or `starts`. A law is
    `worse` than the best when random signs of the folds give as large a difference in less than
    half of 1 - `level` of cases (five folds never do so at 95 %), else a `tie`. Raises Refused, of
    a law that reads what the table lacks too.
    """
    chosen = [law_named(one) if isinstance(one, str) else one for one in laws]
    names = [one.name for one in chosen]
    if len(names) < 2 or len(set(names)) < len(names):
        raise Refused(f"compare two or more different laws, not {', '.join(names) or 'none'}")
    rule = objective or chosen[0].objective
    response = chosen[0].response.name
    alike = [one for one in chosen if one.response.name == response]
    options = _options(chosen, columns, own or {})
    table = with_columns(table, columns)
    _refuse_lacking(alike, table, options)
    split: dict[str, Any] = {
        "by": by,
        "folds": folds,
        "rolling": rolling,
        "cuts": cuts,
        "horizon": horizon,
        "seed": seed,
        "where": where,
        "level": level,
    }
    found = []
    for one in chosen:
        if one not in alike:
            why = f"predicts {one.response.name}, not {response}"
            found.append(Rival(one, None, why))
            continue
        curves = {"rates": rates} if one.rates else {}
        try:
            held = hold_out(one, table, objective=rule, **split, **curves, **options[one.name])
        except Refused as refusal:
            found.append(Rival(one, None, str(refusal)))
            continue
        found.append(Rival(one, held, _not_ranked(held)))
    fitted = [one.held for one in found if one.held is not None]
    if not fitted:
        raise Refused(f"no law can be fitted: {found[0].law.name}: {found[0].why}")
    told = "as told" if objective else f"that of {names[0]}"
    return Comparison(_ranked(found, level), level, rule, _notes(fitted[0], rule, told, by, level))


def _options(
    laws: Sequence[Law],
    columns: Mapping[str, str] | None,
    own: Mapping[str, Mapping[str, Any]],
) -> dict[str, dict[str, Any]]:
    """Options of each law alone; columns go to the laws that read them. Raises Refused."""
    read = {
        one.name: {
            one.response.name,
            *(v.name for v in one.variables),
            *(["curve"] if one.rates else []),
        }
        for one in laws
    }
    for variable in columns or {}:
        if not any(variable in some for some in read.values()):
            known = ", ".join(sorted(set().union(*read.values())))
            raise Refused(f"no law has a variable {variable!r}; they have {known}")
    for name, asked in own.items():
        if name not in read:
            raise Refused(f"no law {name!r} is compared; there are {', '.join(read)}")
        for key in asked:
            if key not in _OWN:
                raise Refused(f"{key!r} cannot be a law's own; allowed: {', '.join(_OWN)}")
    return {
        name: {
            **own.get(name, {}),
            "columns": {k: v for k, v in (columns or {}).items() if k in some},
        }
        for name, some in read.items()
    }


def _refuse_lacking(
    laws: Sequence[Law], table: "pd.DataFrame", options: Mapping[str, Mapping[str, Any]]
) -> None:
    """Refuses laws that read what the table lacks, all in one line."""
    said = []
    for one in laws:
        try:
            resolve_columns(one, table, options[one.name]["columns"])
        except Refused as refusal:
            said.append(str(refusal))
    if said:
        raise Refused("; ".join(said))


def _not_ranked(held: HoldOut) -> str:
    """Why a law has no rank, or nothing."""
    unknown = held.whole.identified.unidentified
    if unknown:
        return f"not identified: {unknown}"
    refused = [one for one in held.folds if one.fit is None]
    if refused:
        return f"without {refused[0].name} {refused[0].why}"
    if not np.isfinite(held.losses).all():
        return "predicts held-out rows at which the objective has no value"
    return ""


def _ranked(rivals: Sequence[Rival], level: float) -> tuple[Rival, ...]:
    ranked = sorted((one for one in rivals if not one.why), key=lambda one: one.loss)
    out = []
    for k, one in enumerate(ranked):
        if k == 0:
            out.append(replace(one, rank=1, difference=0.0, error=0.0, chance=1.0, verdict="best"))
            continue
        assert one.held is not None
        assert ranked[0].held is not None
        pairs = one.held.losses - ranked[0].held.losses  # the same rows in the same order
        difference, error = mean_over_folds(pairs, one.held.fold_of)
        chance = flipped_as_large(pairs, one.held.fold_of)
        verdict = "worse" if chance <= (1 - level) / 2 else "tie"
        out.append(
            replace(
                one, rank=k + 1, difference=difference, error=error, chance=chance, verdict=verdict
            )
        )
    return (*out, *(one for one in rivals if one.why))


def _notes(held: HoldOut, rule: str, told: str, by: str | None, level: float) -> tuple[str, ...]:
    whole = held.whole
    scale = "the logarithm's residuals" if whole.problem.objective.log else "the residuals"
    notes = [
        f"{whole.points} rows; held out: {held.how}; objective of all: {rule} ({told})",
        f"worse: random signs of the folds give as large a difference in at most "
        f"{100 * (1 - level) / 2:g} % of cases; else a tie",
        f"AICc, BIC: less the smallest; Gaussian likelihood of {scale}",
    ]
    if whole.problem.objective.loss != "squares":
        notes.append(f"{rule} is not its likelihood: AICc and BIC are a guide")
    if by:
        notes.append(f"AICc and BIC take rows of one {by} as independent")
    return (*notes, *(f"left out: {one}" for one in whole.exclusions))


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def _difference(difference: float, error: float) -> str:
    if math.isnan(difference) or difference == 0 == error:
        return "-"
    return f"{difference:.2g} +- {error:.1g}"
