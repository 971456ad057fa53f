"""What holds for the arms of every study: which axes are read off them, and which have one seed."""

from lab.errors import Refused
from sweeps.sweep import Sweep


def refuse_other_axes(asked: Sweep, *read: str) -> None:
    """Raise Refused if an arm varies anything but the seed and what the study reads.

    Values of another axis would be taken for seeds, or for one another.
    """
    known = ("seed", *read)
    for grid in asked.arms.values():
        for path in grid.axes:
            if path not in known:
                axes = f"the axes {' and '.join(known)}" if read else "the axis seed"
                raise Refused(
                    f"axis {path}: {asked.study} reads only {axes}; run each value by itself, with "
                    f"--set {path}=... and an --out of its own"
                )


def one_seed(asked: Sweep) -> list[str]:
    """Arms with one seed, whose effects have no interval."""
    return [name for name, grid in asked.arms.items() if len(grid.axes.get("seed", (0,))) < 2]
