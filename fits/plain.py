"""Values as Python and JSON take them."""

import math
from typing import Any

import numpy as np


def plain(value: Any) -> Any:
    """A NumPy scalar as Python's own; anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def for_json(value: Any) -> Any:
    """A scalar for JSON, which has neither NaN nor infinity: None stands for them, and for NA."""
    import pandas as pd

    value = plain(value)
    if value is pd.NA or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return value


def rows_for_json(rows: list[dict[Any, Any]]) -> list[dict[Any, Any]]:
    """Rows of a table for JSON."""
    return [{key: for_json(value) for key, value in row.items()} for row in rows]
