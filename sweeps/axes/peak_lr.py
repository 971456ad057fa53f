"""`PHASE.peak_lr`: the rate at which the phase's first warm stage ends."""

from lab.errors import Refused
from sweeps.axes import Axis, Json


def _stage(phase: Json, path: str) -> Json:
    for stage in phase["schedule"]:
        if stage["shape"] == "warm":
            return stage
    raise Refused(f"{path}: the schedule of phase {phase['name']!r} has no such stage")


def _get(phase: Json, path: str) -> Json:
    return _stage(phase, path)["to_lr"]


def _set(phase: Json, value: Json, path: str) -> None:
    _stage(phase, path)["to_lr"] = value


AXIS = Axis("schedule", _get, _set)
