"""Axes that a study does not read, and arms with one seed."""

import dataclasses

import pytest

from lab.errors import Refused
from sweeps.arms import one_seed, refuse_other_axes
from tests.sweeps.small import small_sweep


def test_an_axis_that_is_not_read_is_refused_with_what_is() -> None:
    asked = small_sweep(batch=(2, 4))
    with pytest.raises(Refused) as refused:
        refuse_other_axes(asked, "cpt.ratio")
    assert str(refused.value) == (
        "axis batch: small reads only the axes seed and cpt.ratio; run each value by itself, with "
        "--set batch=... and an --out of its own"
    )
    with pytest.raises(Refused, match=r"^axis cpt.ratio: small reads only the axis seed; "):
        refuse_other_axes(small_sweep())
    refuse_other_axes(asked, "cpt.ratio", "batch")


def test_arms_with_one_seed_or_none_named() -> None:
    asked = small_sweep(seeds=(3,))
    grid = asked.arms["only"]
    more = {
        "two": dataclasses.replace(grid, axes={**grid.axes, "seed": (0, 1)}),
        "none": dataclasses.replace(grid, axes={"cpt.ratio": (0.5,)}),
    }
    asked = dataclasses.replace(asked, arms={**asked.arms, **more})
    assert one_seed(asked) == ["only", "none"]
