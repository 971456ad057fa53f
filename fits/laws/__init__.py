"""The library of laws, by name."""

from functools import lru_cache

from fits.errors import Refused, meant
from fits.form import Law


@lru_cache(maxsize=1)
def _library() -> dict[str, Law]:
    from fits.laws import continual, cpt, mixture, order, repetition, schedule, size_and_data

    families = (
        size_and_data,
        repetition,
        continual,
        mixture,
        schedule,
        cpt,
        order,
    )
    return {law.name: law for family in families for law in family.LAWS}


def all_laws() -> list[Law]:
    """Every law, in the order of the library."""
    return list(_library().values())


def law(name: str) -> Law:
    """The law called `name`. Raises Refused with the nearest name.

    `data-mixing:a+b+c` is the law of these shares, `fits.laws.mixture.data_mixing`. The path of a
    .py file is the law of one's own in it, `fits.own`: the file is run.
    """
    if name.endswith(".py"):
        from fits.own import law_of_file

        return law_of_file(name)
    family, _, shares = name.partition(":")
    if family == "data-mixing" and shares:
        from fits.laws.mixture import data_mixing

        return data_mixing(shares.split("+"))
    found = _library().get(name)
    if found is None:
        known = _library()
        raise Refused(
            f"unknown law {name!r}; known: {', '.join(known)}, or your own .py file"
            f"{meant(name, known)}"
        )
    return found
