"""A law on data: ties, pins, bounds, and lanes that equal single fits."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fits import law
from fits.engine.lanes import Lanes
from fits.engine.objective import objective
from fits.engine.problem import Problem
from fits.engine.solve import solve, solve_lanes

SIZES, TOKENS = (
    a.ravel() for a in np.meshgrid(np.geomspace(5e7, 2e10, 5), np.geomspace(1e9, 1e12, 8))
)
X = {"n_params": SIZES, "n_tokens": TOKENS}
TRUTH = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37}


def chinchilla(kind: str = "squares", seed: int = 0, **more: Any) -> Problem:
    exact = law("chinchilla").predict(TRUTH, X)
    y = exact * np.exp(0.01 * np.random.default_rng(seed).normal(size=len(SIZES)))
    return Problem(law("chinchilla"), X, y, objective(kind), **more)


def test_names_are_sorted_into_free_linear_and_searched() -> None:
    problem = chinchilla(pinned={"E": 1.8}, tied={"beta": "alpha"}, bounds={"A": (1.0, 1e4)})
    assert problem.free == ("A", "B", "alpha")
    assert problem.linear == ("B",)
    assert problem.searched == ("A", "alpha")
    assert (problem.by_log("B"), problem.by_log("A")) == (True, False)
    assert problem.complete({"A": 1.0, "B": 2.0, "alpha": 0.3}) == {
        "E": 1.8,
        "A": 1.0,
        "B": 2.0,
        "alpha": 0.3,
        "beta": 0.3,
    }


@pytest.mark.parametrize("kind", ["squares", "squares-log", "huber-log"])
@pytest.mark.parametrize("tied", [{"beta": "alpha"}, {"B": "A"}, {"B": "A", "beta": "alpha"}])
def test_a_tie_is_the_law_with_one_parameter_in_both_places(
    kind: str, tied: dict[str, str]
) -> None:
    problem = chinchilla(kind, tied=tied)
    whole = law("chinchilla")
    one = replace(
        whole,
        parameters=tuple(p for p in whole.parameters if p.name not in tied),
        linear=tuple(name for name in whole.linear if name not in tied),
        predict=lambda p, x: whole.predict({**p, **{n: p[t] for n, t in tied.items()}}, x),
    )
    plain = solve(Problem(one, X, problem.y, problem.objective))
    found = solve(problem)
    assert found.objective == pytest.approx(plain.objective, rel=1e-9)
    for name, target in tied.items():
        assert found.params[name] == found.params[target]
        assert found.params[name] == pytest.approx(plain.params[target], rel=1e-5)


@pytest.mark.parametrize("kind", ["squares", "squares-log", "huber-log", "absolute-log"])
def test_a_lane_is_its_own_fit_whatever_runs_beside_it(kind: str) -> None:
    problem = chinchilla(kind)
    y = np.array([chinchilla(seed=k).y for k in range(5)])
    weights = np.random.default_rng(1).integers(0, 3, y.shape).astype(float)
    near = {name: np.full(5, value) for name, value in TRUTH.items()}
    together, values = solve_lanes(problem, near, Lanes(y, weights), 5)
    backwards, _ = solve_lanes(problem, near, Lanes(y[::-1], weights[::-1]), 5)
    for k in range(5):
        some = {name: value[:1] for name, value in near.items()}
        alone, value = solve_lanes(problem, some, Lanes(y[[k]], weights[[k]]), 1)
        assert values[k] == value[0]
        for name in problem.free:
            assert together[name][k] == alone[name][0] == backwards[name][4 - k]


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = chinchilla("huber-log")
    y = np.array([chinchilla(seed=k).y for k in range(12)])
    near = {name: np.full(12, value) for name, value in TRUTH.items()}
    whole, values = solve_lanes(problem, near, Lanes(y), 12)
    monkeypatch.setattr("fits.engine.solve.LANE_POINTS", 3 * len(problem.y))  # four parts
    parts, part_values = solve_lanes(problem, near, Lanes(y), 12)
    np.testing.assert_array_equal(values, part_values)
    for name in problem.free:
        np.testing.assert_array_equal(whole[name], parts[name])


@pytest.mark.parametrize("kind", ["squares", "huber-log", "absolute"])
def test_as_many_points_as_parameters_are_met_exactly(kind: str) -> None:
    x = {"ratio_domain": np.array([0.2, 0.5, 0.9])}
    y = 1.9 - 0.4 * x["ratio_domain"] ** 0.3
    found = solve(Problem(law("cmr-ratio"), x, y, objective(kind)))
    assert found.params == pytest.approx({"alpha": -0.4, "s": 0.3, "beta": 1.9}, rel=1e-6)
    assert found.agree == found.starts


def test_a_scale_with_a_high_bound_stops_there() -> None:
    problem = chinchilla("huber-log", bounds={"A": (0.0, 30.0), "E": (0.0, 1.4)})
    found = solve(problem)
    assert found.params["A"] == pytest.approx(30.0, rel=1e-12)
    assert found.params["E"] == pytest.approx(1.4, rel=1e-12)


def test_the_size_of_rounding_is_that_of_residuals_so_small() -> None:
    problem = chinchilla("squares")
    assert problem.value_of_share(1e-6) == pytest.approx(1e-12 * problem.y @ problem.y)
    assert chinchilla("absolute-log").value_of_share(1e-6) == pytest.approx(1e-6 * 40)
