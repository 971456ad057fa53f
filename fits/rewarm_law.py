"""The law of continual pre-training on the arms of one shift, and what it says of an unseen one.

`cpt-dynamics` (`fits.laws.cpt`) is fitted to each text's losses over trunk and arms, each trunk
seed by itself. It reads the realised rates alone, so that a rewarm of another length and peak is
predicted from its rates. What a prediction is worth is taken from the arms that were fitted: how
far their last losses lie off the law, means over seeds; and beside it stands the mean end of those
arms, which a law has to beat.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fits.engine.uncertainty import t_quantile
from fits.errors import Refused
from fits.fitting import fit
from fits.laws.cpt import CPT_DYNAMICS, CPT_DYNAMICS_PRODUCT
from fits.rates import Rates
from fits.result import Fit
from fits.rewarm import BySeed, Measured, difference
from fits.rewarm_arms import OF_LAW, STRONG, UNSEEN

LEVEL = 0.95
HOW = (
    "cpt-dynamics in the realised rate, each seed's own fit; interval from its errors at the ends "
    "of the arms fitted"
)
RIVAL = "mean end of the arms fitted, whatever their rewarm; interval from their spread"


@dataclass(frozen=True)
class OfText:
    """The law on one text.

    whole: fitted to all seeds, intervals t over seeds; by_seed: parameters of each seed alone.
    ends: arm -> (mean over seeds of the loss at the arm's end, of the law's there).
    """

    text: str
    whole: Fit
    by_seed: dict[Any, dict[str, float]]
    ends: dict[str, tuple[float, float]]

    def misfit(self) -> float:
        """Root mean square of the law's errors at the arms' ends."""
        errors = [said - came for came, said in self.ends.values()]
        return float(np.sqrt(np.mean(np.square(errors))))

    def along(self, m: Measured, arm: str, steps: Any) -> dict[Any, Any]:
        """Each seed's law at steps [n] of an arm: [n] by seed."""
        rates = Rates({arm: m.rates[arm]}, [arm] * len(steps), steps)
        x = {"rates": rates, "transfer_step": np.full(len(steps), float(m.transfer[arm]))}
        return {seed: CPT_DYNAMICS.predict(p, x) for seed, p in self.by_seed.items()}

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
    rates, name = {arm: m.rates[arm] for arm in OF_LAW}, f"loss on {text}"
    seeds = list(dict.fromkeys(rows["seed"]))
    if len(seeds) > 1:
        whole = fit(CPT_DYNAMICS, rows, rates=rates, by="seed", interval="units", name=name)
    else:
        whole = fit(CPT_DYNAMICS, rows, rates=rates, interval="covariance", name=name)
    each = whole.unit_params if len(seeds) > 1 else (whole.params,)
    if len(each) < len(seeds):
        raise Refused(f"the law on {text}: {'; '.join(whole.notes)}")
    one = OfText(text, whole, dict(zip(seeds, each, strict=True)), {})
    for arm in OF_LAW:
        came, said = _last(m, text, arm), one.at_end(m, arm)
        one.ends[arm] = float(np.mean([*came.values()])), float(np.mean([said[s] for s in came]))
    return one


def _last(m: Measured, text: str, arm: str) -> BySeed:
    return m.old(arm) if text == m.general else m.new(arm)


def product(m: Measured, text: str) -> Fit:
    """The law with B beta as its parameter on the mean over seeds, with profiles.

    B by itself is hardly known where the shift grows like a logarithm.
    """
    rows = m.law_rows(text, OF_LAW)
    places = ["curve", "step", "transfer_step"]
    mean = rows.groupby(places, sort=False, as_index=False)["loss_nats"].mean()
    rates = {arm: m.rates[arm] for arm in OF_LAW}
    return fit(CPT_DYNAMICS_PRODUCT, mean, rates=rates, name=f"loss on {text}, mean over seeds")


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
