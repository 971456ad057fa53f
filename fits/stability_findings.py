"""What a study of the stability gap found: tables, figures, evidence for its claims."""

from typing import Any

import numpy as np
import pandas as pd

from fits.dip_arms import ALL, BEST, CLEAN, MIXED, PLAIN, SAME, SUBSET, SUBSET_BEST
from fits.dips import Measured, dip_table, end_table
from fits.engine.uncertainty import mean_interval
from fits.errors import Refused
from fits.figures.stability_figures import curve_figure, gap_figure, trade_figure
from fits.report import Findings, Table
from fits.rewarm import BySeed, difference, least
from fits.verdicts import Evidence, by_unit, nothing

ARMS = (PLAIN, SUBSET, BEST, SUBSET_BEST, MIXED, ALL, CLEAN, SAME)
AGAINST = {**dict.fromkeys(ARMS, PLAIN), SUBSET_BEST: SUBSET}
REPEATED = (SUBSET, SUBSET_BEST, ALL)
HALF = 0.5  # of a dip: what is asked for of its return
HOW = "effects of mixture and of repeated best text, added to the plain run's loss"


def findings(m: Measured, notes: list[str]) -> Findings:
    """The findings on a table whose arms are those of `fits.dip_arms`.

    Raises Refused where the plain run has not ended.
    """
    if not m.end(PLAIN, m.domain, "loss_nats"):
        raise Refused(f"no run of the plain arm ({PLAIN}) has ended")
    dips, ends = dip_table(m, ARMS, HALF), end_table(m, AGAINST)
    return Findings(
        headline=_headline(m),
        tables=[
            Table(
                "dips",
                f"How far accuracy falls and loss rises within the first {m.first} steps behind "
                "the switch (not above 0: never below the start), means over trunk seeds with 95 % "
                "t intervals; the part of it that the last state has regained; `back`, the step by "
                "which half of it was, where all seeds came so far.",
                dips,
            ),
            Table(
                "ends",
                "The last states, and paired differences to another arm with 95 % t intervals "
                "(loss in nats/token, accuracy of the next token as a share).",
                ends,
            ),
        ],
        fits=[],
        figures=[curve_figure(m), gap_figure(dips), trade_figure(ends)],
        notes=notes,
        readings={"dips": _plain(dips), "ends": _plain(ends)},
        evidence=evidence(m),
        measured=came(m),
    )


# Evidence ---------------------------------------------------------------------------------------


def evidence(m: Measured) -> dict[str, Evidence]:
    """What the seeds say of each statement of `stability_gap`, paired within trunks."""
    effects: dict[str, tuple[BySeed, tuple[str, ...]]] = {
        "general_falls": (
            difference(m.depth(PLAIN, m.general, "accuracy"), m.depth(SAME, m.general, "accuracy")),
            (PLAIN, SAME),
        ),
        "general_returns": (_beyond_half(m), (PLAIN,)),
        "domain_loss_falls": (
            {seed: max(0.0, rise) for seed, rise in m.depth(PLAIN, m.domain, "loss_nats").items()},
            (PLAIN,),
        ),
        "domain_accuracy_dips": (m.depth(PLAIN, m.domain, "accuracy"), (PLAIN,)),
        "best_dips_less": (
            difference(m.depth(PLAIN, m.domain, "accuracy"), m.depth(BEST, m.domain, "accuracy")),
            (PLAIN, BEST),
        ),
        "subset_learns": (lower(m, SUBSET, PLAIN, m.domain), (PLAIN, SUBSET)),
        "best_learns": (lower(m, SUBSET_BEST, SUBSET, m.domain), (SUBSET, SUBSET_BEST)),
        "mixture_falls_less": (
            difference(
                m.depth(PLAIN, m.general, "accuracy"), m.depth(MIXED, m.general, "accuracy")
            ),
            (PLAIN, MIXED),
        ),
        "all_is_better": (
            least([lower(m, ALL, PLAIN, corpus) for corpus in (m.general, m.domain)]),
            (PLAIN, ALL),
        ),
    }
    return {
        name: by_unit([*by_seed.values()], epochs(m, arms))
        if by_seed
        else nothing("no seed has what it needs")
        for name, (by_seed, arms) in effects.items()
    }


def lower(m: Measured, arm: str, than: str, corpus: str) -> BySeed:
    """Nats by which an arm ends below another on a text."""
    return difference(m.end(than, corpus, "loss_nats"), m.end(arm, corpus, "loss_nats"))


def epochs(m: Measured, arms: tuple[str, ...]) -> float:
    """How often the text that is read most is read: by a repeated arm, its windows every pass."""
    mine = m.results[m.results["arm"].isin(arms)]
    again = m.passes if set(arms) & set(REPEATED) else 0
    return max(float(mine["epochs"].max()), float(again))


def _beyond_half(m: Measured) -> BySeed:
    """Part of the plain run's fall in general accuracy that its end has regained, beyond half."""
    dips = m.dips(PLAIN, m.general, "accuracy")
    return {seed: one.part_regained - HALF for seed, one in dips.items() if one.depth > 0}


# Foretold ---------------------------------------------------------------------------------------


def foretold(m: Measured) -> pd.DataFrame:
    """What all three together would end at if their effects added up: name, predicted, low, high
    (t over seeds), unit, how. Raises Refused."""
    rows = []
    for text, corpus in (("general", m.general), ("domain", m.domain)):
        plain, both, mixed = (m.end(a, corpus, "loss_nats") for a in (PLAIN, SUBSET_BEST, MIXED))
        each = [both[s] + mixed[s] - plain[s] for s in sorted(set(plain) & set(both) & set(mixed))]
        if not each:
            raise Refused(f"no seed has ended in {PLAIN}, {SUBSET_BEST} and {MIXED}")
        one = mean_interval(each)
        if one.low is None or one.high is None:
            raise Refused(f"an interval needs two trunk seeds, there is {len(each)}")
        rows.append([_named(text), float(np.mean(each)), one.low, one.high, "nats/token", HOW])
    return pd.DataFrame(rows, columns=["name", "predicted", "low", "high", "unit", "how"])


def came(m: Measured) -> dict[str, float]:
    """Name of a row of `foretold` -> what was measured, mean over seeds; {} before it ran."""
    found = {}
    for text, corpus in (("general", m.general), ("domain", m.domain)):
        if ends := m.end(ALL, corpus, "loss_nats"):
            found[_named(text)] = float(np.mean([*ends.values()]))
    return found


def _named(text: str) -> str:
    return f"{text} loss with all three, as the sum"


# Words ------------------------------------------------------------------------------------------


def _headline(m: Measured) -> str:
    general = m.dips(PLAIN, m.general, "accuracy").values()
    domain = m.dips(PLAIN, m.domain, "accuracy").values()
    deep, late = (float(np.mean([one.depth for one in some])) for some in (general, domain))
    end = 100 * float(np.mean([one.end for one in general]))
    text = f"The plain run loses {100 * deep:.1f} points of general accuracy at first and ends "
    text += f"{abs(end):.1f} {'below' if end < 0 else 'above'} its start"
    text += f"; on the domain it {'loses' if late > 0 else 'gains'} {100 * abs(late):.1f} at first"
    if all_three := lower(m, ALL, PLAIN, m.domain):
        general_gain = np.mean([*lower(m, ALL, PLAIN, m.general).values()])
        text += (
            f"; all three strategies end {np.mean([*all_three.values()]):+.3f} nats below it on "
            f"the domain, {general_gain:+.3f} on general text"
        )
    return f"{text}."


def _plain(table: pd.DataFrame) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.astype(object).where(table.notna(), None).to_dict("records")
    return rows
