"""The identity of a state: what went into steps 0..t, however the path to it was cut.

A state is identified by the normalised inputs of its steps: initial weights (drawn, or those of an
adopted checkpoint), optimizer, realised learning rates, order of the data with the corpora's
digests, precision and `NUMERICS`. Neighbouring phases that differ in nothing but their name or
schedule are one stretch, so hold(1000) and the first 1000 steps of hold(2000) are one state. Stack,
mesh, chunk length and library versions stay outside: they are
provenance, and recorded beside the state.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

from lab.errors import Refused
from lab.origin import Origin
from lab.schedule import Rates, boundaries, realise
from lab.spec import ModelSpec, OptimizerSpec, RunSpec, canonical

# Raised by hand when the arithmetic of a training step changes; tests/lab/test_golden.py says when.
NUMERICS = 1
WEIGHT_ONE = 2**32  # weights are compared and counted in units of 2^-32, exactly


@dataclass(frozen=True)
class Stretch:
    """Steps start..stop on one mixture: what `lab.mixture` turns into window indices.

    `shares` holds (corpus digest, weight in units of 2^-32), weight 0 left out, in the spec's
    order. `reread` are the digests, in that order, of what is read from its beginning again;
    `order` says how the windows are sorted, or is None.
    """

    start: int
    stop: int
    shares: tuple[tuple[str, int], ...]
    reset_optimizer: bool
    reread: tuple[str, ...] = ()
    order: "Order | None" = None

    @property
    def inputs(self) -> tuple[Any, ...]:
        """What decides on the data of its steps beside their number, as it is written.

        What came later is written only where it is used: other identities stay.
        """
        inputs: tuple[Any, ...] = (self.shares, self.reset_optimizer)
        if self.reread:
            inputs += (("reread", self.reread),)
        if self.order is not None:
            # sorted is what the stretch reads as a whole: its first steps are of no shorter one
            inputs += (("order", self.order.kind, self.order.digests, self.stop),)
        return inputs

    @property
    def whole(self) -> bool:
        """Whether no other stretch goes on in the middle of this one."""
        return bool(self.reread) or self.order is not None


@dataclass(frozen=True)
class Order:
    """An order of windows by a score; `digests` are of the scores of each share's corpus.

    The score's name is for who reads the scores, and no part of an identity.
    """

    kind: str
    score: str
    digests: tuple[str, ...]


def scores_of(corpus: str, score: str) -> str:
    """Name under which the digest of a corpus's scores stands among the digests of corpora."""
    return f"{corpus}:{score}"


def stretches(run: RunSpec, digests: Mapping[str, str]) -> tuple[Stretch, ...]:
    """The phases of a run, merged where nothing but name and schedule tells them apart.

    `digests` maps corpus name to content digest, and `scores_of` a corpus to that of its scores,
    where a phase orders it by them: such a phase is sorted by itself and merged with none. Raises
    Refused on one text under two names: a corpus has one cursor.
    """
    merged: list[Stretch] = []
    start = 0
    for phase, steps in zip(run.phases, run.phase_steps(), strict=True):
        shares = tuple(
            (digests[share.corpus], round(share.weight * WEIGHT_ONE))
            for share in phase.mixture
            if round(share.weight * WEIGHT_ONE) > 0
        )
        if len({digest for digest, _ in shares}) < len(shares):
            names = [share.corpus for share in phase.mixture]
            raise Refused(f"phase {phase.name!r}: mixture = {names}: two of these are one text")
        order = None
        if phase.order != "uniform":
            read = [share.corpus for share in phase.mixture if round(share.weight * WEIGHT_ONE) > 0]
            found = tuple(digests[scores_of(corpus, phase.score)] for corpus in read)
            order = Order(phase.order, phase.score, found)
        reset = phase.reset_optimizer and (start > 0 or run.start != "")
        again = {digests[name] for name in phase.reread}
        if not run.start:  # of nothing read there is no more; what an adopted trunk read counts
            again &= {digest for stretch in merged for digest, _ in stretch.shares}
        reread = tuple(digest for digest, _ in shares if digest in again)
        one = Stretch(start, start + steps, shares, reset, reread, order)
        apart = not merged or reset or one.whole or merged[-1].whole
        if not apart and merged[-1].shares == shares:
            merged[-1] = dataclasses.replace(merged[-1], stop=one.stop)
        else:
            merged.append(one)
        start += steps
    return tuple(merged)


@dataclass(frozen=True)
class Path:
    """A run as the trainer sees it: initial draw, stretches of data, a rate a step.

    `origin` is the adopted checkpoint that `run.start` names, if it names one.
    """

    run: RunSpec
    digests: Mapping[str, str]
    origin: Origin | None = None

    def __post_init__(self) -> None:
        if self.run.start != (self.origin.digest if self.origin is not None else ""):
            raise Refused(f"start = {self.run.start!r}: is not the checkpoint that was opened")

    @cached_property
    def lr(self) -> Rates:
        return realise(self.run, self.origin.lr if self.origin is not None else 0.0)

    @cached_property
    def stretches(self) -> tuple[Stretch, ...]:
        return stretches(self.run, self.digests)

    @cached_property
    def boundaries(self) -> list[int]:
        return boundaries(self.run)

    @property
    def steps(self) -> int:
        return self.run.steps

    @cached_property
    def _start(self) -> bytes:
        """What the initial state is made from."""
        run = self.run
        head = {
            "numerics": NUMERICS,
            "precision": run.precision,
            "model": json.loads(_written(run.model, repr(run.model))),
        }
        # an adopted checkpoint is there whole: the seed draws nothing before the first step
        head |= {"start": run.start} if run.start else {"seed": run.seed}
        return canonical(head).encode()

    @cached_property
    def _trained(self) -> "hashlib._Hash":
        """Digest of what every later state begins with."""
        optimizer = _written(self.run.optimizer, repr(self.run.optimizer))
        seed = f',"seed":{canonical(self.run.seed)}' if self.run.start else ""
        return hashlib.sha256(self._start + f'{{"optimizer":{optimizer}{seed}}}'.encode())

    @cached_property
    def _rates(self) -> memoryview:
        """Realised rates as bytes, 4 a step."""
        return memoryview(self.lr.astype("<f4").tobytes())

    @cached_property
    def _chain(self) -> list[tuple[int, int, str, str]]:
        """A stretch: start, stop, and the canonical JSON of batch and chain around its last step.

        A state at step t of a stretch has the stretches before it whole, and this one up to t.
        """
        pieces = []
        before = f'{{"batch":{canonical(self.run.batch)},"chain":['
        for s in self.stretches:
            before += f"[{s.start},"
            after = f",{canonical(list(s.inputs))[1:]}"
            pieces.append((s.start, s.stop, before, f"{after}]}}"))
            before += f"{s.stop}{after},"
        return pieces

    def state_id(self, step: int) -> str:
        """Identity of the state after `step` steps: 32 hexadecimal digits."""
        if step <= 0:
            return hashlib.sha256(self._start).hexdigest()[:32]
        _, stop, before, after = next(one for one in reversed(self._chain) if one[0] < step)
        digest = self._trained.copy()
        digest.update(f"{before}{min(stop, step)}{after}".encode())
        digest.update(self._rates[: 4 * step])
        return digest.hexdigest()[:32]


@lru_cache(maxsize=4096)
def _written(spec: ModelSpec | OptimizerSpec, shown: str) -> str:
    """Canonical JSON of a spec: grids have few specs and many runs.

    `shown` is its repr: a spec with 1 for True compares equal to a sound one, and is refused.
    """
    return canonical(spec)
