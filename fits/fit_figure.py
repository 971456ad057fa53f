"""A fit as a figure: points, law and band above, residuals below."""

from typing import TYPE_CHECKING

from fits.errors import Refused
from fits.plots import CATEGORIES, COLUMN_INCHES, Figure, fit_with_band, token_axis
from fits.result import Fit

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


def fit_figure(one: Fit, variable: str | None = None) -> Figure:
    """A fit over one of its variables, with a panel of residuals below."""
    import pandas as pd

    law = one.law
    variable = variable or law.variables[0].name
    if variable not in one.x:
        known = ", ".join(v.name for v in law.variables)
        raise Refused(f"law {law.name} has no variable {variable!r}; it has {known}")
    shown = next(v for v in law.variables if v.name == variable)
    predicted = one.problem.predict(one.params)
    data = pd.DataFrame({**one.x, law.response.name: one.y, "predicted": predicted})
    data["residual"] = one.y - predicted
    data["held_out"] = False
    for row in one.held_out:
        data.loc[len(data)] = {
            **row.variables,
            law.response.name: row.observed,
            "predicted": row.predicted,
            "residual": row.observed - row.predicted,
            "held_out": True,
        }

    def draw(canvas: "Canvas") -> None:
        upper, lower = canvas.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        wide = one.x[variable].max() / max(one.x[variable].min(), 1e-300) > 20
        if len(law.variables) == 1:
            fit_with_band(upper, one, variable, CATEGORIES[0], one.label())
        else:  # no single curve: points and what the law says at each
            upper.plot(one.x[variable], one.y, "o", color=CATEGORIES[0], label=one.label())
            upper.plot(
                one.x[variable], predicted, "x", color=CATEGORIES[1], label="law at each point"
            )
        if wide:
            upper.set_xscale("log")
        fitted = data[~data["held_out"]]
        held = data[data["held_out"]]
        lower.axhline(0, color="#666666", linewidth=0.7)
        lower.plot(fitted[variable], fitted["residual"], "o", color=CATEGORIES[0])
        lower.plot(
            held[variable], held["residual"], "o", color=CATEGORIES[0], markerfacecolor="white"
        )
        upper.set_ylabel(f"{law.response.name.replace('_nats', '')} ({law.response.unit})")
        lower.set_ylabel("observed - law")
        lower.set_xlabel(variable if shown.unit == "1" else f"{variable} ({shown.unit})")
        upper.set_title(law.formula)
        upper.legend()
        if wide or one.x[variable].max() > 1e4:
            token_axis(lower)

    caption = f"{law.title}: {law.formula} ({law.source}). Open marks were held out."
    return Figure(one.label(), caption, data, draw, (COLUMN_INCHES * 1.3, 3.6))
