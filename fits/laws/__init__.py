"""The library of laws, by name."""

import difflib
from functools import lru_cache

from fits.errors import Refused
from fits.form import Law


@lru_cache(maxsize=1)
def _library() -> dict[str, Law]:
    from fits.laws import continual, size_and_data

    laws = [*size_and_data.LAWS, *continual.LAWS]
    return {law.name: law for law in laws}


def all_laws() -> list[Law]:
    """Every law, in the order of the library."""
    return list(_library().values())


def law(name: str) -> Law:
    """The law called `name`. Raises Refused with the nearest name."""
    found = _library().get(name)
    if found is None:
        near = difflib.get_close_matches(name, _library(), 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise Refused(f"unknown law {name!r}; known: {', '.join(_library())}{hint}")
    return found
