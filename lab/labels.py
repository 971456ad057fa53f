"""Labels of documents: what a user's columns say of them, as numbers that an order can sort by."""

import datetime
import math
from collections.abc import Callable
from typing import Any

from lab.errors import Refused

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def label(value: Any, column: str, where: Callable[[], str]) -> float:
    """A label as a number: numbers as they are, dates in days since 1970 (UTC). Raises Refused."""
    number: float | None = None
    if isinstance(value, datetime.datetime):
        number = _days(value)
    elif isinstance(value, datetime.date):
        number = _days(datetime.datetime(value.year, value.month, value.day))
    elif isinstance(value, str):
        number = _read_label(value.strip())
    elif value is not None and not isinstance(value, list | dict):
        number = _as_float(value)
    if number is None or not math.isfinite(number):
        raise Refused(
            f"{where()}: column {column!r} holds {shown(value)}: a label is a finite number or an "
            f"ISO date (choose columns with --keep)"
        )
    return number


def _read_label(text: str) -> float | None:
    number = _as_float(text)
    if number is not None:
        return number
    try:
        return _days(datetime.datetime.fromisoformat(text))
    except ValueError:
        return None


def _as_float(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _days(moment: datetime.datetime) -> float:
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return (moment - _EPOCH).total_seconds() / 86_400


def shown(value: Any) -> str:
    """A value for a refusal, cut short."""
    written = repr(value)
    return written if len(written) <= 40 else written[:37] + "..."
