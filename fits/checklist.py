"""The checklist of "(Mis)fitting: a survey of scaling laws" (Li et al., 2502.18969), answered.

Its four headings, with its questions in our words. What a fit knows is read off the fits; what the
training knows is told by whoever trained (`TRAINING`, `COLLECTION`, by key). A question to which
nobody recorded an answer says so.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fits.engine.objective import objective
from fits.result import Fit

NOT_KNOWN = "Not recorded."
NO_LAW = (
    "No law fitted by `fits.fit` is among the findings. Captions of tables say how other numbers "
    "in them were found."
)
HYPOTHESIS, SET_UP, DATA, FITTING = (
    "Form of the law",
    "Training",
    "Collection of the data",
    "Fit",
)

# questions that are answered from outside this package: key -> question
TRAINING = {
    "models": "How many models were trained, of which sizes?",
    "tokens": "On how many tokens each?",
    "corpora": "On which data?",
    "repeated": "Is data repeated within the training of a model?",
    "counted": "How are parameters, tokens and compute counted?",
    "hyperparameters": "Which hyperparameters, and do they change with scale?",
    "shape": "Which other choices (width against depth, context), and do they change with scale?",
    "seeds": "How many seeds?",
    "code": "Is the code open, and which version ran?",
}
COLLECTION = {
    "checkpoints": "Are checkpoints there, and open?",
    "states": "How many states of a model are evaluated, which of them enter a fit?",
    "metric": "Which metric, on which data?",
    "modified": "Were metrics changed before the fit (smoothed, interpolated, averaged, shifted)?",
}


@dataclass(frozen=True)
class Item:
    """A question and its answer, a line each; `known`: whether there is one."""

    heading: str
    question: str
    answer: tuple[str, ...]
    known: bool = True


def checklist(fits: Sequence[Fit], told: Mapping[str, str]) -> list[Item]:
    """Every question in its order. `told`: answers by key of TRAINING and COLLECTION."""
    return [
        *_of_fits(HYPOTHESIS, fits, _FORM),
        *(_told(SET_UP, question, told.get(key)) for key, question in TRAINING.items()),
        *(_told(DATA, question, told.get(key)) for key, question in COLLECTION.items()),
        *_of_fits(FITTING, fits, _HOW),
    ]


def _told(heading: str, question: str, answer: str | None) -> Item:
    return Item(heading, question, (answer or NOT_KNOWN,), bool(answer))


def _of_fits(
    heading: str,
    fits: Sequence[Fit],
    questions: Mapping[str, Callable[[Sequence[Fit]], Iterable[str]]],
) -> list[Item]:
    if not fits:
        return [Item(heading, "All questions", (NO_LAW,))]
    return [Item(heading, one, tuple(dict.fromkeys(says(fits)))) for one, says in questions.items()]


def _by_law(fits: Sequence[Fit]) -> dict[str, list[Fit]]:
    found: dict[str, list[Fit]] = {}
    for one in fits:
        found.setdefault(one.law.formula, []).append(one)
    return found


# Form -----------------------------------------------------------------------------------------


def _formulas(fits: Sequence[Fit]) -> Iterable[str]:
    for own in _by_law(fits).values():
        law = own[0].law
        yield f"{law.title}: {law.formula} ({_count(len(own), 'fit')})"


def _variables(fits: Sequence[Fit]) -> Iterable[str]:
    for own in _by_law(fits).values():
        law = own[0].law
        names = ", ".join(f"{one.name} ({one.unit})" for one in law.variables)
        yield f"{law.name}: {law.response.name} ({law.response.unit}) in {names}"


def _parameters(fits: Sequence[Fit]) -> Iterable[str]:
    for own in _by_law(fits).values():
        first = own[0]
        free = [name for name in first.params if name not in {*first.pinned, *first.tied}]
        line = f"{first.law.name}: {', '.join(free)}"
        if first.pinned:
            line += "; pinned: " + ", ".join(f"{k} = {v:g}" for k, v in first.pinned.items())
        if first.tied:
            line += "; tied: " + ", ".join(f"{k} = {v}" for k, v in first.tied.items())
        yield line


def _sources(fits: Sequence[Fit]) -> Iterable[str]:
    for own in _by_law(fits).values():
        yield f"{own[0].law.name}: as in {own[0].law.source}; not derived here"


# Fit ------------------------------------------------------------------------------------------


def _objectives(fits: Sequence[Fit]) -> Iterable[str]:
    for own in _by_law(fits).values():
        kinds = ", ".join(sorted({one.objective for one in own}))
        yield f"{own[0].law.name}: {kinds}, summed over points, unweighted"


def _optimiser(fits: Sequence[Fit]) -> Iterable[str]:
    from fits.engine.solve import PRECISION

    for one in fits:
        then = ", then linear programs" if objective(one.objective).kinked else ""
        yield f"Levenberg-Marquardt with exact gradients{then}, relative precision {PRECISION:g}"


def _starts(fits: Sequence[Fit]) -> Iterable[str]:
    for own in _by_law(fits).values():
        few = min(own, key=lambda one: one.agree / one.starts)
        yield (
            f"{own[0].law.name}: {_range(one.starts for one in own)} starts, every combination of "
            f"each parameter's; at worst {few.agree} of {few.starts} end at the best value"
        )


def _points(fits: Sequence[Fit]) -> Iterable[str]:
    for own in _by_law(fits).values():
        held = sum(len(one.held_out) for one in own)
        out = "; ".join(dict.fromkeys(text for one in own for text in one.exclusions))
        line = f"{own[0].law.name}: {_range(one.points for one in own)} points a fit"
        line += f", {_count(held, 'row')} held out" if held else ", none held out"
        yield f"{line}; left out: {out}" if out else f"{line}; none left out"


def _correct(fits: Sequence[Fit]) -> Iterable[str]:
    for own in _by_law(fits).values():
        law = own[0].law
        line = f"{law.name}: residual rms {_range(one.residual_rms for one in own)} "
        line += law.response.unit
        errors = [one.max_relative_error for one in own if one.max_relative_error is not None]
        if errors:
            line += f"; worst error of a held-out row {100 * max(errors):.2g} %"
        status = Counter(one.status for one in own)
        yield f"{line}; {', '.join(f'{count} {name}' for name, count in status.items())}"


def _intervals(fits: Sequence[Fit]) -> Iterable[str]:
    for own in _by_law(fits).values():
        methods = {i.method for one in own for i in one.intervals.values() if i.method != "none"}
        level = ", ".join(f"{100 * one:g} %" for one in sorted({one.level for one in own}))
        line = f"{own[0].law.name}: {level}, {', '.join(sorted(methods)) or 'none'}"
        draws = max(len(one.draws) for one in own)
        yield f"{line}, up to {draws:,} draws" if draws else line


def _range(values: Iterable[float]) -> str:
    """The least and the most, once where they are one."""
    known = sorted(f"{one:.3g}" if isinstance(one, float) else f"{one:,}" for one in set(values))
    if len(known) < 2:
        return "".join(known)
    ordered = sorted(known, key=lambda text: float(text.replace(",", "")))
    return f"{ordered[0]} .. {ordered[-1]}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


_FORM = {
    "What is the form?": _formulas,
    "Which variables does it relate, in which units?": _variables,
    "Which parameters are fitted?": _parameters,
    "On what does the form rest?": _sources,
}
_HOW = {
    "Which objective?": _objectives,
    "Which algorithm, with which settings?": _optimiser,
    "How is it initialised?": _starts,
    "Were all points used?": _points,
    "How is the fit checked (goodness, held out, extrapolation)?": _correct,
    "How are intervals found?": _intervals,
}
