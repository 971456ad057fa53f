"""What a study of re-warming found: tables, figures, evidence for its claims."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from fits.errors import Refused
from fits.figures.rewarm_figures import law_figure, rate_figure, replay_figure
from fits.report import Findings, Table
from fits.rewarm import (
    EARLY_SHARE,
    BySeed,
    Measured,
    arm_table,
    beside_union,
    difference,
    each_doubling,
    of_all_rewarms,
    removed,
    replay_table,
    rises_by_peak,
)
from fits.rewarm_arms import (
    ADDITIVE,
    CONSTANT,
    EARLY,
    LENGTHS,
    LITERAL,
    OF_LAW,
    PEAKS,
    REPLAYED,
    REPLAYS,
    RESET,
    SAME,
    SAME_CONSTANT,
    SCRATCH,
    SHIFTS,
    STRONG,
    UNSEEN,
    WEAK,
    replayed,
    union,
)
from fits.rewarm_law import OfText, came, errors, laws
from fits.verdicts import Evidence, by_unit, nothing


def findings(m: Measured, notes: list[str]) -> Findings:
    """The findings on a table whose arms are those of `fits.rewarm_arms`.

    Raises Refused where the base cell has not ended.
    """
    if not m.old(STRONG):
        raise Refused(f"no run of the base cell ({STRONG}) has ended")
    arms = arm_table(m, _shifts())
    replay = replay_table(m)
    tables = [
        Table(
            "arms",
            "Loss at the end by arm: mean over trunk seeds and its standard deviation, and paired "
            "means of the difference to the shift's base cell (nats/token).",
            arms,
        ),
        Table(
            "replay",
            "Replay of general text against the two losses; above the union: mean of both losses "
            "less that of a run from scratch on the same texts.",
            replay,
        ),
    ]
    figures = [rate_figure(m), replay_figure(replay, _unions(m))]
    found: dict[str, OfText] = {}
    why = ""
    try:
        found = laws(m)
        tables.append(Table("law", _LAW_CAPTION, law_table(found)))
        figures.append(law_figure(m, found))
    except Refused as refusal:
        why = str(refusal)
    return Findings(
        headline=_headline(m, replay),
        tables=tables,
        fits=[law.known for law in found.values()],
        figures=figures,
        notes=[*notes, *([f"No law of the loss curves: {why}."] if why else [])],
        readings={
            "arms": _plain(arms),
            "replay": _plain(replay),
            "law": _plain(law_table(found)) if found else [],
        },
        evidence=evidence(m, found, why),
        measured=came(m),
    )


_LAW_CAPTION = (
    "cpt-dynamics on trunk and arms of the strong shift, fitted to the mean over trunk seeds, "
    "profiles over the scatter about the law; beside it the standard deviation of the seeds' own "
    "fits. B beta stands for B, which is known far less where beta is small; E and beta may be "
    "open as well. Error at ends: root mean square over arms, each predicted from the others."
)


def _shifts() -> dict[str, str]:
    """Arm -> the shift whose base cell it stands beside."""
    strong = [*LENGTHS.values(), *PEAKS.values(), *OF_LAW, UNSEEN, RESET]
    strong += [*(replayed(STRONG, share) for share in REPLAYS), LITERAL, ADDITIVE]
    weak = [WEAK, *(replayed(WEAK, share) for share in REPLAYS), union(WEAK)]
    same = [SAME_CONSTANT, *SAME.values()]
    return {
        **dict.fromkeys([*strong, SCRATCH, union(STRONG), *same], STRONG),
        **dict.fromkeys(weak, WEAK),
    }


def _unions(m: Measured) -> dict[str, tuple[float, float]]:
    """Shift -> mean (old, new) loss of the run on the union of its texts, where there is one."""
    found = {}
    for shift in SHIFTS:
        old, new = m.old(union(shift)), m.new(union(shift), shift)
        if old:
            found[shift] = float(np.mean([*old.values()])), float(np.mean([*new.values()]))
    return found


# Evidence -----------------------------------------------------------------------------------


def evidence(m: Measured, found: Mapping[str, OfText], why: str) -> dict[str, Evidence]:
    """What the seeds say of each statement of `rewarm`, paired within trunks."""
    first, second = LENGTHS[0.0], LENGTHS[0.02]
    five = {shift: beside_union(m, shift, 0.05) for shift in SHIFTS}
    new, old = m.new, m.old
    one_percent = {seed: part - 0.5 for seed, part in removed(m, 0.01).items()}
    effects: dict[str, BySeed] = {
        "length_does_not_matter": difference(new(first), new(second)),
        "no_rewarm_spikes": difference(m.rise(first, EARLY_SHARE), m.rise(second, EARLY_SHARE)),
        "higher_peak_learns_more": each_doubling({p: new(arm) for p, arm in PEAKS.items()}, -1.0),
        "higher_peak_forgets_more": each_doubling({p: old(arm) for p, arm in PEAKS.items()}, 1.0),
        "constant_forgets_least": of_all_rewarms(m, new=False),
        "constant_learns_least": of_all_rewarms(m, new=True),
        "rewarm_beats_constant": difference(new(CONSTANT), new(STRONG)),
        "rises_without_shift": rises_by_peak(m)[1.0],
        "rise_grows_with_peak": each_doubling(rises_by_peak(m), 1.0),
        "one_percent_replay": one_percent,
        "replay_costs_little": difference(new(replayed(STRONG, 0.05)), new(STRONG)),
        "weak_matches_union": five[WEAK],
        "strong_matches_union": beside_union(m, STRONG, REPLAYED),
        "stronger_needs_more": difference(five[STRONG], five[WEAK]),
        "trunk_beats_scratch": difference(new(SCRATCH), new(STRONG)),
        "earlier_is_no_better": difference(new(EARLY), new(STRONG)),
        "reset_does_not_matter": difference(new(RESET), new(STRONG)),
        "literal_replay_serves": difference(old(LITERAL), old(replayed(STRONG, REPLAYED))),
        "additive_replay_is_free": difference(new(ADDITIVE), new(STRONG)),
    }
    epochs = m.epochs()
    said = {name: _over_seeds(by_seed, epochs) for name, by_seed in effects.items()}
    for name, what in (("law_predicts_new", "new text"), ("law_predicts_old", "old text")):
        law = found.get(what)
        said[name] = nothing(why) if law is None else _over_seeds(errors(m, law), epochs)
    return said


def _over_seeds(effects: BySeed, epochs: float) -> Evidence:
    return by_unit([*effects.values()], epochs) if effects else nothing("no seed has both arms")


# The law ------------------------------------------------------------------------------------


def law_table(found: Mapping[str, OfText]) -> pd.DataFrame:
    """A row a text and parameter: value, interval, and how well the law holds."""
    rows = []
    for what, law in found.items():
        for name in law.known.law.names:
            interval = law.known.interval(name)
            each = [params[name] for params in law.by_seed.values()]
            rows.append(
                {
                    "text": what,
                    "parameter": name.replace("_", " "),
                    "value": law.known.params[name],
                    "low": np.nan if interval.low is None else interval.low,
                    "high": np.nan if interval.high is None else interval.high,
                    "sd over seeds": float(np.std(each, ddof=1)) if len(each) > 1 else np.nan,
                    "status": law.known.status,
                    "error at ends": law.misfit(),
                    "residual rms": law.known.residual_rms,
                }
            )
    return pd.DataFrame(rows)


def _headline(m: Measured, replay: pd.DataFrame) -> str:
    said = []
    for shift in SHIFTS:
        forgotten = m.forgotten(shift)
        if not forgotten:
            continue
        text = f"{shift} shift ({m.texts[shift]}): {np.mean([*forgotten.values()]):.2f} nats of "
        text += f"{m.general} forgotten"
        rows = replay[(replay["shift"] == shift) & (replay["replay"] == 0.01)]
        if len(rows) and np.isfinite(rows["forgetting removed"].iloc[0]):
            text += f", {rows['forgetting removed'].iloc[0]:.0%} of it spared by 1 % replay"
        said.append(text)
    joined = "; ".join(said)
    return f"{joined[0].upper()}{joined[1:]}."


def _plain(table: pd.DataFrame) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.astype(object).where(table.notna(), None).to_dict("records")
    return rows
