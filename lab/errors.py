"""The two ways in which the lab says no."""

import difflib
from collections.abc import Iterable


class Refused(ValueError):
    """An input that cannot be taken: one line that says what is wrong and what is allowed.

    Raised before anything on disk has changed; the command exits with code 2.
    """


class Failed(RuntimeError):
    """The world did not hold (disk full, a state that cannot be read): one line, exit code 1.

    Whatever was committed before it stays committed; running again continues from there.
    """


class Damaged(Failed):
    """A committed state is not what was written; it has been set aside and can be made again."""


class Gone(Failed):
    """A committed state was removed by another process, which has gone on from it: look again."""


def meant(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'cmr'?`: the end of a refusal of `name`, if one of `known` is close to it."""
    near = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else ""
