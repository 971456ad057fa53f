"""Values for JSON: NumPy's scalars become Python's, what JSON lacks becomes null."""

import json

import numpy as np
import pandas as pd
import pytest

from fits.plain import for_json, plain, rows_for_json


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float64(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.float32("inf"), None),
        (float("nan"), None),
        (pd.NA, None),
        (None, None),
        ("nan", "nan"),
    ],
)
def test_a_scalar_is_what_json_can_say(value: object, expected: object) -> None:
    found = for_json(value)
    assert (found, type(found)) == (expected, type(expected))
    json.dumps(found, allow_nan=False)


def test_plain_keeps_what_python_can_say() -> None:
    assert plain(np.float64("inf")) == float("inf")
    assert type(plain(np.int64(3))) is int


def test_rows_of_a_table_go_through() -> None:
    table = pd.DataFrame({"a": [1, 2], "b": [np.inf, 0.5]})
    assert rows_for_json(table.to_dict("records")) == [{"a": 1, "b": None}, {"a": 2, "b": 0.5}]
