"""JSON lines (a row a line), and the `trainer_state.json` of Hugging Face's Trainer."""

import json
from typing import Any

from fits.logs.log import Log


def read_lines(content: bytes, log: Log) -> str | None:
    """Put lines of JSON objects into a log; without a step of their own, by their number.

    Says how many lines could not be read, if any.
    """
    bad, first = 0, 0
    lines = content.decode("utf-8", "replace").splitlines()
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        row = _object(line)
        if row is None:
            bad, first = bad + 1, first or number + 1
        else:
            log.put_row(row, number)
    return f"{bad} lines are no JSON objects, the first is line {first}" if bad else None


def read_trainer_state(content: bytes, log: Log) -> str | None:
    """Put `log_history` into a log. Says what could not be read, if so."""
    tree = _object(content.decode("utf-8", "replace"))
    history = (tree or {}).get("log_history")
    if not isinstance(history, list):
        return "it has no log_history"
    for number, row in enumerate(history):
        if isinstance(row, dict):
            log.put_row(row, number)
    return None


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
