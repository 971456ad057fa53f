"""The engine that was asked for, checked before anything is written."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lab.errors import Refused
from sweeps.engines.fleet import Engine, Fleet
from sweeps.engines.options import read_options

WORKERS = 8


def fleet_of(
    name: str,
    told: Sequence[str],
    workers: int | None,
    folder: Path,
    study: str,
    lanes: int | None,
    devices: int,
    say: Callable[[str], None],
) -> Fleet | None:
    """The fleet of an engine, or None for the engine of this process. Raises Refused.

    `lanes` of a stack and `devices` of a run: what a task takes where nobody says more. Without
    `lanes` there is no fleet: a driver does not see the devices of its workers.
    """
    if name == "local":
        if told or workers is not None:
            raise Refused("--engine-set and --workers are for --engine ray and slurm")
        return None
    options = read_options(told)
    if lanes is None:
        raise Refused(f"--engine {name} needs --stack: the lanes of a worker, which is elsewhere")
    if workers is not None and workers < 1:
        raise Refused(f"--workers {workers}: must be at least 1")
    _check(name, options)
    stack = lanes

    def opened() -> Engine:
        if name == "ray":
            from sweeps.engines.ray import RayEngine

            return RayEngine(folder, options, stack, devices)
        from sweeps.engines.slurm import SlurmEngine

        return SlurmEngine(folder, options, study)

    return Fleet(opened, folder, WORKERS if workers is None else workers, say)


def _check(name: str, options: Mapping[str, str]) -> None:
    if name == "ray":
        from sweeps.engines.ray import check
    else:
        from sweeps.engines.slurm import check
    check(options)
