"""Profiles: textbook ends, ends at bounds, better optima, no scatter."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fits import Fit, fit, law
from fits.engine.identify import identify
from fits.engine.objective import objective
from fits.engine.problem import Problem
from fits.engine.profile import Profile, profile, profile_intervals
from fits.engine.solve import Solution, solve

RATIOS = np.array([1 / 8, 1 / 4, 1 / 3, 1 / 2, 3 / 4, 0.9])
SIZES, TOKENS = (
    a.ravel() for a in np.meshgrid(np.geomspace(5e7, 2e10, 5), np.geomspace(1e9, 1e12, 8))
)
X = {"n_params": SIZES, "n_tokens": TOKENS}
TRUTH = {"E": 1.8, "A": 480.0, "B": 2100.0, "alpha": 0.35, "beta": 0.37}


def table(noise: float) -> pd.DataFrame:
    exact = law("chinchilla").predict(TRUTH, X)
    shift = np.exp(noise * np.random.default_rng(0).normal(size=len(SIZES)))
    return pd.DataFrame({**X, "loss_nats": exact * shift})


def ends(problem: Problem, name: str, level: float = 0.95) -> Profile:
    best = solve(problem)
    found = identify(problem, best.params)
    assert found.covariance is not None
    assert found.rise is not None
    return profile(problem, best, name, level, found.covariance, found.rise)


@pytest.mark.parametrize("level", [0.5, 0.95, 0.999])
@pytest.mark.parametrize("copies", [1, 3])  # the same points again are more points
def test_all_linear_laws_have_the_textbook_interval(level: float, copies: int) -> None:
    x = np.tile(RATIOS, copies)
    y = 1.9 - 0.4 * x + 1e-3 * np.random.default_rng(0).normal(size=len(x))
    pinned = {"s": 1.0}
    problem = Problem(law("cmr-ratio"), {"ratio_domain": x}, y, objective("squares"), pinned)
    line = stats.linregress(x, y)
    t = stats.t.ppf(0.5 + level / 2, len(x) - 2)
    for name, value, error in (
        ("alpha", line.slope, line.stderr),
        ("beta", line.intercept, line.intercept_stderr),
    ):
        own = ends(problem, name, level).interval
        assert (own.low, own.high) == pytest.approx(
            (value - t * error, value + t * error), abs=2e-3 * t * error
        )


def test_one_free_parameter_has_the_textbook_interval() -> None:
    y = 1.9 - 0.4 * RATIOS**0.3 + 1e-3 * np.random.default_rng(0).normal(size=6)
    pinned = {"s": 0.3, "alpha": -0.4}
    problem = Problem(law("cmr-ratio"), {"ratio_domain": RATIOS}, y, objective("squares"), pinned)
    own = ends(problem, "beta").interval
    expected = stats.t.interval(
        0.95, 5, np.mean(y + 0.4 * RATIOS**0.3), stats.sem(y + 0.4 * RATIOS**0.3)
    )
    assert (own.low, own.high) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("kind", ["squares", "squares-log", "huber-log"])
def test_the_ends_are_where_the_objective_has_risen_to_the_limit(kind: str) -> None:
    found = fit("chinchilla", table(0.01), objective=kind)
    rise = identify(found.problem, found.params).rise
    assert rise is not None
    t = stats.t.ppf(0.975, 35)
    for k, name in enumerate(found.law.names):
        own = found.interval(name)
        limit = found.objective_value + 0.5 * t**2 * rise[k]
        for end in (own.low, own.high):
            assert end is not None
            pinned = fit(
                "chinchilla", table(0.01), objective=kind, pin={name: end}, interval="none"
            )
            rose = pinned.objective_value - found.objective_value
            # a tenth of the way in t is a fifth in the objective; the search is far closer
            assert rose == pytest.approx(limit - found.objective_value, rel=0.02), (name, end)


@pytest.mark.parametrize("kind", ["squares", "squares-log", "huber-log"])
def test_numbers_without_noise_have_intervals_of_no_width(kind: str) -> None:
    found = fit("chinchilla", table(0.0), objective=kind)
    for name, value in TRUTH.items():
        own = found.interval(name)
        assert own.low == own.high == found.params[name] == pytest.approx(value, rel=1e-9)
        assert own.note == "no scatter around the law"
    assert found.agree == found.starts


def test_a_bound_that_was_asked_for_closes_the_intervals_of_the_others() -> None:
    found = fit("chinchilla", table(0.01), objective="squares", bound={"E": (1.0, 1.5)})
    assert found.status == "at bound"
    assert found.interval("E").high is None  # nothing in the data stops it
    assert found.interval("E").note == "not bounded above"
    for name in ("A", "B", "alpha", "beta"):
        own = found.interval(name)
        assert own.low is not None
        assert own.high is not None
        assert own.low < found.params[name] < own.high


def stuck() -> tuple[Problem, Solution]:
    """A fit that was started in the wrong valley, and where that ends."""
    t = np.geomspace(0.2e9, 40e9, 24)
    y = (t / t[0]) ** -1.5 + 0.8 * (t / t[-1]) ** 1.5  # high early and late: one term is either
    problem = Problem(law("cmr-domain-tokens"), {"cpt_tokens": t}, y, objective("squares"))
    each = [solve(problem, near={"s1": s}) for s in (-1.0, -0.3, 0.3, 1.0)]
    return problem, max(each, key=lambda one: one.objective)


def test_a_better_optimum_is_handed_back_instead_of_intervals() -> None:
    problem, worse = stuck()
    best = solve(problem)
    assert worse.objective > best.objective * 1.001
    found = identify(problem, worse.params)
    assert found.covariance is not None
    assert found.rise is not None
    intervals, better = profile_intervals(problem, worse, 0.95, found.covariance, found.rise)
    assert intervals == {}
    assert better is not None
    assert problem.value(problem.complete(better)) < worse.objective


def test_a_fit_takes_the_better_optimum_and_says_how_few_starts_found_it() -> None:
    problem, worse = stuck()
    frame = pd.DataFrame({**problem.x, "change_nats": problem.y})
    found = fit("cmr-domain-tokens", frame, near={"s1": worse.params["s1"]})
    assert found.objective_value == pytest.approx(solve(problem).objective, rel=1e-6)
    assert (found.starts, found.agree) == (2, 1)
    assert found.status == "few starts agree"


def test_profiles_that_never_stop_improving_leave_intervals_that_say_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def always(problem: Problem, best: Solution, *_: Any) -> Any:
        return {}, best.params

    monkeypatch.setattr("fits.estimate.profile_intervals", always)
    found = fit("chinchilla", table(0.01), objective="squares")
    assert set(found.intervals) == set(TRUTH)
    assert all(one.method == "covariance" for one in found.intervals.values())
    assert any("profiles keep finding better fits" in note for note in found.notes)
    assert isinstance(Fit.from_json(found.to_json()), Fit)


def test_a_tied_pair_is_profiled_as_the_law_with_one_exponent() -> None:
    tied = fit("chinchilla", table(0.01), objective="squares", tie={"beta": "alpha"})
    chinchilla = law("chinchilla")
    one = replace(
        chinchilla,
        parameters=chinchilla.parameters[:4],
        predict=lambda p, x: chinchilla.predict({**p, "beta": p["alpha"]}, x),
    )
    plain = fit(one, table(0.01), objective="squares")
    assert tied.interval("beta") == tied.interval("alpha")
    for name in one.names:
        assert tied.params[name] == pytest.approx(plain.params[name], rel=1e-9)
        assert tied.interval(name) == plain.interval(name)
