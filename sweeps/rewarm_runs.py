"""The runs of a study of re-warming: a trunk, its continuations one change apart, and controls.

Every arm of `fits.rewarm_arms` as a run. All warm to the trunk's peak, or a multiple of it, and end
where the trunk ends; those from scratch have the trunk's own warm-up.
"""

from dataclasses import dataclass, replace

from fits.rewarm_arms import (
    ADDITIVE,
    CONSTANT,
    EARLY,
    HELD,
    LENGTHS,
    LINEAR,
    LITERAL,
    PEAKS,
    REPLAYED,
    REPLAYS,
    RESET,
    SAME,
    SAME_CONSTANT,
    SCRATCH,
    SHIFTS,
    STRONG,
    UNSEEN,
    WEAK,
    replayed,
    union,
)
from lab.spec import ModelSpec, OptimizerSpec, Phase, RunSpec, Share, Stage, decay, hold, warm
from sweeps.continual_runs import small_model
from sweeps.peak_rates import peak_rule

BASE_LENGTH = 0.01
END = 0.1  # of the trunk's peak: where the trunk and every cosine end
DECAYED = 5  # the trunk falls over its last part of so many
UNSEEN_LENGTH, UNSEEN_PEAK = 0.03, 1.5  # between those fitted


@dataclass(frozen=True)
class Scale:
    """Lengths are in steps; `early` is the earlier state of the trunk, at its peak rate."""

    model: ModelSpec
    peak: float
    seeds: int
    batch: int
    trunk: int
    trunk_warm: int
    early: int
    branch: int
    windows: int = 256

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one step."""
        return self.batch * self.model.context


TINY_PEAK = peak_rule("tiny").peak_lr(24, 800 * 32 * 64)  # at the trunk's width and tokens
SCALES = {
    "smoke": Scale(small_model(16, 1, 1, 32), 1e-2, 2, 8, 60, 10, 36, 40, windows=64),
    "tiny": Scale(small_model(24, 2, 2, 64), TINY_PEAK, 8, 32, 800, 40, 400, 400, windows=128),
    "small": Scale(small_model(512, 8, 8, 512), 6e-4, 5, 128, 30_000, 600, 15_000, 10_000, 1024),
    # Ibrahim et al.: 405M parameters, 300 B tokens each, 1104 windows of 2048, peak 3e-4
    "paper": Scale(
        ModelSpec(1024, 24, 16, 2816, 2048, 50_432),
        3e-4, 3, 1104, 132_000, 1320, 66_000, 132_000, 2048,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Cells:
    """The runs at one scale, on a trunk's text and the texts of a weak and a strong shift."""

    chosen: Scale
    general: str
    weak: str
    strong: str

    def runs(self) -> dict[str, RunSpec]:
        """The run of every arm, later ones last."""
        base = self.branch(self.strong)
        phases: dict[str, tuple[Phase, ...]] = {STRONG: self.after(base)}
        for length, name in LENGTHS.items():
            phases[name] = self.after(self.branch(self.strong, self.schedule(length)))
        for peak, name in PEAKS.items():
            phases[name] = self.after(self.branch(self.strong, self.schedule(peak=peak)))
        for name, schedule in (
            (CONSTANT, (hold(),)),
            (HELD, (*self.schedule()[:1], hold())),
            (LINEAR, (*self.schedule()[:1], decay(None, self.end))),
        ):
            phases[name] = self.after(self.branch(self.strong, schedule))
        phases[RESET] = self.after(replace(base, reset_optimizer=True))
        early = Phase("pretrain", self.tokens(self.chosen.early), _only(self.general), self.rises())
        phases[EARLY] = (early, base)
        phases[WEAK] = self.after(self.branch(self.weak))
        for shift, text in zip(SHIFTS, (self.strong, self.weak), strict=True):
            for share in REPLAYS:
                mixed = self.branch(text, replay=share)
                phases[replayed(shift, share)] = self.after(mixed)
        literal = self.branch(self.strong, replay=REPLAYED)
        phases[LITERAL] = self.after(replace(literal, reread=(self.general,)))
        phases[ADDITIVE] = self.after(self.beside_all(self.strong, REPLAYED))
        for peak, name in SAME.items():
            phases[name] = self.after(self.branch(self.general, self.schedule(peak=peak)))
        phases[SAME_CONSTANT] = self.after(self.branch(self.general, (hold(),)))
        phases[SCRATCH] = (self.alone("scratch", self.chosen.branch, _only(self.strong)),)
        for shift, text in zip(SHIFTS, (self.strong, self.weak), strict=True):
            whole = self.chosen.trunk + self.chosen.branch
            part = self.chosen.branch / whole
            mixture = (Share(text, part), Share(self.general, 1 - part))
            phases[union(shift)] = (self.alone("union", whole, mixture),)
        phases[UNSEEN] = self.after(
            self.branch(self.strong, self.schedule(UNSEEN_LENGTH, UNSEEN_PEAK))
        )
        return {
            name: RunSpec(self.chosen.model, OptimizerSpec(), one, 0, self.chosen.batch)
            for name, one in phases.items()
        }

    def tokens(self, steps: int) -> int:
        return steps * self.chosen.tokens_per_step

    @property
    def end(self) -> float:
        return END * self.chosen.peak

    def rises(self) -> tuple[Stage, ...]:
        return warm(self.tokens(self.chosen.trunk_warm), self.chosen.peak), hold()

    def after(self, branch: Phase) -> tuple[Phase, ...]:
        """The trunk, warmed, held and fallen over its last part, and what continues it."""
        falls = decay(self.tokens(self.chosen.trunk // DECAYED), self.end)
        length, general = self.tokens(self.chosen.trunk), _only(self.general)
        return Phase("pretrain", length, general, (*self.rises(), falls)), branch

    def schedule(self, length: float = BASE_LENGTH, peak: float = 1.0) -> tuple[Stage, ...]:
        rise = self.tokens(self.rise(length))
        return warm(rise, peak * self.chosen.peak), decay(None, self.end, "cosine")

    def rise(self, length: float) -> int:
        """Steps of a rewarm; at a length of 0 the first step is at the peak."""
        return max(1, round(length * self.chosen.branch))

    def branch(
        self, text: str, schedule: tuple[Stage, ...] | None = None, replay: float = 0.0
    ) -> Phase:
        mixture = (Share(text, 1 - replay), Share(self.general, replay))
        tokens = self.tokens(self.chosen.branch)
        return Phase("cpt", tokens, mixture if replay else _only(text), schedule or self.schedule())

    def beside_all(self, text: str, replay: float) -> Phase:
        """Longer by the replay: all of the new text is read, and the rewarm is as long."""
        steps = round(self.chosen.branch / (1 - replay))
        part = self.chosen.branch / steps
        mixture = (Share(text, part), Share(self.general, 1 - part))
        return Phase("cpt", self.tokens(steps), mixture, self.schedule())

    def alone(self, name: str, steps: int, mixture: tuple[Share, ...]) -> Phase:
        schedule = self.rises()[0], decay(None, self.end, "cosine")
        return Phase(name, self.tokens(steps), mixture, schedule)


def _only(text: str) -> tuple[Share, ...]:
    return (Share(text, 1.0),)
