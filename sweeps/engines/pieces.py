"""Pieces of work of one shape: which is next, what is finished, and what nobody can have."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from lab import flops
from sweeps.plan import Plan
from sweeps.remaining import Work


class Claims(Protocol):
    """Whose a piece of work is, where several processes train one sweep (`sweeps.leases`)."""

    def take(self, work: Work) -> bool:
        """Whether the piece is this process's from now on."""
        ...

    def give_back(self, work: Work) -> None:
        """The piece is committed."""
        ...


class NobodyElse:
    """All pieces are this process's."""

    def take(self, work: Work) -> bool:
        return True

    def give_back(self, work: Work) -> None:
        pass


class Pieces:
    """Those `numbers` of the list `work`. A piece that somebody else has is not asked for again:
    when nothing is left that can be had, whoever holds the list looks at the store anew."""

    def __init__(self, work: list[Work], numbers: Iterable[int], claims: Claims) -> None:
        self.work, self.numbers, self.claims = work, list(numbers), claims
        self.waiting = set(self.numbers)
        self.done: set[int] = set()
        self.dead: set[int] = set()  # diverged, or below one that did
        self._ways = ways_behind(work, [piece.stop - piece.start for piece in work])
        self._reserved: int | None = None

    def reserve(self) -> bool:
        """Claim the first piece, for the next `take`; whether there is one to be had."""
        self._reserved = self.take()
        return self._reserved is not None

    def take(self) -> int | None:
        """Number of the ready piece with the longest way behind it that can be had, if any is."""
        if self._reserved is not None:
            number, self._reserved = self._reserved, None
            return number
        ready = {n for n in self.waiting if self._is_ready(self.work[n].after)}
        while ready:
            number = max(ready, key=lambda n: (self._ways[n], -n))
            ready.discard(number)
            self.waiting.discard(number)
            if self.claims.take(self.work[number]):
                return number
        return None

    def _is_ready(self, after: int | None) -> bool:
        return after is None or after in self.done

    def committed(self, number: int) -> None:
        """A piece is on disk as a whole, or up to where it diverged."""
        if number not in self.dead:
            self.done.add(number)
        self.claims.give_back(self.work[number])

    def bury(self, number: int) -> None:
        """A diverged piece takes with it everything that would start from it."""
        self.dead.add(number)
        for child in [n for n in self.waiting if self.work[n].after == number]:
            self.waiting.discard(child)
            self.bury(child)


def ways_behind(work: list[Work], lengths: Sequence[float]) -> list[float]:
    """Length of the longest chain of pieces that starts with each piece."""
    ways = list(lengths)
    for number in reversed(range(len(work))):  # parents stand before their children
        after = work[number].after
        if after is not None:
            ways[after] = max(ways[after], lengths[after] + ways[number])
    return ways


def flops_behind(plan: Plan, work: list[Work]) -> list[float]:
    """Training FLOPs of the longest chain of pieces that starts with each piece."""
    runs = [plan.segments[one.segment].path.run for one in work]
    steps = [one.stop - one.start for one in work]
    lengths = [float(flops.train_flops(run, n)) for run, n in zip(runs, steps, strict=True)]
    return ways_behind(work, lengths)
