"""The law of continual pre-training on the arms of one shift, and what it says of an unseen one.

`cpt-dynamics` (`fits.laws.cpt`) is fitted to each text's losses over trunk and arms: to the mean
over trunk seeds, and from there to each seed by itself. Its parameter is B beta, as B by itself may
be known to no power of ten; predictions are those of either form. It reads the realised rates
alone, so that a rewarm of another length and peak is predicted from its rates. What a prediction is
worth is taken from the arms that were fitted: each is left out in turn, and its last loss (mean
over seeds) predicted from the others. Beside it stands the mean end of those arms, which a law has
to beat.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fits.engine.uncertainty import t_quantile
from fits.errors import Refused
from fits.fitting import fit
from fits.laws.cpt import CPT_DYNAMICS_PRODUCT as LAW
from fits.rates import Rates
from fits.result import Fit
from fits.rewarm import BySeed, Measured, difference
from fits.rewarm_arms import OF_LAW, STRONG, UNSEEN

LEVEL = 0.95
HOW = (
    "cpt-dynamics in the realised rate, each seed's own fit; interval from its errors at the ends "
    "of the fitted arms, left out in turn"
)
RIVAL = "mean end of the arms fitted, whatever their rewarm; interval from their spread"


@dataclass(frozen=True)
class OfText:
    """The law on one text.

    known: B beta its parameter, on the mean over seeds, with profiles; by_seed: parameters of each
    seed's own fit. ends: arm -> (mean over seeds of the loss at the arm's end, what the law says of
    it from all other arms).
    """

    text: str
    known: Fit
    by_seed: dict[Any, dict[str, float]]
    ends: dict[str, tuple[float, float]]

    def misfit(self) -> float:
        """Root mean square of the law's errors at the ends of arms that it was not fitted to."""
        errors = [said - came for came, said in self.ends.values()]
        return float(np.sqrt(np.mean(np.square(errors))))

    def along(self, m: Measured, arm: str, steps: Any) -> dict[Any, Any]:
        """Each seed's law at steps [n] of an arm: [n] by seed."""
        rates = Rates({arm: m.rates[arm]}, [arm] * len(steps), steps)
        x = {"rates": rates, "transfer_step": np.full(len(steps), float(m.transfer[arm]))}
        return {seed: LAW.predict(p, x) for seed, p in self.by_seed.items()}

    def at_end(self, m: Measured, arm: str) -> BySeed:
        """Each seed's law at the end of an arm."""
        said = self.along(m, arm, [len(m.rates[arm])])
        return {seed: float(one[0]) for seed, one in said.items()}


def laws(m: Measured) -> dict[str, OfText]:
    """By text (the old, the new): the law on the arms that are there. Raises Refused."""
    return {
        what: _of_text(m, text)
        for what, text in (("old text", m.general), ("new text", m.texts[STRONG]))
    }


def _of_text(m: Measured, text: str) -> OfText:
    rows = m.law_rows(text, OF_LAW)
    if missing := [arm for arm in OF_LAW if arm not in set(rows["curve"])]:
        raise Refused(f"the law needs all arms of its shift; not there: {', '.join(missing)}")
    rates = {arm: m.rates[arm] for arm in OF_LAW}
    places = ["curve", "step", "transfer_step"]
    mean = rows.groupby(places, sort=False, as_index=False)["loss_nats"].mean()
    known = fit(LAW, mean, rates=rates, name=f"loss on {text}, mean over seeds")
    by_seed = {
        seed: fit(LAW, own, rates=rates, near=known.params, interval="none").params
        for seed, own in rows.groupby("seed")
    }
    ends = {}
    for arm in OF_LAW:
        end = (mean["curve"] == arm) & (mean["step"] == len(rates[arm]))
        others = mean[(mean["curve"] != arm) | (mean["step"] <= m.transfer[arm])]  # and the trunk
        left_out = fit(LAW, others, rates=rates, near=known.params, interval="none")
        said = left_out.predict(mean[end], rates=rates)["predicted"]
        ends[arm] = float(mean.loc[end, "loss_nats"].iloc[0]), float(said.iloc[0])
    return OfText(text, known, by_seed, ends)


def _last(m: Measured, text: str, arm: str) -> BySeed:
    return m.old(arm) if text == m.general else m.new(arm)


# Foretold ---------------------------------------------------------------------------------------


def foretold(m: Measured) -> pd.DataFrame:
    """Rows about the unseen rewarm: name, predicted, low, high, unit, how. Raises Refused."""
    rows = []
    for what, law in laws(m).items():
        said = float(np.mean(list(law.at_end(m, UNSEEN).values())))
        arms = len(law.ends)
        half = t_quantile(LEVEL, arms - 1) * law.misfit() * np.sqrt(1 + 1 / arms)
        ends = [came for came, _ in law.ends.values()]
        spread = t_quantile(LEVEL, arms - 1) * np.std(ends, ddof=1) * np.sqrt(1 + 1 / arms)
        alike = float(np.mean(ends))
        rows += [
            [_named(what), said, said - half, said + half, "nats/token", HOW],
            [_named(what, "as the others"), alike, alike - spread, alike + spread, "nats/token",
             RIVAL],
        ]  # fmt: skip
    return pd.DataFrame(rows, columns=["name", "predicted", "low", "high", "unit", "how"])


def came(m: Measured) -> dict[str, float]:
    """Name of a row of `foretold` -> what was measured, mean over seeds; {} before it ran."""
    found: dict[str, float] = {}
    for what, ends in (("old text", m.old(UNSEEN)), ("new text", m.new(UNSEEN))):
        if ends:
            mean = float(np.mean(list(ends.values())))
            found |= {_named(what): mean, _named(what, "as the others"): mean}
    return found


def errors(m: Measured, law: OfText) -> BySeed:
    """Predicted less measured at the end of the unseen rewarm, seed by seed."""
    return difference(law.at_end(m, UNSEEN), _last(m, law.text, UNSEEN))


def _named(what: str, how: str = "cpt-dynamics") -> str:
    return f"{what} after an unseen rewarm, {how}"
