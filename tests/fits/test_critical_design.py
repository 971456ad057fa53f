"""What is believed of a critical ratio's curve, and which cells are measured next."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from fits.critical import critical_ratio
from fits.critical_design import Belief, Cell, Choice, Prior, full_width
from tests.fits.test_critical import table

GRID = [1 / 8, 1 / 4, 1 / 3, 1 / 2, 3 / 4]
PRIOR = Prior(0.0, 0.28, 0.08, 0.22, 0.08, 1.9, 0.4, 0.006, 3.0, 0.002)


def curve(ratio: float, place: float = 0.3) -> float:
    return 0.25 * (ratio**2.1 - place**2.1)


def measured(
    seeds: dict[int, float], ratios: Sequence[float], place: float = 0.3
) -> dict[Cell, float]:
    """Changes on the curve, each seed off by its own."""
    return {(k, r): curve(r, place) + off for k, off in seeds.items() for r in ratios}


def choice(known: dict[Cell, float], seeds: int = 6, lost: Sequence[Cell] = ()) -> Choice:
    return Choice(
        Belief(PRIOR, known),
        list(range(seeds)),
        GRID,
        lambda cell: cell not in lost,
        lambda cells: 1.0 * len(cells) + 2.0 * len({seed for seed, _ in cells}),
    )


def now(known: dict[Cell, float]) -> object:
    seeds, ratios = sorted({k for k, _ in known}), sorted({r for _, r in known})
    return critical_ratio(table([[known[k, r] for r in ratios] for k in seeds], ratios), 0.0)


def test_before_anything_is_measured_the_prior_speaks() -> None:
    belief = Belief(PRIOR, {})
    middle, low, high = belief.predict([(0, 0.28)])
    assert middle[0] == pytest.approx(0.0, abs=1e-12)
    slope = 0.22 * 1.9 * 0.28**0.9
    assert belief.slope(0.28) == pytest.approx(slope, rel=1e-4)
    sd = math.sqrt((0.08 * slope) ** 2 + 0.006**2 + 0.002**2)
    assert high[0] - low[0] == pytest.approx(2 * 3.182446 * sd, rel=1e-3)  # t, 3 degrees of freedom
    assert belief.crossing(GRID) == pytest.approx(0.28, abs=0.002)


def test_a_curve_that_was_measured_is_believed_and_seeds_keep_their_deviation() -> None:
    belief = Belief(PRIOR, measured({0: 0.008, 1: -0.008}, [0.25, 1 / 3, 0.5]))
    (of_known, of_new), low, high = belief.predict([(0, 0.75), (5, 0.75)])
    assert of_known - of_new == pytest.approx(0.008, abs=0.001)
    assert belief.crossing(GRID) == pytest.approx(0.3, abs=0.005)
    assert high[1] - low[1] > high[0] - low[0]  # whose deviation is not known


def test_intervals_of_what_is_not_measured_hold_it() -> None:
    random, held = np.random.default_rng(0), []
    for _ in range(100):
        off = {k: float(random.normal(0, 0.006)) for k in range(4)}
        full = {cell: y + float(random.normal(0, 0.001)) for cell, y in measured(off, GRID).items()}
        belief = Belief(PRIOR, {k: y for k, y in full.items() if k[0] < 3 and k[1] < 0.4})
        cells = [cell for cell in full if cell not in belief.known]
        _, low, high = belief.predict(cells)
        held += [a <= full[cell] <= b for cell, a, b in zip(cells, low, high, strict=True)]
    assert np.mean(held) >= 0.93


def test_sd_between_branches_is_what_ratios_and_seeds_do_not_add_up_to() -> None:
    known = measured({0: 0.0, 1: 0.02, 2: -0.02}, GRID)
    assert Belief(PRIOR, known).branch_sd == pytest.approx(0.002 * math.sqrt(3 / 11))
    known[0, 0.25] += 0.03
    assert Belief(PRIOR, known).branch_sd > 0.004


def test_what_is_complete_is_read_as_the_reader_does() -> None:
    known = measured({0: 0.004, 1: -0.003, 2: 0.001}, GRID)
    assert Belief(PRIOR, known).reads([0, 1, 2], GRID) == now(known)


def test_the_first_round_is_two_seeds_about_the_believed_place() -> None:
    step = choice({}).step(0.2, None)
    assert step.cells == [(0, 1 / 4), (0, 1 / 3), (1, 1 / 4), (1, 1 / 3)]


def test_half_of_the_seeds_that_a_width_needs_come_next_at_ratios_in_use() -> None:
    known = measured({0: 0.005, 1: -0.005}, [1 / 4, 1 / 3])
    step = choice(known, 40).step(0.03, None)
    assert step.seeds > 6
    new = sorted({seed for seed, _ in step.cells})
    assert new == list(range(2, 2 + math.ceil((step.seeds - 2) / 2)))
    assert {ratio for _, ratio in step.cells} == {1 / 4, 1 / 3}


def test_an_open_end_gets_the_ratio_beside_it_in_every_seed() -> None:
    known = measured({0: 0.007, 1: -0.007, 2: 0.001}, [1 / 4, 1 / 3])
    step = choice(known, 3).step(0.3, now(known))  # type: ignore[arg-type]
    added = {ratio for _, ratio in step.cells}
    assert added
    assert added <= {1 / 8, 1 / 2, 3 / 4}
    assert {seed for seed, _ in step.cells} == {0, 1, 2}
    assert full_width(step.expected) <= 0.3


def test_a_place_that_turns_out_elsewhere_is_followed() -> None:
    known = measured({0: 0.001, 1: -0.001}, [1 / 4, 1 / 3], place=0.6)
    step = choice(known).step(0.1, now(known))  # type: ignore[arg-type]
    assert {(0, 1 / 2), (1, 1 / 2)} <= set(step.cells)


@pytest.mark.parametrize("wanted", [0.02, 0.1, 0.4])
def test_going_on_ends_and_never_measures_twice(wanted: float) -> None:
    random = np.random.default_rng(1)
    off = {k: float(random.normal(0, 0.006)) for k in range(5)}
    truth, known = measured(off, GRID), dict[Cell, float]()
    for _ in range(30):
        step = choice(known, 5).step(wanted, now(known) if known else None)  # type: ignore[arg-type]
        if not step.cells:
            break
        assert not set(step.cells) & set(known)
        known |= {cell: truth[cell] for cell in step.cells}
    assert not step.cells
    assert len({k for k, _ in known}) * len({r for _, r in known}) == len(known)  # seeds x ratios


def test_a_seed_that_lost_a_branch_is_passed_over_and_one_alone_has_no_interval() -> None:
    known = measured({0: 0.004, 1: -0.004}, [1 / 4, 1 / 3])
    lost = [(2, 1 / 4)]
    step = choice(known, 4, lost).step(0.03, None)
    assert 2 not in {seed for seed, _ in step.cells}
    assert 3 in {seed for seed, _ in step.cells}
    assert choice({}, 2, [(1, 1 / 4)]).step(0.03, None).cells == []
