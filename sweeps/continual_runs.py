"""The runs of continual pre-training: a trunk on general text, branches at a domain share off it.

As Gu et al. (EMNLP 2024, arXiv 2407.17467) train them: the branch is warmed again to a tenth of the
trunk's peak rate and then held. Several studies ask something of these runs; runs with the same
trunk share it, whichever study asks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lab.adopt import open_adopted
from lab.errors import Refused
from lab.spec import ModelSpec, OptimizerSpec, Phase, RunSpec, Share, Stage, decay, hold, warm
from sweeps.grid import Grid
from sweeps.sweep import Sweep

RATIOS = (0.0, 1 / 8, 1 / 4, 1 / 3, 1 / 2, 3 / 4, 1.0)
TRUNK_END = 0.03  # of the trunk's peak rate, by a linear fall over its last fifth
DECAYED = 5  # that last part: one part in five


@dataclass(frozen=True)
class Scale:
    """Sizes are (name, model, trunk's peak rate, trunk seeds); lengths are in steps."""

    sizes: tuple[tuple[str, ModelSpec, float, int], ...]
    batch: int
    trunk: int
    trunk_warm: int
    rewarm: int
    horizons: tuple[int, ...]
    cpt_peak: float = 0.1  # of the trunk's peak rate, as in the paper (3e-4, then 3e-5)
    windows: int = 256

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one step; the sizes have their context in common."""
        return self.batch * self.sizes[0][1].context

    @property
    def horizon_tokens(self) -> tuple[int, ...]:
        return tuple(steps * self.tokens_per_step for steps in self.horizons)


def small_model(
    width: int, layers: int, heads: int, context: int, vocabulary: int = 256
) -> ModelSpec:
    """A model of bytes."""
    mlp_width = -(-width * 8 // 3 // 8) * 8  # 8/3 of the width, to a multiple of 8
    return ModelSpec(width, layers, heads, mlp_width, context, vocabulary)


def published_model(width: int, layers: int) -> ModelSpec:
    """A model of the paper's."""
    return ModelSpec(width, layers, 32, 3 * width, 4096, 65_632)


def fallen(chosen: Scale, tokens: int, peak: float, end: float = TRUNK_END) -> tuple[Stage, ...]:
    """The trunk's schedule over `tokens`: warm, hold, and a linear fall to `end` of the peak."""
    step = chosen.tokens_per_step
    falls = tokens // step // DECAYED * step
    return warm(chosen.trunk_warm * step, peak), hold(), decay(falls, end * peak)


def branched(
    chosen: Scale,
    model: ModelSpec,
    peak: float,
    general: str,
    domain: str,
    horizons: Sequence[int],
) -> RunSpec:
    """A trunk, and a branch as long as the longest horizon (tokens), half of it domain text.

    Raises Refused on a horizon off the steps, or within the rewarm.
    """
    step = chosen.batch * model.context
    for horizon in horizons:
        if horizon % step or horizon <= chosen.rewarm * step:
            raise Refused(
                f"horizon {horizon}: must be whole steps of {step} tokens, more than the "
                f"{chosen.rewarm * step} of the rewarm"
            )
    length = chosen.trunk * step
    trunk = Phase("pretrain", length, (Share(general, 1.0),), fallen(chosen, length, peak))
    branch = Phase(
        "cpt",
        max(horizons),
        (Share(domain, 0.5), Share(general, 0.5)),
        (warm(chosen.rewarm * step, chosen.cpt_peak * peak), hold()),
    )
    return RunSpec(model, OptimizerSpec(), (trunk, branch), seed=0, batch=chosen.batch)


def off_adopted(
    chosen: Scale, start: str, peak: float, general: str, domain: str, horizons: Sequence[int]
) -> RunSpec:
    """Only the branch, off an adopted checkpoint, rewarmed to `peak`; data in the order of its
    trunk, where that is known. Raises Refused, Failed."""
    origin = open_adopted(start)
    if not peak >= max(origin.lr, 1e-30):
        raise Refused(
            f"rewarm_lr = {peak:g}: an adopted trunk needs the rate at which it goes on, here from "
            f"{origin.lr:g}, where it ended (Gu et al.: a tenth of its peak)"
        )
    run = branched(chosen, origin.model, peak / chosen.cpt_peak, general, domain, horizons)
    branch = run.phases[-1]
    rewarmed = (replace(branch.schedule[0], to_lr=peak), *branch.schedule[1:])
    phases = (replace(branch, schedule=rewarmed),)
    optimizer = OptimizerSpec(name=origin.optimizer or "adamw")
    return replace(run, phases=phases, optimizer=optimizer, seed=origin.seed or 0, start=start)


def trunks_alike(asked: Sweep, grid: Grid) -> int:
    """Trunks of an arm's size: its seeds, or the adopted ones of its shape, an arm each."""
    if not grid.base.start:
        return len(grid.axes.get("seed", (0,)))
    alike = [one.base.start for one in asked.arms.values() if one.base.model == grid.base.model]
    return len(set(alike))


def rates_note(base: RunSpec) -> str:
    """For a report: the rates of trunk and branch, and whether the optimizer's state is kept."""
    branch = base.phases[-1]
    rewarmed = branch.schedule[0].to_lr or 0.0
    if base.start:
        origin = open_adopted(base.start)
        kept = "kept" if origin.optimizer and not branch.reset_optimizer else "fresh"
        return (
            f"Trunks were adopted, the first ended at a rate of {origin.lr:g}; continual "
            f"pre-training is rewarmed to {rewarmed:g} and held; optimizer state is {kept}"
        )
    trunk = base.phases[0]
    peak, end = trunk.schedule[0].to_lr or 0.0, trunk.schedule[-1].to_lr or 0.0
    return (
        f"Trunk's rate ends at {end / peak:g} of its peak; continual pre-training is rewarmed to "
        f"{rewarmed / peak:g} of it and held; optimizer state is "
        f"{'reset' if branch.reset_optimizer else 'kept'}"
    )
