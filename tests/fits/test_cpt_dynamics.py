"""The law of continual pre-training: its areas, its limits, the printed rows, recovery."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from fits import Refused, fit, law, load_fits, save_fits
from fits.engine.dual import Dual
from fits.laws.cpt import CPT_DYNAMICS, CPT_DYNAMICS_PRODUCT, NO_BETA
from fits.laws.schedule import ANNEALING, LAMBDA
from fits.rates import Rates, schedule

Floats = NDArray[np.float64]

TRUNK = 2000
PEAK = 3e-3
TRUTH = {
    "L0": 2.6, "A": 0.6, "alpha": 0.5, "C1": 0.4, "C2": 0.3, "B": 0.5, "E": 5.0, "beta": 0.3,
}  # fmt: skip


def rewarmed(peak: float, rise: int, steps: int, end: float, held: bool = False) -> Floats:
    """A decayed trunk, and a continuation warmed again from the rate it ended at."""
    trunk = schedule("wsd", TRUNK, PEAK, warmup=100, end=0.1 * PEAK, decay=400)
    low = trunk[-1]
    up = low + (peak - low) * np.arange(1, rise + 1) / max(rise, 1)
    rest = steps - rise
    down = np.full(rest, peak) if held else schedule("cosine", rest, peak, end=end)
    return np.concatenate([trunk, up, down])


def curves() -> dict[str, Floats]:
    return {
        "full": rewarmed(PEAK, 20, 1500, 0.1 * PEAK),
        "half": rewarmed(0.5 * PEAK, 60, 1500, 0.1 * PEAK),
        "none": rewarmed(0.1 * PEAK, 0, 1500, 0.1 * PEAK, held=True),
        "held": rewarmed(PEAK, 100, 1500, PEAK, held=True),
    }


UNSEEN = {"unseen": rewarmed(1.5 * PEAK, 45, 1200, 0.0)}


def places(own: dict[str, Floats], every: int = 30) -> pd.DataFrame:
    """Steps of the trunk once, of its branches from the first steps on."""
    first = next(iter(own))
    rows = [{"curve": first, "step": step} for step in range(120, TRUNK + 1, 60)]
    for name, rate in own.items():
        after = {TRUNK + 2**k for k in range(7)} | {*range(TRUNK + 100, len(rate) + 1, every)}
        rows += [{"curve": name, "step": step} for step in sorted(after)]
    return pd.DataFrame(rows).assign(transfer_step=TRUNK)


def losses(
    own: dict[str, Floats], truth: dict[str, float] = TRUTH, noise: float = 0.0, seed: int = 0
) -> pd.DataFrame:
    frame = places(own)
    rates = Rates(own, frame["curve"].tolist(), frame["step"].to_numpy())
    x = {"rates": rates, "transfer_step": frame["transfer_step"].to_numpy(float)}
    exact = CPT_DYNAMICS.predict(truth, x)
    random = np.random.default_rng(seed)
    return frame.assign(loss_nats=exact * np.exp(noise * random.normal(size=len(frame))))


# What it reads ------------------------------------------------------------------------------

# warm-up to 3, a fall, the transfer after step 5, a rewarm to 3, a fall
RATE = [1.0, 2.0, 3.0, 3.0, 1.0, 2.0, 3.0, 1.0]
CUT = 5


def by_sums(step: int, lam: float) -> tuple[float, float, float, float]:
    """S1pt, S1cpt, S2pt, S2cpt written out; the warm-up (steps 1 to 3) takes no part in S2."""

    def area(until: int) -> float:
        return sum(
            (RATE[k - 1] - RATE[k]) * lam ** (i - k) for i in range(until) for k in range(3, i + 1)
        )

    cut = min(step, CUT)
    return sum(RATE[:cut]), sum(RATE[cut:step]), area(cut), area(step) - area(cut)


@pytest.mark.parametrize("lam", [0.5, LAMBDA])
def test_the_areas_are_cut_at_the_transfer_and_the_rewarm_is_negative(lam: float) -> None:
    steps = list(range(1, 9))
    rates = Rates({"": RATE}, [""] * 8, steps)
    found = rates.split(np.full(8, CUT), lam)
    np.testing.assert_allclose(np.transpose(found), [by_sums(s, lam) for s in steps], atol=1e-13)
    part = rates[np.array([5, 7])].split([CUT, CUT], lam)
    np.testing.assert_allclose(np.transpose(part), [by_sums(6, lam), by_sums(8, lam)], atol=1e-13)
    # a step after the transfer: what the fall before it still adds, and the rewarm
    assert found[3][5] == pytest.approx(2.0 * lam - 1.0)
    np.testing.assert_array_equal(found[3][:CUT], 0.0)


def test_a_full_rewarm_ends_at_a_negative_area() -> None:
    # 20 k steps, 2 % warm-up to 2e-4, linear to 0 over the last tenth; before it a rate of 0 for so
    # long that nothing of the first fall is left
    before = np.concatenate([schedule("wsd", 2000, 2e-4, decay=500), np.zeros(20_000)])
    after = schedule("wsd", 20_000, 2e-4, warmup=400, decay=2000)
    rates = Rates({"": np.concatenate([before, after])}, [""], [42_000])
    assert rates.split([22_000], LAMBDA)[3][0] == pytest.approx(-0.0864, abs=5e-5)


def test_where_the_transfer_lies_must_be_told() -> None:
    table = losses(curves())
    with pytest.raises(Refused, match="cpt-dynamics needs transfer_step: the table has no column"):
        fit("cpt-dynamics", table.drop(columns="transfer_step"), rates=curves())
    named = table.rename(columns={"transfer_step": "branch"})
    found = fit(
        "cpt-dynamics", named, rates=curves(), columns={"transfer_step": "branch"}, interval="none"
    )
    assert found.residual_rms < 1e-7
    with pytest.raises(Refused, match=r"steps must be whole numbers from 1, not 2000\.5"):
        fit("cpt-dynamics", table.assign(transfer_step=2000.5), rates=curves())
    with pytest.raises(Refused, match="transfer_step must be positive"):
        fit("cpt-dynamics", table.assign(transfer_step=0), rates=curves())
    with pytest.raises(Refused, match="a transfer has steps before it"):
        Rates({"": RATE}, [""], [3]).split([0], LAMBDA)


# The form -----------------------------------------------------------------------------------


def test_without_a_shift_and_with_equal_weights_it_is_the_annealing_law() -> None:
    frame = places(curves())
    rates = Rates(curves(), frame["curve"].tolist(), frame["step"].to_numpy())
    x = {"rates": rates, "transfer_step": frame["transfer_step"].to_numpy(float)}
    whole = ANNEALING.predict({**TRUTH, "C": 0.4}, x)
    np.testing.assert_allclose(
        CPT_DYNAMICS.predict({**TRUTH, "C1": 0.4, "C2": 0.4, "B": 0.0}, x), whole, rtol=1e-13
    )


def test_the_product_is_the_same_law_and_beta_may_go_to_zero() -> None:
    frame = places(curves())
    rates = Rates(curves(), frame["curve"].tolist(), frame["step"].to_numpy())
    x = {"rates": rates, "transfer_step": frame["transfer_step"].to_numpy(float)}
    product = {**TRUTH, "B_beta": TRUTH["B"] * TRUTH["beta"]}
    np.testing.assert_allclose(
        CPT_DYNAMICS_PRODUCT.predict(product, x), CPT_DYNAMICS.predict(TRUTH, x), rtol=1e-13
    )
    after = rates.split(x["transfer_step"], LAMBDA)[1]
    flat = CPT_DYNAMICS_PRODUCT.predict({**product, "beta": 1e-9}, x)
    none = CPT_DYNAMICS_PRODUCT.predict({**product, "B_beta": 0.0}, x)
    grown = np.log1p(TRUTH["E"] * after)  # and beta log / 2 of it is the next term
    expected = product["B_beta"] * grown * (1 - NO_BETA * grown / 2)
    np.testing.assert_allclose(flat - none, expected, atol=1e-12)


@pytest.mark.parametrize("one", [CPT_DYNAMICS, CPT_DYNAMICS_PRODUCT], ids=lambda one: one.name)
@pytest.mark.parametrize("beta", [0.3, 2e-4])
def test_slopes_are_central_differences(one: Any, beta: float) -> None:
    frame = places(curves())
    rates = Rates(curves(), frame["curve"].tolist(), frame["step"].to_numpy())
    x = {"rates": rates, "transfer_step": frame["transfer_step"].to_numpy(float)}
    p = {key: value for key, value in {**TRUTH, "B_beta": 0.15, "beta": beta}.items()
         if key in one.names}  # fmt: skip
    found = one.predict({key: Dual(value, {key: 1.0}) for key, value in p.items()}, x)
    for key, value in p.items():
        step = 1e-5 * value
        up, down = (one.predict({**p, key: value + s}, x) for s in (step, -step))
        expected = (up - down) / (2 * step)
        slope = np.broadcast_to(found.slopes[key], expected.shape)
        size = np.abs(expected).max()
        np.testing.assert_allclose(slope, expected, rtol=1e-4, atol=1e-6 * size, err_msg=key)


def test_printed_rows_say_what_the_paper_prints_of_a_constant_rate() -> None:
    # Beside the fits the paper prints the shift alone at a constant rate, in steps: .368 (1 -
    # (.008 t + 1)^-.173) on D_pt and .702 (1 - (1.345 t + 1)^-.131) on D_cpt, of its setting A,
    # peak 2e-4. Two fits of one thing: they agree within a hundredth of a nat up to 20 k steps.
    steps = np.array([100.0, 1000.0, 5000.0, 20_000.0])
    source = next(iter(CPT_DYNAMICS.published)).partition(", setting")[0]
    for text, printed in (
        ("D_pt", 0.368 * (1 - (0.008 * steps + 1) ** -0.173)),
        ("D_cpt", -0.702 * (1 - (1.345 * steps + 1) ** -0.131)),
    ):
        p = dict(CPT_DYNAMICS.published[f"{source}, setting A, 106M, {text}"])
        rates = Rates({"": np.full(30_000, 2e-4)}, [""] * 4, 10_000 + steps)
        x = {"rates": rates, "transfer_step": np.full(4, 10_000.0)}
        shift = CPT_DYNAMICS.predict(p, x) - CPT_DYNAMICS.predict({**p, "B": 0.0}, x)
        np.testing.assert_allclose(shift, printed, atol=0.01)


def test_of_the_printed_rows_with_the_smallest_beta_the_product_is_all_there_is() -> None:
    source = next(iter(CPT_DYNAMICS.published)).partition(", setting")[0]
    rates = Rates({"": np.full(30_000, 2e-4)}, [""] * 2, [11_000, 30_000])
    x = {"rates": rates, "transfer_step": np.full(2, 10_000.0)}
    after = rates.split(x["transfer_step"], LAMBDA)[1]
    for row in ("C, 594M", "D, 1720M"):
        p = dict(CPT_DYNAMICS.published[f"{source}, setting {row}, D_pt"])
        assert p["beta"] <= 0.004
        shift = CPT_DYNAMICS.predict(p, x) - CPT_DYNAMICS.predict({**p, "B": 0.0}, x)
        product = p["B"] * p["beta"] * np.log1p(p["E"] * after)
        np.testing.assert_allclose(shift, product, rtol=0.015)
    for name, printed in CPT_DYNAMICS.published.items():
        assert (printed["B"] > 0) == name.endswith("D_pt")
        assert set(printed) == set(CPT_DYNAMICS.names)


# Fits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [1.0, -1.0], ids=["forgotten", "learnt"])
def test_noise_free_curves_give_back_the_parameters(sign: float) -> None:
    truth = {**TRUTH, "B": sign * TRUTH["B"]}
    found = fit("cpt-dynamics", losses(curves(), truth), rates=curves(), interval="none")
    assert found.params == pytest.approx(truth, rel=1e-3)
    assert found.residual_rms < 1e-7


def test_an_unseen_rewarm_is_predicted() -> None:
    found = fit("cpt-dynamics", losses(curves(), noise=1e-3), rates=curves(), interval="covariance")
    truth = losses(UNSEEN)
    predicted = found.predict(truth, band="curve", rates=UNSEEN)
    late = truth["step"] > TRUNK + 50
    error = np.abs(predicted["predicted"] / truth["loss_nats"] - 1)[late]
    assert error.max() < 2e-3
    inside = (predicted["low"] <= truth["loss_nats"]) & (truth["loss_nats"] <= predicted["high"])
    assert inside[late].mean() > 0.5


@pytest.mark.parametrize("seed", range(3))
def test_the_degenerate_triple_is_said_and_its_product_is_known(seed: int) -> None:
    # beta so small that the shift is a logarithm, as in the paper's settings C and D
    truth = {**TRUTH, "B": 29.0, "beta": 0.002, "E": 20.0}
    table = losses(curves(), truth, noise=1e-3, seed=seed)
    found = fit("cpt-dynamics", table, rates=curves(), interval="covariance")
    assert ("B", "beta") in [tuple(sorted(pair)) for pair in found.degenerate]
    assert any("B and beta trade off" in note for note in found.notes)
    known = fit("cpt-dynamics-product", table, rates=curves(), interval="profile")
    assert known.objective_value <= found.objective_value * (1 + 1e-6)
    assert known.status == "sound"
    one = known.interval("B_beta")
    assert one.method == "profile"
    assert one.low is not None
    assert one.high is not None
    assert one.low <= 29.0 * 0.002 <= one.high
    assert one.high / one.low < 1.5  # of B by itself not even the power of ten is known


def test_a_logarithm_may_be_asked_for() -> None:
    table = losses(curves(), {**TRUTH, "B": 29.0, "beta": 0.002, "E": 20.0}, noise=1e-3)
    one = fit("cpt-dynamics-product", table, rates=curves(), pin={"beta": 0.0}, interval="none")
    assert one.residual_rms < 0.004
    assert one.params["B_beta"] == pytest.approx(0.058, rel=0.05)


def test_a_fit_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    found = fit("cpt-dynamics", losses(curves(), noise=1e-3), rates=curves(), interval="none")
    save_fits([found], tmp_path / "fit.json")
    (again,) = load_fits(tmp_path / "fit.json")
    assert again.summary() == found.summary()
    assert again.x["rates"] == found.x["rates"]
    np.testing.assert_array_equal(again.x["transfer_step"], found.x["transfer_step"])
    assert law("cpt-dynamics") is CPT_DYNAMICS
