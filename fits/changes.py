"""Sums over all past changes of a learning rate, by few terms.

A law of loss curves sums a smooth kernel over every step k <= t at which the rate changed:
sum_k change_k g(rate_k, S(t) - S(k)), S the cumulative rate. A smooth decay changes the rate at
thousands of steps, so that a curve of n places costs n times thousands of powers. But far from t
the kernel is smooth in k: over a block of steps that lies behind t by its own length in S or more,
it is the polynomial through its values at `NODES` of the steps, and the sum over the block is one
over those steps, with weights that serve every kernel. (So do tree codes; with polynomials: Fong
and Darve 2009, J. Comput. Phys. 228, 8712.)

Steps near t and blocks in which the rate is not smooth (a jump, a kink) stay single steps; steps
without a change drop out. A block is smooth when the logarithm of the rate and the cumulative rate
are themselves polynomials over it, within `WITHIN`, and S begins there at its own length or more
(powers of S are singular at 0). Measured on cosine, linear, exponential and
1-sqrt decays, and on a cosine interpolated linearly every 128 steps, for kernels all over the laws'
bounds (tests/fits/test_changes.py): sums are within 2e-8 of the whole change of rate. Where the
changes are worth .1 nats, that is 2e-9 nats.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

NODES = 10  # steps that stand for a block, even; the smallest blocks are these steps themselves
LEVELS = 12  # the largest blocks have NODES 2^LEVELS steps
WITHIN = 1e-5  # of ln(rate), and of the cumulative rate relative to the block's own
_TINY = 1e-100  # a rate of 0 has a logarithm here, and its powers stay finite


@dataclass(frozen=True)
class Changes:
    """Terms of the sums at n places, flat: those of place i are [first[i], first[i + 1]).

    `signed` are the weights of all changes (falls positive), `falls` those of falls alone;
    `log_rate` ln rate_k after the change; `from_step` the rates summed over steps k..t;
    `after_step` over steps k + 1..t; `log_time` the logarithm of those over steps 1..k.
    """

    first: Integers  # [n + 1]
    signed: Floats  # [terms], as all that follow
    falls: Floats
    log_rate: Floats
    from_step: Floats
    after_step: Floats
    log_time: Floats

    def sum(self, terms: Floats) -> Floats:
        """Sums of `terms`, [terms], by place: [n]."""
        total = np.zeros(len(self.first) - 1)
        busy = np.flatnonzero(np.diff(self.first))
        if len(busy):
            total[busy] = np.add.reduceat(terms, self.first[busy])
        return total

    def __getitem__(self, rows: Integers) -> "Changes":
        """The terms of these places, in their order."""
        count = np.diff(self.first)[rows]
        first = np.concatenate([[0], np.cumsum(count)])
        at = np.arange(first[-1]) + np.repeat(self.first[rows] - first[:-1], count)
        return Changes(first, *(getattr(self, name)[at] for name in _COLUMNS))


_COLUMNS = ("signed", "falls", "log_rate", "from_step", "after_step", "log_time")


def join(parts: list[Changes]) -> Changes:
    """The places of all parts, one part after another."""
    none = Changes(np.zeros(1, np.int64), *(np.zeros(0) for _ in _COLUMNS))
    parts = [none, *parts]
    start = np.cumsum([part.first[-1] for part in parts])
    first = [part.first[1:] + s for part, s in zip(parts[1:], start[:-1], strict=True)]
    return Changes(
        np.concatenate([none.first, *first]),
        *(np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS),
    )


@dataclass(frozen=True)
class _Level:
    """Blocks of one size: which hold a change, which are polynomial, weights at their nodes."""

    size: int
    busy: NDArray[np.bool_]  # [blocks]
    smooth: NDArray[np.bool_]  # [blocks]
    nodes: Integers  # [NODES], from the block's first step
    signed: Floats  # [blocks, NODES]
    falls: Floats  # [blocks, NODES]


class History:
    """A curve's changes in blocks of NODES, 2 NODES, 4 NODES ... steps.

    `rate` is [T], of steps 1..T; `summed` [T + 1], the rates summed over the first 0..T steps;
    `change` [T], the rate before each step less that at it.
    """

    def __init__(self, rate: Floats, summed: Floats, change: Floats) -> None:
        levels = int(np.clip(np.ceil(np.log2(len(rate) / NODES)), 0, LEVELS))
        rest = -len(rate) % (NODES * 2**levels)  # a block that ends beyond T is not used whole
        self.log_rate = np.log(np.maximum(np.pad(rate, (0, rest), "edge"), _TINY))
        self.summed = np.pad(summed, (0, rest), "edge")
        self.change = np.pad(change, (0, rest))
        self.levels = [self._level(NODES * 2**power) for power in range(levels + 1)]

    def _level(self, size: int) -> _Level:
        nodes, through = _polynomials(size)
        change, log_rate = self.change.reshape(-1, size), self.log_rate.reshape(-1, size)
        summed = self.summed[1:].reshape(-1, size)
        begin = self.summed[:-1:size]
        length = summed[:, -1] - begin
        off_rate = np.abs(log_rate[:, nodes] @ through.T - log_rate).max(1)
        off_sum = np.abs((summed[:, nodes] - summed[:, :1]) @ through.T - summed + summed[:, :1])
        return _Level(
            size,
            np.any(change != 0.0, axis=1),
            (off_rate <= WITHIN) & (off_sum.max(1) <= WITHIN * length) & (begin >= length),
            nodes,
            change @ through,
            np.maximum(change, 0.0) @ through,
        )

    def at(self, steps: Integers) -> Changes:
        """The terms at these steps, [n] of 1..T: of the largest blocks that will do."""
        blocks = len(self.change) // self.levels[-1].size
        place = np.repeat(np.arange(len(steps)), blocks)  # what is left to do: block for place
        block = np.tile(np.arange(blocks), len(steps))
        owner: list[Integers] = []
        step: list[Integers] = []
        signed: list[Floats] = []
        falls: list[Floats] = []
        for level in reversed(self.levels):
            first = block * level.size
            keep = level.busy[block] & (first < steps[place])
            place, block, first = place[keep], block[keep], first[keep]
            last = first + level.size
            length = self.summed[last] - self.summed[first]
            behind = self.summed[steps[place]] - self.summed[last]
            ready = level.smooth[block] & (last <= steps[place]) & (behind >= length)
            if level.size == NODES:  # single steps, each with its own weight
                ready[:] = True
            k = first[ready, None] + level.nodes
            weight, fall = level.signed[block[ready]], level.falls[block[ready]]
            due = (k < steps[place[ready], None]) & ((weight != 0.0) | (fall != 0.0))
            owner.append(np.broadcast_to(place[ready, None], k.shape)[due])
            step.append(k[due])
            signed.append(weight[due])
            falls.append(fall[due])
            place = np.repeat(place[~ready], 2)
            block = np.repeat(2 * block[~ready], 2)
            block[1::2] += 1
        owners = np.concatenate(owner)
        order = np.argsort(owners, kind="stable")
        at, now = np.concatenate(step)[order], self.summed[steps[owners[order]]]
        return Changes(
            np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=len(steps)))]),
            np.concatenate(signed)[order],
            np.concatenate(falls)[order],
            self.log_rate[at],
            now - self.summed[at],
            now - self.summed[at + 1],
            np.log(self.summed[at + 1]),
        )


@lru_cache(maxsize=LEVELS + 1)
def _polynomials(size: int) -> tuple[Integers, Floats]:
    """Nodes near Chebyshev's, [NODES]; what takes values there to all steps, [size, NODES]."""
    half = np.arange(NODES // 2)
    ideal = 0.5 * (size - 1) * (1 - np.cos(np.pi * half / (NODES - 1)))
    low = np.maximum.accumulate(np.rint(ideal).astype(np.int64) - half) + half  # all different
    nodes = np.concatenate([low, size - 1 - low[::-1]])
    x = np.arange(size, dtype=np.float64)
    through = np.ones((size, NODES))
    for j in range(NODES):
        for i in range(NODES):
            if i != j:
                through[:, j] *= (x - nodes[i]) / (nodes[j] - nodes[i])
    return nodes, through
