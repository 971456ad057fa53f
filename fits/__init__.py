"""Laws from tables of losses: fit, interval, hold-out, critical ratio, figure, report.

Needs NumPy, SciPy, pandas and matplotlib; each is imported by the module that uses it, when it is
used. Never imports the training core: a table from any trainer will do.

    import fits
    table = fits.read_table("losses.csv")
    one = fits.fit("chinchilla", table)
    print(one.summary())
"""

import importlib
from typing import Any

_WHERE = {
    "fit": "fits.fitting",
    "fit_groups": "fits.fitting",
    "fit_shared": "fits.fitting",
    "Fit": "fits.result",
    "HeldOut": "fits.result",
    "Interval": "fits.interval",
    "load_fits": "fits.saved",
    "save_fits": "fits.saved",
    "Law": "fits.form",
    "law": "fits.laws",
    "all_laws": "fits.laws",
    "made_points": "fits.made",
    "made_curves": "fits.made",
    "hold_out": "fits.holdouts",
    "HoldOut": "fits.holdouts",
    "compare": "fits.comparing",
    "Comparison": "fits.comparing",
    "fits_figure": "fits.figures.fit_figure",
    "isoflop": "fits.isoflops",
    "envelope": "fits.envelopes",
    "Frontier": "fits.frontier",
    "Rates": "fits.rates",
    "schedule": "fits.rates",
    "read_table": "fits.table",
    "write_table": "fits.table",
    "allocate": "fits.allocation",
    "loss_cost": "fits.allocation",
    "log_optimal_size": "fits.optimum",
    "allocation_exponent": "fits.optimum",
    "prediction": "fits.quantities",
    "design": "fits.designing",
    "expected_intervals": "fits.expected",
    "tolerance_ratio": "fits.critical_laws",
    "criteria": "fits.critical_laws",
    "turning_tokens": "fits.turning",
    "turning_ratio_by_laws": "fits.turning",
    "critical_ratio": "fits.critical",
    "turning_ratio": "fits.critical",
    "mean_interval": "fits.engine.uncertainty",
    "Refused": "fits.errors",
}

__all__ = sorted(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'fits' has no attribute {name!r}")
    module = importlib.import_module(_WHERE[name])
    value = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
