"""One law for several groups: some parameters shared, the others a group's own."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fits.errors import Refused, meant
from fits.form import GROUP, Law, Parameter, Values


def shared_law(law: Law, per: str, groups: Sequence[Any], shared: Sequence[str]) -> Law:
    """The law of all groups at once. Raises Refused.

    Parameters named in `shared` are one for all groups; of every other there is one a group, named
    `alpha[3]` after the group's value of the column `per`. `x["group"]` holds the group's number.
    """
    for name in shared:
        if name not in law.names:
            raise Refused(
                f"law {law.name} has no parameter {name!r} to share; it has {', '.join(law.names)}"
                f"{meant(name, law.names)}"
            )
    own = [name for name in law.names if name not in shared]
    labels = {name: [f"{name}[{label(value)}]" for value in groups] for name in own}
    parameters: list[Parameter] = []
    for one in law.parameters:
        names = [one.name] if one.name in shared else labels[one.name]
        parameters += [replace(one, name=name) for name in names]

    def predict(p: Values, x: Values) -> Any:
        group = x[GROUP]
        inside = [1.0 * (group == k) for k in range(len(groups))]
        every = {name: p[name] for name in shared}
        for name in own:
            parts = [p[key] * mask for key, mask in zip(labels[name], inside, strict=True)]
            every[name] = sum(parts[1:], parts[0])
        return law.predict(every, x)

    linear = [key for n in law.linear for key in ([n] if n in shared else labels[n])]
    return replace(
        law,
        parameters=tuple(parameters),
        predict=predict,
        linear=tuple(linear),
        published={},
        per=per,
        groups=tuple(groups),
    )


def label(value: Any) -> str:
    """A group's value as part of a name: short, and every digit where it needs them."""
    if isinstance(value, (float, np.floating)):
        short = f"{float(value):.6g}"
        return short if float(short) == value else repr(float(value))
    return str(value)
