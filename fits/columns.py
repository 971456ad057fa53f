"""Where a law's variables are in a table: a column, or arithmetic on columns.

`n_tokens=step*524288`, `n_params=total - embedding`, `loss_nats=bits * .6931`. Parsed here, never
evaluated: columns and numbers, joined by * / + - with the usual precedence, no parentheses. A
column is known by its name, whatever characters that has (`train/loss`); the longest name counts.
"""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from fits.errors import Refused

if TYPE_CHECKING:
    import pandas as pd

_NUMBER = re.compile(r"(\d[\d_]*\.?\d*|\.\d+)([eE][+-]?\d+)?(?![\w.])")
_SIGNS: dict[str, Callable[[Any, Any], Any]] = {
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
}


def with_columns(table: "pd.DataFrame", columns: Mapping[str, str] | None) -> "pd.DataFrame":
    """The table with a column for every mapped name, and for arithmetic. Raises Refused.

    What is mapped to arithmetic gets a column called by its text. A name that the table does not
    have stands for what it is mapped to, so that conditions may use it. What is neither a column
    nor arithmetic is left for who needs it to refuse.
    """
    new: dict[str, Any] = {}
    for name, text in (columns or {}).items():
        if text not in table.columns and is_arithmetic(text, table):
            new[text] = computed(text, table)
        if name not in table.columns and (text in table.columns or text in new):
            new[name] = new[text] if text in new else table[text]
    return table.assign(**new) if new else table


def is_arithmetic(text: str, table: "pd.DataFrame") -> bool:
    """Whether a text that is no column is meant as arithmetic on columns and numbers."""
    names = [str(one) for one in table.columns]
    parts = [part.strip() for part in re.split(r"[*/+-]", text)]
    known = any(part in names or _NUMBER.fullmatch(part) for part in parts)
    return len(parts) > 1 and (known or bool(_operand(text, 0, names)))


def computed(text: str, table: "pd.DataFrame") -> "pd.Series[float]":
    """The value of arithmetic at every row. Raises Refused."""
    import pandas as pd

    names = sorted((str(one) for one in table.columns), key=len, reverse=True)
    by_name = {str(one): one for one in table.columns}
    place, signs, operands = 0, list[str](), list[Any]()
    while True:
        place = _after_space(text, place)
        number = _NUMBER.match(text, place)
        end = _operand(text, place, names)
        if number and (not end or number.end() >= place + len(end)):
            operands.append(float(number.group().replace("_", "")))
            place = number.end()
        elif end:
            values = pd.to_numeric(table[by_name[end]], errors="coerce").astype("float64")
            operands.append(values)
            place += len(end)
        else:
            raise Refused(f"{text!r}: {_wrong(text[place:], by_name)}")
        place = _after_space(text, place)
        if place == len(text):
            break
        if text[place] not in _SIGNS:
            raise Refused(
                f"{text!r}: {text[place:]!r} follows where one of * / + - must (no parentheses)"
            )
        signs.append(text[place])
        place += 1
    total = pd.Series(0.0, index=table.index, dtype="float64") + _joined(operands, signs)
    return total.rename(text)


def _joined(operands: list[Any], signs: list[str]) -> Any:
    """Products and quotients first, from the left; then sums and differences."""
    terms, between = [operands[0]], list[str]()
    for sign, one in zip(signs, operands[1:], strict=True):
        if sign in "*/":
            if sign == "/" and isinstance(one, float) and one == 0:
                raise Refused("a division by 0")
            terms[-1] = _SIGNS[sign](terms[-1], one)
        else:
            terms.append(one)
            between.append(sign)
    total = terms[0]
    for sign, one in zip(between, terms[1:], strict=True):
        total = _SIGNS[sign](total, one)
    return total


def _operand(text: str, place: int, names: list[str]) -> str:
    """The longest of the names that stands at a place as a whole; empty if none does."""
    found = ""
    for name in names:
        if len(name) > len(found) and text.startswith(name, place):
            rest = text[place + len(name) :].lstrip()
            if not rest or rest[0] in _SIGNS:
                found = name
    return found


def _after_space(text: str, place: int) -> int:
    return place + len(text[place:]) - len(text[place:].lstrip())


def _wrong(rest: str, names: Mapping[str, Any]) -> str:
    from fits.table import listed

    if not rest:
        return "ends where a column or a number must follow"
    what = re.split(r"\s*[*/+]\s*", rest)[0]
    return f"{what!r} is neither a number nor a column; the table has {listed(names, what)}"
