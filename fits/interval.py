"""Intervals as values."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """A confidence interval; None on a side means that the data do not bound it there."""

    low: float | None
    high: float | None
    method: str
    note: str = ""

    def text(self) -> str:
        """As printed; an open side is infinite."""
        low = "-inf" if self.low is None else f"{self.low:.4g}"
        high = "inf" if self.high is None else f"{self.high:.4g}"
        return f"[{low}, {high}]"
