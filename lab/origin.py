"""What a run has to know of an adopted checkpoint that it starts from.

Its weights and moments are arrays in a file (`lab.adopt`). This is the rest: the model they belong
to, the rate at which training stopped, and how far each corpus had been read, so that a phase goes
on from there as it does from a state of the lab's own. The digest covers all of it and the arrays,
and identifies whatever is trained from there.
"""

import dataclasses
import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from lab.errors import Refused
from lab.spec import MAX_SEED, ModelSpec, RunSpec, canonical

Moments = Literal["", "adamw", "muon"]  # whose moments a checkpoint has; "": it has none
_CORPUS = re.compile(r"[0-9a-f]{32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Read:
    """Windows (of the model's context) that were read of a corpus, by its digest."""

    corpus: str
    windows: int


@dataclass(frozen=True)
class Weighed:
    """A corpus, by its digest, in a mixture; its weight in units of 2^-32."""

    corpus: str
    weight: int


@dataclass(frozen=True)
class Summed:
    """An array by its name in the file, with the SHA-256 of type, shape and values."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Origin:
    """An adopted checkpoint without its arrays.

    `lr` is the rate of its last step, before rounding. `seed` drew the order in which `read` was
    read; None where nobody knows. `mixture` is that of the stretch in which it stopped, with the
    `windows` read in it: the same mixture goes on without a seam.
    """

    model: ModelSpec
    optimizer: Moments
    lr: float
    seed: int | None
    read: tuple[Read, ...]
    mixture: tuple[Weighed, ...]
    windows: int
    arrays: tuple[Summed, ...]

    def __post_init__(self) -> None:
        if not self.lr >= 0:
            raise Refused(f"lr = {self.lr}: must not be negative")
        if self.seed is not None and not 0 <= self.seed <= MAX_SEED:
            raise Refused(f"seed = {self.seed}: must be in 0..{MAX_SEED}")
        counts = [*(one.windows for one in self.read), self.windows]
        counts += [one.weight for one in self.mixture]
        if min(counts) < 0:
            raise Refused(f"windows and weights = {min(counts)}: must not be negative")
        corpora = [one.corpus for one in self.read]
        if len(set(corpora)) < len(corpora):
            raise Refused("read: names a corpus twice")
        for digest in [*corpora, *(one.corpus for one in self.mixture)]:
            if not _CORPUS.fullmatch(digest):
                raise Refused(f"corpus = {digest!r}: must be its digest, 32 hexadecimal digits")
        for one in self.arrays:
            if not _SHA256.fullmatch(one.sha256):
                raise Refused(f"sha256 of {one.name} = {one.sha256!r}: must be 64 digits")

    @cached_property
    def digest(self) -> str:
        """64 hexadecimal digits: the name by which a run starts from this checkpoint."""
        return hashlib.sha256(canonical(self).encode()).hexdigest()

    @cached_property
    def shares(self) -> tuple[tuple[str, int], ...]:
        """The mixture as a stretch has it (`lab.identity.Stretch`)."""
        return tuple((one.corpus, one.weight) for one in self.mixture)

    def refuse_unlike(self, run: RunSpec) -> None:
        """Raise Refused where `run` cannot start from this checkpoint."""
        for one in dataclasses.fields(ModelSpec):
            there, here = getattr(self.model, one.name), getattr(run.model, one.name)
            if there != here:
                raise Refused(
                    f"model.{one.name} = {here}: start = {self.digest[:12]}... is a checkpoint "
                    f"with {there}"
                )
        first = run.phases[0]
        other = self.optimizer not in ("", run.optimizer.name)
        if other and not first.reset_optimizer:
            raise Refused(
                f"optimizer.name = {run.optimizer.name}: start = {self.digest[:12]}... has the "
                f"moments of {self.optimizer}; set {first.name}.reset_optimizer=true to begin "
                "without them"
            )
