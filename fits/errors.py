"""How fits say no."""

import difflib
from collections.abc import Iterable


class Refused(ValueError):
    """A table, law or condition that cannot be taken: what is wrong, what is allowed."""


class Failed(RuntimeError):
    """The world did not hold (a full disk): nothing that was there is lost."""


def meant(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'cmr'?`: the end of a refusal of `name`, if one of `known` is close to it."""
    near = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else ""
