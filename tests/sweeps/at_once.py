"""An engine for tests, in this process: a task has ended when it is handed over."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import pytest

import sweeps.engines.slurm
from sweeps.run import join_sweep


class AtOnce:
    """An engine whose tasks have ended when they are handed over. `fail`: which do nothing."""

    name = "at-once"
    queues = False

    def __init__(self, folder: Path, fail: Callable[[int], bool] = lambda number: False) -> None:
        self.folder, self.fail = folder, fail
        self.commands: list[list[str]] = []
        self.there: set[str] = set()
        self.closed = 0

    def submit(self, command: Sequence[str], after: Sequence[str]) -> str:
        assert not after
        self.commands.append(list(command))
        number = len(self.commands)
        if self.fail(number):
            self.log(str(number)).write_text("loading\nlab: no such \x1b[1mdevice\n\n")
        else:
            folder, averages = Path(command[4]), command[5] == "--averages"
            join_sweep(folder, [] if averages else command[6].split(","), quiet=True)
        return str(number)

    def alive(self, ids: Collection[str]) -> set[str]:
        return set(ids) & self.there

    def log(self, id: str) -> Path:
        return self.folder / f"{id}.log"

    def close(self) -> None:
        self.closed += 1


def stand_in(patch: pytest.MonkeyPatch, folder: Path) -> AtOnce:
    """Let `--engine slurm --engine-set cluster=local` hand its tasks to this engine."""
    engine = AtOnce(folder)
    patch.setattr(sweeps.engines.slurm, "SlurmEngine", lambda *told: engine)
    return engine


ON_IT = ("--engine", "slurm", "--engine-set", "cluster=local")
