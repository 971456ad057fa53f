"""Weights & Biases: its own files (`run-ID.wandb`), and the table that its page exports of a chart.

Field numbers are those of wandb_internal.proto, checked against files of wandb 0.31.
"""

import json
import struct
from typing import TYPE_CHECKING, Any

from fits.errors import Refused
from fits.logs.log import Log, scalars
from fits.logs.wire import Damaged, fields, level_records, nested, signed, text, whole

if TYPE_CHECKING:
    import pandas as pd

MAGIC, HEAD = b":W&B\xe1\xbe", 7
_HISTORY, _CONFIG, _RUN = 2, 5, 17  # of Record
LOWEST, HIGHEST = "__MIN", "__MAX"


def read_run(content: bytes, log: Log) -> str | None:
    """Put a run's file into a log, under the name that it has there. Says what was not read."""
    if not content.startswith(MAGIC):
        return "it does not begin as W&B's files do"
    try:
        for record in level_records(content, HEAD):
            for number, value in fields(record):
                if not isinstance(value, bytes):
                    continue
                if number == _HISTORY:
                    _put(value, log)
                elif number == _CONFIG:
                    _configure(value, log)
                elif number == _RUN:
                    log.key = text(value, 1) or log.name
                    log.name = text(value, 8) or log.key
                    for config in nested(value, 4):
                        _configure(config, log)
    except Damaged as damage:
        return f"{damage}; the rest is not read"
    return None


def _put(history: bytes, log: Log) -> None:
    row = {}
    for item in nested(history, 1):
        value = _value(item)
        if value is not None:
            row[_name(item)] = value
    step = next((whole(one, 1) for one in nested(history, 2)), 0)
    log.put_row({name: one for name, one in row.items() if not name.startswith("_")}, step)


def _configure(config: bytes, log: Log) -> None:
    for item in nested(config, 1):
        name, value = _name(item), _value(item)
        if not name.startswith("_"):
            log.settings |= scalars({name: value})


def _name(item: bytes) -> str:
    """Key, or nested keys, of an item."""
    return text(item, 1) or "/".join(one.decode("utf-8", "replace") for one in nested(item, 2))


def _value(item: bytes) -> Any:
    """What an item says, as JSON; None where that cannot be read."""
    for number, value in fields(item):
        if number == 16 and isinstance(value, bytes):
            try:
                return json.loads(value)
            except (ValueError, RecursionError):
                return None
        if number == 5 and isinstance(value, int):
            return signed(value)
        if number == 6 and isinstance(value, bytes):
            return struct.unpack("<d", value)[0]
    return None


def is_chart(names: list[str]) -> bool:
    """Whether these are the columns of a chart's CSV: `RUN - KEY`, with its __MIN and __MAX."""
    return any(
        " - " in name and f"{name}{LOWEST}" in names and f"{name}{HIGHEST}" in names
        for name in names
    )


def unfold_chart(wide: "pd.DataFrame") -> tuple["pd.DataFrame", list[str]]:
    """(a row a run and place: run, step, a column a key; what a reader must know). Refused.

    The page gives a column a run, and of runs of more points than it shows, means of neighbours.
    """
    import pandas as pd

    names = [str(name) for name in wide.columns]
    wide = wide.set_axis(names, axis=1)
    curves = [n for n in names if " - " in n and not n.endswith((LOWEST, HIGHEST))]
    place = next((n for n in names if " - " not in n), None)
    if place is None:
        raise Refused("a chart's table from W&B, but without a first column of steps")
    called = "step" if place == "Step" else place
    parts: dict[str, list[pd.DataFrame]] = {}
    means = 0
    for name in curves:
        run, _, key = name.rpartition(" - ")
        if key.startswith("_"):  # W&B's own, such as RUN - _step
            continue
        part = pd.DataFrame({"run": run, called: wide[place], key: wide[name]}).dropna(subset=[key])
        parts.setdefault(key, []).append(part)
        if f"{name}{LOWEST}" in names and f"{name}{HIGHEST}" in names:
            means += int((wide[f"{name}{LOWEST}"] < wide[f"{name}{HIGHEST}"]).sum())
    frame: pd.DataFrame | None = None
    for each in parts.values():
        long = pd.concat(each, ignore_index=True).drop_duplicates(["run", called], keep="last")
        frame = long if frame is None else frame.merge(long, on=["run", called], how="outer")
    if frame is None or frame.empty:
        raise Refused("a chart's table from W&B that holds no values")
    runs = {run: k for k, run in enumerate(dict.fromkeys(n.rpartition(" - ")[0] for n in curves))}
    frame = frame.sort_values(["run", called], key=lambda c: c.map(runs) if c.name == "run" else c)
    said = [f"a chart's table from W&B: {len(runs)} runs, now a row a run and {called}"]
    if means:
        said.append(
            f"{means} of its values are W&B's means of several steps (MIN and MAX differ): export "
            "the history by wandb.Api for exact ones"
        )
    return frame.reset_index(drop=True), said
