"""Learning-rate stages -> one float32 array, a rate a step.

The array is what trains, what is logged and what identifies a state; the stages are only how a
person writes it down. Step k of a stage of n steps (k = 0..n-1) sits at r = (k+1)/n of the way, so
a stage reaches its rate at its last step and the next stage starts from there.
"""

import numpy as np
from numpy.typing import NDArray

from lab.errors import Refused
from lab.spec import RunSpec, Stage

Rates = NDArray[np.float32]


def stage_rates(stage: Stage, steps: int, start_lr: float) -> NDArray[np.float64]:
    """Rates of one stage, shape [steps], float64. Raises Refused on a rise or fall not its own."""
    if stage.to_lr is None:
        return np.full(steps, start_lr)
    end_lr = stage.to_lr
    if stage.shape == "warm" and end_lr < start_lr:
        raise Refused(f"warm stage to {end_lr:g}: lies below the rate {start_lr:g} it starts from")
    if stage.shape != "warm" and end_lr > start_lr:
        raise Refused(
            f"{stage.shape} stage to {end_lr:g}: lies above the rate {start_lr:g} it starts from"
        )
    r = np.arange(1, steps + 1) / steps
    if stage.shape == "cosine":
        # Loshchilov & Hutter, 1608.03983, eq. 5, without restarts.
        rates = end_lr + (start_lr - end_lr) * 0.5 * (1 + np.cos(np.pi * r))
    elif stage.shape == "1-sqrt":
        # Hagele et al., 2405.18392; as in Luo et al., 2511.18903: eta0 (1 - sqrt r) + eta_T sqrt r.
        rates = start_lr * (1 - np.sqrt(r)) + end_lr * np.sqrt(r)
    else:
        rates = start_lr + (end_lr - start_lr) * r
    rates[-1] = end_lr
    return rates


def realise(run: RunSpec, before_lr: float = 0.0) -> Rates:
    """Learning rate of every step of a run, shape [steps], float32; `before_lr` is that before
    step 0: 0, or the one at which an adopted checkpoint ended."""
    return exact(run, before_lr).astype(np.float32)


def exact(run: RunSpec, before_lr: float = 0.0) -> NDArray[np.float64]:
    """The rates before they are rounded to float32: what a stage that follows begins at."""
    pieces: list[NDArray[np.float64]] = []
    lr = before_lr
    for phase in run.phases:
        for stage, tokens in zip(phase.schedule, phase.stage_tokens(), strict=True):
            try:
                rates = stage_rates(stage, run.steps_in(tokens), lr)
            except Refused as refusal:
                raise Refused(f"phase {phase.name!r}: {refusal}") from None
            pieces.append(rates)
            lr = float(rates[-1])
    return np.concatenate(pieces)


def boundaries(run: RunSpec) -> list[int]:
    """Steps at which a stage or phase ends, in order; the last is the run's end."""
    ends: list[int] = []
    step = 0
    for phase in run.phases:
        for tokens in phase.stage_tokens():
            step += run.steps_in(tokens)
            ends.append(step)
    return ends
