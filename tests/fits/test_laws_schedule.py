"""Laws under a schedule: their sums written out, their slopes, recovery, published errors."""

import itertools
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.optimize import least_squares

from fits.engine.dual import Dual
from fits.form import Law
from fits.laws.schedule import ANNEALING, ANNEALING_FREE, FUNCTIONAL, LAWS, MULTI_POWER
from fits.rates import Rates, rates_from_table, schedule

Floats = NDArray[np.float64]

TRUTH: dict[str, dict[str, float]] = {
    "annealing": {"L0": 2.6, "A": 0.6, "alpha": 0.45, "C": 0.45},
    "annealing-free": {"L0": 2.6, "A": 0.6, "alpha": 0.45, "C": 1.2, "lam": 0.997},
    "multi-power": {
        "L0": 2.65,
        "A": 0.6,
        "alpha": 0.45,
        "B": 440.0,
        "C": 2.1,
        "beta": 0.6,
        "gamma": 0.65,
    },
    "functional": {
        "L0": 2.6,
        "c1": 0.6,
        "s": 0.45,
        "c2": 300.0,
        "c3": 0.4,
        "c4": 60.0,
        "gamma": 0.6,
    },
}
BY_NAME = {law.name: law for law in LAWS}
each_law = pytest.mark.parametrize("name", BY_NAME)

# warm-up, flat, falls, a rise again, a rate of 0
RATE = [1e-3, 2e-3, 3e-3, 3e-3, 2e-3, 2.5e-3, 1e-3, 1e-3, 0.0, 0.0, 2e-3, 5e-4]
PLACES = list(range(2, 13))


def tiny() -> Rates:
    return Rates({"tiny": RATE}, ["tiny"] * len(PLACES), PLACES)


def curves() -> dict[str, Floats]:
    return {
        "cosine": schedule("cosine", 4000, 3e-3, warmup=200, end=3e-4),
        "constant": schedule("constant", 4000, 3e-3, warmup=200),
        "two-stage": schedule("two-stage", 3000, 3e-3, warmup=200, end=9e-4, decay=1500),
        "wsd": schedule("wsd", 3000, 3e-3, warmup=200, end=3e-4, decay=800),
    }


def places(every: int = 40) -> Rates:
    own = curves()
    steps = {name: np.arange(240, len(rate) + 1, every) for name, rate in own.items()}
    names = [name for name, at in steps.items() for _ in at]
    return Rates(own, names, np.concatenate(list(steps.values())))


# The formulas, written out ------------------------------------------------------------------
# step t, rates by step (rate[0] is that of step 0), numbers real or complex


def by_sums_annealing(p: Any, rate: list[float], t: int) -> Any:
    lam = p.get("lam", 0.999)
    top = next(k for k in range(1, len(rate) - 1) if rate[k + 1] <= rate[k])
    area = 0.0
    for i in range(1, t + 1):
        for k in range(top + 1, i + 1):
            area = area + (rate[k - 1] - rate[k]) * lam ** (i - k)
    return p["L0"] + p["A"] * sum(rate[1 : t + 1]) ** -p["alpha"] - p["C"] * area


def by_sums_multi_power(p: Any, rate: list[float], t: int) -> Any:
    drop = 0.0
    for k in range(1, t + 1):
        since = sum(rate[k : t + 1])
        x = rate[k] ** -p["gamma"] * since if rate[k] else (math.inf if since else 0.0)
        # at a rate of 0 the effect is complete once any step is made again, and not before
        left = 0.0 if x == math.inf else (p["C"] * x + 1) ** -p["beta"]
        drop = drop + (rate[k - 1] - rate[k]) * (1 - left)
    return p["L0"] + p["A"] * sum(rate[1 : t + 1]) ** -p["alpha"] - p["B"] * drop


def by_sums_functional(p: Any, rate: list[float], t: int) -> Any:
    now, drop = sum(rate[1 : t + 1]), 0.0
    for k in range(1, t + 1):
        then = sum(rate[1 : k + 1])
        effect = 1 - (1 + p["c4"] * (now - then)) ** -p["gamma"]
        drop = drop + max(rate[k - 1] - rate[k], 0.0) * (p["c3"] + then ** -p["s"]) * effect
    return p["L0"] + p["c1"] * now ** -p["s"] - p["c2"] * drop


BY_SUMS: dict[str, Callable[..., Any]] = {
    "annealing": by_sums_annealing,
    "annealing-free": by_sums_annealing,
    "multi-power": by_sums_multi_power,
    "functional": by_sums_functional,
}


def by_sums(name: str, p: Any) -> Any:
    return np.array([BY_SUMS[name](p, [0.0, *RATE], t) for t in PLACES])


def duals(params: dict[str, Any]) -> dict[str, Dual]:
    return {key: Dual(value, {key: 1.0}) for key, value in params.items()}


@each_law
def test_predictions_are_the_formula_summed_step_by_step(name: str) -> None:
    found = BY_NAME[name].predict(TRUTH[name], {"rates": tiny()})
    np.testing.assert_allclose(found, by_sums(name, TRUTH[name]), rtol=1e-13)


@each_law
def test_slopes_are_those_of_the_sums_by_complex_step(name: str) -> None:
    found = BY_NAME[name].predict(duals(TRUTH[name]), {"rates": tiny()})
    np.testing.assert_allclose(found.value, by_sums(name, TRUTH[name]), rtol=1e-13)
    for key, value in TRUTH[name].items():
        moved = by_sums(name, {**TRUTH[name], key: value + 1e-30j})
        expected = np.imag(moved) / 1e-30
        size = np.abs(expected).max()
        slope = np.broadcast_to(found.slopes[key], expected.shape)
        np.testing.assert_allclose(slope, expected, rtol=1e-11, atol=1e-13 * size, err_msg=key)


@each_law
def test_slopes_on_long_curves_are_central_differences(name: str) -> None:
    law, x = BY_NAME[name], {"rates": places()}
    found = law.predict(duals(TRUTH[name]), x)
    for key, value in TRUTH[name].items():
        step = 1e-6 * value
        up, down = (law.predict({**TRUTH[name], key: value + s}, x) for s in (step, -step))
        expected = (up - down) / (2 * step)
        slope = np.broadcast_to(found.slopes[key], expected.shape)
        size = np.abs(expected).max()
        np.testing.assert_allclose(slope, expected, rtol=2e-5, atol=1e-6 * size, err_msg=key)


@each_law
def test_sets_at_once_are_the_sets_one_by_one(name: str) -> None:
    law, x = BY_NAME[name], {"rates": tiny()}
    factors = np.array([[1.0], [0.99], [0.9]])
    sets = {key: value * factors for key, value in TRUTH[name].items()}
    values, sloped = law.predict(sets, x), law.predict(duals(sets), x)
    assert values.shape == (3, len(PLACES))
    for i in range(3):
        one = {key: float(of_set[i, 0]) for key, of_set in sets.items()}
        np.testing.assert_allclose(values[i], law.predict(one, x), rtol=1e-15)
        single = law.predict(duals(one), x)
        np.testing.assert_allclose(sloped.value[i], single.value, rtol=1e-15)
        for key in TRUTH[name]:
            of_set = np.broadcast_to(sloped.slopes[key], values.shape)[i]
            np.testing.assert_allclose(of_set, single.slopes[key], rtol=1e-14, err_msg=key)


@each_law
def test_pinned_and_searched_numbers_mix(name: str) -> None:
    law, x = BY_NAME[name], {"rates": tiny()}
    key = law.parameters[-1].name
    found = law.predict({**TRUTH[name], key: Dual(TRUTH[name][key], {key: 1.0})}, x)
    assert set(found.slopes) == {key}
    whole = law.predict(duals(TRUTH[name]), x)
    np.testing.assert_allclose(found.slopes[key], whole.slopes[key], rtol=1e-14)
    many = law.predict({**TRUTH[name], key: TRUTH[name][key] * np.ones((2, 1))}, x)
    np.testing.assert_allclose(many, np.stack([whole.value] * 2), rtol=1e-15)


@each_law
def test_a_constant_rate_has_no_decay(name: str) -> None:
    law, p = BY_NAME[name], TRUTH[name]
    rates = Rates({"": np.full(100, 3e-3)}, [""] * 3, [1, 10, 100])
    floor, size, exponent = (p[key] for key in list(p)[:3])
    expected = floor + size * (3e-3 * np.array([1, 10, 100])) ** -exponent
    np.testing.assert_allclose(law.predict(p, {"rates": rates}), expected, rtol=1e-13)


@each_law
def test_the_rise_of_a_warm_up_counts_in_multi_power_alone(name: str) -> None:
    law, p, peak = BY_NAME[name], TRUTH[name], 3e-3
    rates = Rates({"": schedule("constant", 10**6, peak, warmup=50)}, [""] * 2, [60, 10**6])
    _, size, exponent = (p[key] for key in list(p)[:3])
    more = law.predict(p, {"rates": rates}) - p["L0"] - size * rates.summed**-exponent
    if name == "multi-power":  # its effect nears B times the peak, slowly
        assert 0.0 < more[0] < 0.9 * more[1] < 0.9 * p["B"] * peak
        assert more[1] == pytest.approx(p["B"] * peak, rel=0.01)
    else:
        np.testing.assert_allclose(more, 0.0, atol=1e-14)


def test_annealing_is_annealing_free_at_its_momentum() -> None:
    p, x = TRUTH["annealing"], {"rates": places()}
    free = ANNEALING_FREE.predict({**p, "lam": 0.999}, x)
    np.testing.assert_array_equal(ANNEALING.predict(p, x), free)


@each_law
def test_linear_parameters_enter_linearly_and_without_offset(name: str) -> None:
    law, x = BY_NAME[name], {"rates": tiny()}
    trebled = {k: 3.0 * v if k in law.linear else v for k, v in TRUTH[name].items()}
    once = law.predict(TRUTH[name], x)
    np.testing.assert_allclose(law.predict(trebled, x), 3.0 * once, rtol=1e-12)


@each_law
def test_starts_lie_within_bounds_and_published_values_have_the_laws_names(name: str) -> None:
    law = BY_NAME[name]
    assert law.rates
    for own in law.parameters:
        assert bool(own.starts) == (own.name not in law.linear), own.name
        assert all(own.low <= start <= own.high for start in own.starts), own.name
    for values in law.published.values():
        assert set(values) == set(law.names)
        assert all(law.parameter(k).low < v < law.parameter(k).high for k, v in values.items())


# Recovery -----------------------------------------------------------------------------------
# a plain least-squares search over all parameters by the law's own slopes, scaled by its start


def starts(law: Law) -> Iterator[dict[str, float]]:
    """The law's own, with the linear parameters by least squares."""
    searched = [one for one in law.parameters if one.name not in law.linear]
    for values in itertools.product(*(one.starts for one in searched)):
        yield dict(zip((one.name for one in searched), values, strict=True))


def search(law: Law, x: dict[str, Any], y: Floats, start: dict[str, float]) -> dict[str, float]:
    ones = law.predict({**start, **duals(dict.fromkeys(law.linear, 1.0))}, x)
    columns = np.stack([np.broadcast_to(ones.slopes[k], y.shape) for k in law.linear], axis=1)
    linear = np.linalg.lstsq(columns, y, rcond=None)[0]
    begin = {**dict(zip(law.linear, linear, strict=True)), **start}
    by_log = np.array([law.parameter(k).low == 0.0 for k in law.names])

    def outside(u: Floats) -> dict[str, float]:
        return dict(zip(law.names, np.where(by_log, np.exp(u), u).tolist(), strict=True))

    def off(u: Floats) -> Floats:
        return np.asarray(law.predict(outside(u), x) - y)

    def slopes(u: Floats) -> Floats:
        params = outside(u)
        found = law.predict(duals(params), x)
        inner = [params[k] if log else 1.0 for k, log in zip(law.names, by_log, strict=True)]
        columns = [np.broadcast_to(found.slopes[k], y.shape) for k in law.names]
        return np.stack(columns, axis=1) * inner

    at = np.array([begin[k] for k in law.names])
    at = np.where(by_log, np.log(np.maximum(at, 1e-3)), at)
    low = np.where(by_log, -np.inf, [law.parameter(k).low for k in law.names])
    high = [np.log(own.high) if own.low == 0.0 else own.high for own in law.parameters]
    end = least_squares(
        off,
        at,
        slopes,
        bounds=(low, high),
        x_scale="jac",
        xtol=1e-15,
        ftol=1e-15,
        gtol=1e-15,
        max_nfev=2000,
    )
    return outside(end.x)


@each_law
def test_the_truth_is_recovered_from_noise_free_curves_from_every_start(name: str) -> None:
    law, x = BY_NAME[name], {"rates": places()}
    y = law.predict(TRUTH[name], x)
    for start in starts(law):
        found = search(law, x, y, start)
        assert found == pytest.approx(TRUTH[name], rel=1e-4), start


# The public curves --------------------------------------------------------------------------
# Luo et al. 2025, arXiv 2503.12811: test errors of the README of the authors' repository,
# R2, MAE, RMSE, mean and worst relative error, each a mean over the six unseen curves

PUBLISHED = {
    25: (0.9988, 0.00376, 0.00465, 0.00110, 0.00409),
    100: (0.9983, 0.00435, 0.00592, 0.00142, 0.00583),
}
sizes = pytest.mark.parametrize("size", PUBLISHED)


def realised() -> dict[str, Floats]:
    """The rates of the authors' code: a warm-up that reaches the peak at step 2159, and stays."""
    of = partial(schedule, peak=3e-4, warmup=2160)
    made = {
        "constant_24000": of("constant", 24000),
        "constant_72000": of("constant", 72000),
        "cosine_24000": of("cosine", 24000, end=3e-5),
        "cosine_72000": of("cosine", 72000, end=3e-5),
        "wsd_20000_24000": of("wsd", 24000, end=3e-5, decay=4000, shape="exponential"),
        "wsdld_20000_24000": of("wsd", 24000, end=3e-5, decay=4000),
    }
    for rate in (3, 9, 18):
        made[f"wsdcon_{rate}"] = of("two-stage", 16000, end=rate * 1e-5, decay=8001)
    warm = np.append(np.linspace(0, 3e-4, 2160)[1:], 3e-4)
    return {name: np.append(warm, rate[2160:]) for name, rate in made.items()}


def curves_of(folder: Path, size: int, split: str) -> pd.DataFrame:
    table = pd.read_csv(folder / "mpl_loss_curves_25M_100M.csv")
    return table[(table.model_size_M == size) & (table.split == split)]


def errors(frame: pd.DataFrame, predicted: Floats) -> Floats:
    """As published, each averaged over the curves."""
    rows = []
    for name in frame.schedule.unique():
        mine = (frame.schedule == name).to_numpy()
        y = frame.loss_nats.to_numpy()[mine]
        off = y - predicted[mine]
        spread = y - y.mean()
        relative = np.abs(off) / y
        r2 = 1 - off @ off / (spread @ spread)
        rms = np.sqrt(np.mean(off**2))
        rows.append([r2, np.abs(off).mean(), rms, relative.mean(), relative.max()])
    return np.mean(rows, axis=0)


def published(size: int) -> dict[str, float]:
    return dict(next(v for k, v in MULTI_POWER.published.items() if k.endswith(f" {size}M")))


def test_realised_rates_are_those_logged(public_tables: Path) -> None:
    for size, split in itertools.product(PUBLISHED, ("train", "test")):
        frame = curves_of(public_tables, size, split)
        for name, rate in realised().items():
            mine = frame[frame.schedule == name]
            logged = mine.lr.to_numpy()
            np.testing.assert_allclose(rate[mine.step.to_numpy() - 1], logged, rtol=1e-12)


@sizes
def test_published_test_errors_to_the_digit(public_tables: Path, size: int) -> None:
    frame = curves_of(public_tables, size, "test")
    rates, _ = rates_from_table(frame, "schedule", "step", given=realised())
    found = errors(frame, MULTI_POWER.predict(published(size), {"rates": rates}))
    assert (round(found[0], 4), *np.round(found[1:], 5)) == PUBLISHED[size]


@sizes
def test_rates_of_the_rows_alone_come_within_a_tenth_of_a_millinat(
    public_tables: Path, size: int
) -> None:
    # what is lost is the end of the warm-up, between step 2160 and the first row at 2176
    frame = curves_of(public_tables, size, "test")
    rates, notes = rates_from_table(frame, "schedule", "step", "lr")
    assert len(notes) == 3
    found = errors(frame, MULTI_POWER.predict(published(size), {"rates": rates}))
    np.testing.assert_allclose(found, PUBLISHED[size], atol=1e-4)


@sizes
def test_fits_of_three_curves_predict_the_unseen_schedules(public_tables: Path, size: int) -> None:
    train, test = (curves_of(public_tables, size, split) for split in ("train", "test"))
    x, unseen = (
        {"rates": rates_from_table(frame, "schedule", "step", given=realised())[0]}
        for frame in (train, test)
    )
    y = train.loss_nats.to_numpy()
    at_published = y - MULTI_POWER.predict(published(size), x)
    for law in (ANNEALING, ANNEALING_FREE, MULTI_POWER, FUNCTIONAL):
        begin = perf_counter()
        ends = [search(law, x, y, start) for start in starts(law)]
        assert perf_counter() - begin < 20.0  # measured: all four laws in 1 s
        off = [float(np.sum((y - law.predict(end, x)) ** 2)) for end in ends]
        assert max(off) < 1.001 * min(off), law.name  # every start ends at the same loss
        if law is MULTI_POWER:  # the published values are no optimum, even of the training curves
            assert min(off) < 0.6 * (at_published @ at_published)
        predicted = law.predict(ends[int(np.argmin(off))], unseen)
        found = errors(test, predicted)
        assert found[0] > 0.996, law.name
        assert found[1] < 0.0065, law.name
        assert found[4] < 0.01, law.name
