"""A study: a question, the sweep that can answer it, and how its table is read.

Built-in studies are the modules of `sweeps.studies`; any Python file with a `STUDY` works too. Such
a file is code, and is only ever run when it is named.
"""

import dataclasses
import importlib
import pkgutil
import shlex
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sweeps.studies
from lab.errors import Refused, meant
from lab.spec import read
from sweeps.foresight import Foreseen
from sweeps.grid import get_field, parse_value, plain
from sweeps.sweep import Sweep
from sweeps.target import Target
from sweeps.vocabulary import with_vocabulary

if TYPE_CHECKING:
    import pandas as pd

    from fits.report import Findings
    from fits.verdicts import Claim

SCALES = ("smoke", "tiny", "small", "paper")


@dataclass(frozen=True)
class Study:
    """One question.

    `settings(scale)` gives a frozen dataclass of what the study itself can be told (`--set`);
    `sweep(settings, scale)` the runs; `read(results, settings, sweep)` the findings;
    `cautions(settings, sweep)` what this design cannot identify, said before anything runs; it
    raises Refused where the study could read nothing. `foresees(settings, sweep)` the fits it will
    make, under a stated prior, from which follow the intervals that the design can give.

    `claims(settings, sweep)` are its statements, which the findings' evidence is held against
    (`fits.verdicts`). Arms of `later(settings, sweep)` are trained only once `predict(results,
    settings, sweep)` of the other arms is on disk (`sweeps.foretold`).
    `targets` are the numbers that `lab run --until` can narrow, by name.
    """

    name: str
    title: str
    question: str
    settings: Callable[[str], Any]
    sweep: Callable[[Any, str], Sweep]
    read: "Callable[[pd.DataFrame, Any, Sweep], Findings]"
    cautions: Callable[[Any, Sweep], list[str]]
    scales: tuple[str, ...] = SCALES
    default_scale: str = "tiny"
    foresees: Callable[[Any, Sweep], Foreseen] = lambda settings, sweep: Foreseen()
    claims: "Callable[[Any, Sweep], tuple[Claim, ...]]" = lambda settings, sweep: ()
    later: Callable[[Any, Sweep], tuple[str, ...]] = lambda settings, sweep: ()
    predict: "Callable[[pd.DataFrame, Any, Sweep], pd.DataFrame] | None" = None
    targets: Mapping[str, Target] = field(default_factory=dict)


def built_in() -> dict[str, str]:
    """Name -> module of every built-in study."""
    found = pkgutil.iter_modules(sweeps.studies.__path__)
    return {one.name: f"{sweeps.studies.__name__}.{one.name}" for one in found}


def find_study(name: str) -> Study:
    """A built-in study by name, or the one in a Python file. Raises Refused."""
    known = built_in()
    if name in known:
        module = importlib.import_module(known[name])
    elif name.endswith(".py"):
        if not Path(name).is_file():
            raise Refused(f"no study file {name}")
        from fits.own import run_file

        module = run_file(name)
    else:
        raise Refused(
            f"unknown study {name!r}; known: {', '.join(known)}, or a .py file{meant(name, known)}"
        )
    study = getattr(module, "STUDY", None)
    if not isinstance(study, Study):
        raise Refused(f"{name} defines no STUDY")
    return study


def ask(
    study: Study, scale: str | None = None, sets: Iterable[str] = (), axes: Iterable[str] = ()
) -> tuple[Any, Sweep]:
    """(settings, sweep) of a study at a scale, with `key=value` and axis changes. Raises Refused.

    `key=value` sets one of the study's settings, else a field of every run; `path=v1,v2` replaces
    the values of an axis and `path+=v` adds to them. Models have the vocabulary of the corpora's
    tokenizer (`sweeps.vocabulary`).
    """
    scale = scale or study.default_scale
    if scale not in study.scales:
        hint = meant(scale, study.scales)
        raise Refused(f"unknown scale {scale!r}; {study.name} has {', '.join(study.scales)}{hint}")
    settings = study.settings(scale)
    names = [field.name for field in dataclasses.fields(settings)]
    fields: list[tuple[str, str, bool]] = []
    for change in sets:
        key, text, extend = _split(change, "--set key=value")
        if key in names:
            settings = _with_setting(settings, key, text, extend)
        else:
            fields.append((key, text, extend))
    sweep = study.sweep(settings, scale)
    for key, text, extend in fields:
        _refuse_unknown(sweep, key, names)
        if extend:
            raise Refused(f"{key}: takes one value; write {key}={text}")
    # together: some fields are allowed only beside others
    sweep = sweep.with_fields({key: text for key, text, _ in fields})
    for change in axes:
        path, text, extend = _split(change, "--axis path=v1,v2")
        sweep = sweep.with_axis(path, text, extend)
    return settings, with_vocabulary(sweep, {key for key, _, _ in fields})


def command_of(study: Study, settings: Any, sweep: Sweep) -> str:
    """The `lab run` that asks for this sweep again; a second line where `--set` of the study's own
    settings do not give it (axes, or fields of runs, were changed as well)."""
    usual = study.settings(sweep.scale)
    sets = [
        f"{one.name}={_typed(getattr(settings, one.name))}"
        for one in dataclasses.fields(settings)
        if getattr(settings, one.name) != getattr(usual, one.name)
    ]
    name = study.name if study.name in built_in() else f"{study.name}.py"
    words = ["lab", "run", name, "--scale", sweep.scale]
    command = shlex.join([*words, *(word for one in sets for word in ("--set", one))])
    try:
        again = (
            ask(study, sweep.scale, sets) if all(not one.endswith("=") for one in sets) else None
        )
    except Refused:
        again = None
    if again is not None and again[0] == settings and again[1].to_json() == sweep.to_json():
        return command
    return f"{command}\n# and the --set or --axis of runs that it was asked with: see sweep.json"


def _typed(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _split(change: str, form: str) -> tuple[str, str, bool]:
    key, equals, text = change.partition("=")
    if not equals or not key.rstrip("+") or not text:
        raise Refused(f"{change!r}: must read {form}")
    return key.rstrip("+").strip(), text.strip(), key.endswith("+")


def _with_setting(settings: Any, key: str, text: str, extend: bool) -> Any:
    kind = typing.get_type_hints(type(settings))[key]
    now = getattr(settings, key)
    value: Any
    if isinstance(now, tuple):
        item = typing.get_args(kind)[0]
        example: Any = "" if item is str else item()
        value = [parse_value(key, example, one.strip()) for one in text.split(",")]
        value = [*now, *(one for one in value if one not in now)] if extend else value
    elif extend:
        raise Refused(f"{key}: takes one value; write {key}={text}")
    else:
        value = parse_value(key, now, text)
    return dataclasses.replace(settings, **{key: read(kind, value, key)})


def _refuse_unknown(sweep: Sweep, key: str, names: list[str]) -> None:
    try:
        for grid in sweep.arms.values():
            get_field(plain(grid.base), key)
    except Refused as refusal:
        if "." in key:
            raise
        known = ", ".join(names)
        raise Refused(
            f"unknown key {key!r}; the study's settings are {known}, or a field of a run such as "
            f"optimizer.weight_decay{meant(key, names)}"
        ) from refusal
