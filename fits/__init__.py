"""Laws from tables of losses: fit, interval, hold-out, critical ratio, figure, report.

Needs NumPy, SciPy, pandas and matplotlib; each is imported by the module that uses it, when it is
used. Never imports the training core: a table from any trainer will do.

    import fits

    table = fits.read_table("losses.csv")  # or .parquet, or a folder of logs: TensorBoard, W&B ...
    columns = {"n_params": "size*1e6", "n_tokens": "step*524288", "loss_nats": "val/loss"}
    one = fits.fit("chinchilla", table, columns=columns, holdout="n_params > 5e9")
    print(one.summary())
    one.plot().save("law.pdf")
    print(fits.allocate(one, 1e22).summary())

Columns that are called as the law's variables are need no `columns`. Logs have a row a step:
`tidy` joins a table of runs to them and keeps each run's last row. `law("chinchilla")` says what a
law reads; a law of your own is a file (`fit("my_law.py", table)`).
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
    "tidy": "fits.tidying",
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
