"""A file or a folder of logs, whichever trackers wrote them, as one table."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fits.errors import Refused
from fits.logs.json_log import read_lines, read_trainer_state
from fits.logs.log import Log, some, table_of
from fits.logs.tensorboard import read_events
from fits.logs.wandb import read_run

if TYPE_CHECKING:
    import pandas as pd

KINDS = (
    "TensorBoard's event files (*tfevents*), W&B's run files (*.wandb), JSON lines (*.jsonl), "
    "trainer_state.json of Hugging Face"
)
STATE = "trainer_state.json"
Reader = Callable[[bytes, Log], str | None]


def reader_of(name: str) -> Reader | None:
    """How a log of this file name is read, or None of a file that is no log."""
    if "tfevents" in name and not name.startswith("."):
        return read_events
    if name.endswith(".wandb"):
        return read_run
    if name.endswith(".jsonl"):
        return read_lines
    return read_trainer_state if name == STATE else None


def read_logs(path: Path) -> tuple["pd.DataFrame", list[str]]:
    """(a row a run and step, what a reader must know) of a log or of a folder of logs. Refused.

    A run is a folder, called by its path below `path`; of several .jsonl in one folder each is a
    run, and a line that names its `run` is of that; a run of W&B has the name it was given;
    `checkpoint-N` of Hugging Face is of the run above.
    Columns: run, step, the settings that were logged, and every number that was, as it was called.
    """
    files = _files(path)
    if not files:
        raise Refused(f"{path} holds no logs that can be read: {KINDS}{_other(path)}")
    logs: dict[str, Log] = {}
    said = []
    for file, name in files:
        own = Log(name)
        reader = reader_of(file.name)
        assert reader is not None
        try:
            trouble = reader(file.read_bytes(), own)
        except OSError as error:
            raise Refused(f"cannot read {file}: {error.strerror}") from None
        if trouble:
            said.append(f"{file.relative_to(path.parent)}: {trouble}")
        for one in (own, *own.parts.values()):
            _add(logs, one)
    said += _settle(logs)
    if "." in logs:
        logs["."].name = path.resolve().name
    try:
        frame, more = table_of(logs.values())
    except Refused as refusal:
        raise Refused("; ".join([f"{path}: {refusal}", *said])) from None
    return frame, [*said, *more]


def _add(logs: dict[str, Log], own: Log) -> None:
    """A run goes on in another file: what that says of a step counts."""
    key = own.key or own.name
    if key not in logs:
        logs[key] = own
        return
    there = logs[key]
    there.settings |= own.settings
    there.replaced += own.replaced
    for name, step in own.lost.items():
        there.lost.setdefault(name, step)
    for step, values in own.steps.items():
        for name, value in values.items():
            there.put(step, name, value)


def _settle(logs: dict[str, Log]) -> list[str]:
    """Names as a table needs them. SummaryWriter.add_hparams writes a run of its own below the run
    that it describes; runs of W&B may have one name."""
    moved = []
    for name in list(logs):
        above = os.path.dirname(name) or "."
        if logs[name].settings and above != name and above in logs and len(logs[name].steps) <= 1:
            own = logs.pop(name)
            logs[above].settings = {**own.settings, **logs[above].settings}
            moved.append(name)
    names = [log.name for log in logs.values()]
    for log in logs.values():
        if names.count(log.name) > 1:
            log.name = f"{log.name} ({log.key})" if log.key else log.name
    if not moved:
        return []
    return [f"hyperparameters are taken into the run above them: {some(moved)}"]


def _files(path: Path) -> list[tuple[Path, str]]:
    """(log, the run that it is of), in the order in which they were written."""
    if not path.is_dir():
        named_by_folder = path.name == STATE or "tfevents" in path.name
        return [(path, path.resolve().parent.name if named_by_folder else path.stem)]
    found = []
    for folder, below, names in os.walk(path):
        below.sort()
        logs = [name for name in names if reader_of(name)]
        lines = [name for name in logs if name.endswith(".jsonl")]
        run = Path(folder).relative_to(path).as_posix()
        for name in logs:
            called = f"{run}/{Path(name).stem}" if name in lines and len(lines) > 1 else run
            found.append((Path(folder, name), called.removeprefix("./")))
    return sorted(_of_trainers(found), key=lambda one: _age(one[0]))


def _of_trainers(found: list[tuple[Path, str]]) -> Iterator[tuple[Path, str]]:
    for file, run in found:
        if file.name == STATE and Path(run).name.startswith("checkpoint-"):
            run = Path(run).parent.as_posix()
        yield file, run


def _age(file: Path) -> tuple[str, int, str]:
    """By folder, a checkpoint's by its number; event files by name, which begins with the time."""
    _, dash, number = file.parent.name.rpartition("checkpoint-")
    if dash and number.isdecimal():  # the trainer's last state, above, has all of theirs
        return str(file.parent.parent), int(number), file.name
    return str(file.parent), 2**63, file.name


def _other(path: Path) -> str:
    tables = (
        []
        if not path.is_dir()
        else sorted(one.name for one in path.iterdir() if one.suffix in (".csv", ".parquet"))
    )
    return f"; name the table itself: {path / tables[0]}" if tables else ""
