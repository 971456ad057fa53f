"""The best peak rate as a law of width and of length of training, and what a rule's rate costs.

Longer runs want lower rates (Bjorck et al., 2409.19913), so that a rule that is to serve runs of
other lengths needs both powers. They are read off each seed's best rates (`fits.rate_transfer`) of
widths trained to more than one length; the same power of tokens is taken to hold at every width.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fits.errors import Refused
from fits.rate_transfer import MIN_WIDTHS, Bounds, RateCurve

ByLength = Mapping[int, Mapping[int, Mapping[int, RateCurve]]]  # tokens -> width -> seed
Rule = Callable[[int, float], float]  # width, tokens -> peak rate
Place = tuple[int, int]  # width, tokens

MIN_PAIRED = 2  # widths trained to more than one length


@dataclass(frozen=True)
class RateLaw:
    """Best rate = rate (width / base)^width_exponent (tokens / shortest)^tokens_exponent."""

    rate: float
    width_exponent: float
    tokens_exponent: float


def rate_laws(curves: ByLength, base: int) -> dict[int, RateLaw]:
    """By seed: least squares of log best rate on logs of width and tokens.

    None of a seed with best rates at fewer than MIN_WIDTHS widths, or with fewer than MIN_PAIRED of
    them at more than one length.
    """
    places: dict[int, list[tuple[int, int, float]]] = {}
    for tokens, by_width in curves.items():
        for width, by_seed in by_width.items():
            for unit, one in by_seed.items():
                if not one.edge:
                    places.setdefault(unit, []).append((width, tokens, one.best))
    found, shortest = {}, min(curves)
    for unit, rows in sorted(places.items()):
        widths = [width for width, _, _ in rows]
        paired = sum(widths.count(width) > 1 for width in set(widths))
        if len(set(widths)) >= MIN_WIDTHS and paired >= MIN_PAIRED:
            design = [
                [1, math.log2(width / base), math.log2(tokens / shortest)]
                for width, tokens, _ in rows
            ]
            (height, p, q), *_ = np.linalg.lstsq(
                np.array(design), np.array([best for *_, best in rows]), rcond=None
            )
            found[unit] = RateLaw(float(2**height), float(p), float(q))
    return found


def rule_costs(curves: ByLength, rule: Rule) -> tuple[dict[Place, dict[int, Bounds]], str]:
    """((width, tokens) -> seed -> nats that a rule's rate costs over the best, why not others)."""
    costs: dict[Place, dict[int, Bounds]] = {}
    why = ""
    for tokens, by_width in curves.items():
        for width, by_seed in by_width.items():
            mine = costs[width, tokens] = {}
            for unit, one in by_seed.items():
                try:
                    mine[unit] = one.cost(rule(width, tokens))
                except Refused as refusal:
                    why = why or f"width {width}, {tokens:,} tokens: {refusal}"
    return costs, why


def worst(costs: Mapping[Any, Mapping[int, Bounds]]) -> dict[int, Bounds]:
    """By seed the largest cost over places, of the seeds that have one at every place."""
    units = set.intersection(*(set(by_seed) for by_seed in costs.values())) if costs else set()
    return {
        unit: (
            max(by_seed[unit][0] for by_seed in costs.values()),
            max(by_seed[unit][1] for by_seed in costs.values()),
        )
        for unit in sorted(units)
    }
