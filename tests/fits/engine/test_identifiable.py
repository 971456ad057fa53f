"""What a design cannot tell apart, it cannot at any values."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from fits import all_laws, law
from fits.engine.identifiable import unidentifiable
from fits.engine.objective import objective
from fits.engine.problem import Problem

N = np.geomspace(5e7, 5e9, 4)
T = np.geomspace(1e9, 1e11, 4)
R = np.linspace(1 / 8, 1.0, 8)


def problem(name: str, x: Mapping[str, Any], **asked: Any) -> Problem:
    points = len(next(iter(x.values())))
    return Problem(law(name), x, np.linspace(3.0, 2.0, points), objective("squares"), **asked)


def crossed(**columns: Any) -> dict[str, Any]:
    grids = np.meshgrid(*columns.values())
    return {name: one.ravel() for name, one in zip(columns, grids, strict=True)}


AT_ZERO = {"E": 2.0, "A": 0.0, "B": 0.0, "C": 0.1, "alpha": 3.0, "beta": 3.0, "eta": 0.01}
AT_ZERO |= {"eps": 0.1, "gamma": 0.3}


def test_a_constant_column_leaves_its_coefficient_and_exponent_unknown() -> None:
    varied = crossed(n_params=N, cpt_tokens=T, ratio_domain=R)
    assert unidentifiable(problem("d-cpt", varied), AT_ZERO) == ""
    constant = crossed(n_params=N, cpt_tokens=np.array([2e10]), ratio_domain=R)
    why = unidentifiable(problem("d-cpt", constant), AT_ZERO)
    assert why == "B, beta are not told apart by these points, whatever the values"
    assert unidentifiable(problem("d-cpt", constant, pinned={"beta": 0.3}), AT_ZERO) == ""
    # five ratios for the six functions of the ratio: of them one more is not told from the rest
    five = crossed(n_params=N, cpt_tokens=np.array([2e10]), ratio_domain=R[::2])
    why = unidentifiable(problem("d-cpt", five, pinned={"beta": 0.3}), AT_ZERO)
    assert "eta" in why
    assert "alpha" not in why


def test_a_parameter_at_its_bound_is_no_fault_of_the_design() -> None:
    best = {"E": 2.0, "A": 0.0, "B": 2e3, "alpha": 3.0, "beta": 0.37}
    assert unidentifiable(problem("chinchilla", crossed(n_params=N, n_tokens=T)), best) == ""


def test_sizes_and_tokens_in_one_ratio_are_told_apart_by_unequal_exponents_alone() -> None:
    line = {"n_params": np.geomspace(5e7, 5e9, 9), "n_tokens": 20 * np.geomspace(5e7, 5e9, 9)}
    best = {"E": 2.0, "A": 10.0, "B": 20.0, "alpha": 0.3, "beta": 0.3}
    assert unidentifiable(problem("chinchilla", line), best) == ""
    tied = problem("chinchilla", line, tied={"beta": "alpha"})
    assert unidentifiable(tied, best).startswith("A, B are not told apart")


def test_one_size_alone_says_nothing_of_size() -> None:
    one = {"n_params": np.full(8, 1e9), "n_tokens": np.geomspace(1e9, 1e11, 8)}
    best = {"E": 2.0, "A": 0.0, "B": 2e3, "alpha": 3.0, "beta": 0.37}
    assert "alpha" in unidentifiable(problem("chinchilla", one), best)


@pytest.mark.parametrize("name", [one.name for one in all_laws() if not one.rates])
def test_every_law_is_identified_by_a_full_design(name: str) -> None:
    values = {"n_params": N, "n_tokens": T, "cpt_tokens": T, "ratio_domain": R, "end_ratio": R}
    known = law(name)
    x = crossed(
        **{one.name: values.get(one.name, np.geomspace(1e9, 4e11, 5)) for one in known.variables}
    )
    if len(x) == 1:  # as many places as a law of one variable needs
        ((only, some),) = x.items()
        x = {only: np.linspace(some.min(), some.max(), 12)}
    assert unidentifiable(problem(name, x), dict.fromkeys(known.names, 0.0)) == ""
