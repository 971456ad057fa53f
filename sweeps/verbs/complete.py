"""What the Tab key offers: names of studies, laws, scales, corpora, figures, columns, `--set` keys.

argcomplete knows the verbs and options; here are the names that only the lab knows. Everything is
read without JAX and without running anything: a study's settings are read from its source, since a
file of one's own is only ever run when a command names it.
"""

import argparse
import ast
import csv
import dataclasses
import importlib.util
import json
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import sweeps.studies
from lab.spec import ModelSpec, OptimizerSpec, RunSpec

SCALES = ("smoke", "tiny", "small", "paper")
METHODS = ("akima", "parabola", "envelope")
INNER = {"model": ModelSpec, "optimizer": OptimizerSpec}
LAYOUT = ("data=", "fsdp=", "tensor=", "run=")

Completer = Callable[..., Iterable[str]]


def studies(**told: Any) -> list[str]:
    """Built-in studies, and Python files here and in folders that are begun."""
    return [one.name for one in pkgutil.iter_modules(sweeps.studies.__path__)]


def study_or_file(prefix: str, **told: Any) -> list[str]:
    """Studies by name, or the path of a Python file."""
    return [*studies(), *_files(prefix, (".py",))]


def setting_keys(parsed_args: argparse.Namespace, **told: Any) -> list[str]:
    """`KEY=` of the study's settings, and of the fields of a run."""
    keys = [*_settings(str(parsed_args.study)), *_run_fields()]
    return [f"{key}=" for key in keys]


def axis_paths(**told: Any) -> list[str]:
    """`PATH=` of the fields of a run."""
    return [f"{key}=" for key in _run_fields()]


def laws(prefix: str, **told: Any) -> list[str]:
    """Laws, after a comma too."""
    from fits.laws import all_laws

    before, comma, _ = prefix.rpartition(",")
    return [f"{before}{comma}{one.name}" for one in all_laws()]


def corpora(**told: Any) -> list[str]:
    """Corpora, the user's own among them."""
    from lab.corpora import known_names

    return known_names()


def figures(parsed_args: argparse.Namespace, **told: Any) -> list[str]:
    """Figures that a folder holds, or the fits of a file."""
    source = Path(parsed_args.source)
    if source.is_dir():
        return sorted({file.stem for file in (source / "figures").iterdir()})
    return fit_names(source)


def names_of_fits(parsed_args: argparse.Namespace, **told: Any) -> list[str]:
    """Names and laws of the fits of a file."""
    return fit_names(Path(parsed_args.fit))


def fit_names(file: Path) -> list[str]:
    """Names and laws in a file that `lab fit --to` or a study wrote; none where it is none."""
    fits = json.loads(file.read_text(encoding="utf-8"))["fits"]
    return sorted({str(one[key]) for one in fits for key in ("name", "law") if one.get(key)})


def columns(parsed_args: argparse.Namespace, **told: Any) -> list[str]:
    """Columns of the table that was named."""
    table = Path(parsed_args.table)
    if table.suffix == ".csv":
        with table.open(newline="", encoding="utf-8") as file:
            return next(csv.reader(file))
    from pyarrow import parquet

    return list(parquet.read_schema(table).names)


def folders(prefix: str, **told: Any) -> list[str]:
    """Folders, and those of the runs."""
    before, slash, _ = prefix.rpartition("/")
    found = [one for one in Path(before + slash or ".").iterdir() if one.is_dir()]
    ended = [f"{before}{slash}{one.name}" for one in found if not one.name.startswith(".")]
    return [one if (Path(one) / "sweep.json").exists() else f"{one}/" for one in ended]


def tables(prefix: str, **told: Any) -> list[str]:
    """Tables of losses."""
    return _files(prefix, (".csv", ".parquet"))


def fit_files(prefix: str, **told: Any) -> list[str]:
    """Files of fits."""
    return _files(prefix, (".json",))


def _files(prefix: str, endings: tuple[str, ...]) -> list[str]:
    """Files below `prefix` that end so, and the folders on the way."""
    before, slash, _ = prefix.rpartition("/")
    found = []
    for one in Path(before + slash or ".").iterdir():
        if one.is_dir() and not one.name.startswith("."):
            found.append(f"{before}{slash}{one.name}/")
        elif one.suffix in endings:
            found.append(f"{before}{slash}{one.name}")
    return found


def _settings(study: str) -> list[str]:
    """Fields of what a study's `settings` returns, or of its class `Settings`, from its source."""
    file = Path(study)
    if not study.endswith(".py"):
        found = importlib.util.find_spec(f"{sweeps.studies.__name__}.{study}")
        if found is None or found.origin is None:
            return []
        file = Path(found.origin)
    code = ast.parse(file.read_text(encoding="utf-8")).body
    name = "Settings"
    for one in code:
        if isinstance(one, ast.FunctionDef) and one.name == "settings" and one.returns:
            name = ast.unparse(one.returns)
    body = [one.body for one in code if isinstance(one, ast.ClassDef) and one.name == name]
    return [
        field.target.id
        for field in (body[0] if body else [])
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    ]


def _run_fields() -> Iterator[str]:
    """Fields of a run that take one value; those of its phases differ from study to study."""
    for field in dataclasses.fields(RunSpec):
        if field.name in INNER:
            inner = dataclasses.fields(INNER[field.name])
            yield from (f"{field.name}.{part.name}" for part in inner)
        elif field.name != "phases":
            yield field.name


# By the word that an argument has in help, or the option's name.
COMPLETERS: dict[str, Completer] = {
    "STUDY": study_or_file,
    "--scale": lambda **told: SCALES,
    "--set": setting_keys,
    "--axis": axis_paths,
    "--mesh": lambda **told: LAYOUT,
    "DIR": folders,
    "OTHER": folders,
    "LAW[,LAW...]": laws,
    "TABLE": tables,
    "FIT": fit_files,
    "FIT|DIR": fit_files,
    "METHOD": lambda **told: METHODS,
    "--figure": figures,
    "--name": names_of_fits,
    "--per": columns,
    "--by": columns,
    "--where": columns,
    "--holdout": columns,
    "--leave-out": columns,
    "--rolling": columns,
    "CORPUS": corpora,
    "--out": folders,
}


def offer(top: argparse.ArgumentParser) -> None:
    """Answer the shell, if it asks what could follow; does not return then."""
    import argcomplete

    for parser in parsers(top):
        for action in parser._actions:
            words = (*action.option_strings, str(action.metavar))
            known = next((COMPLETERS[word] for word in words if word in COMPLETERS), None)
            if known is not None:
                action.completer = known  # type: ignore[attr-defined]  # where argcomplete looks
    argcomplete.autocomplete(top, always_complete_options=False)


def parsers(top: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and those of all its verbs, in the order they were declared."""
    yield top
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                yield from parsers(one)
