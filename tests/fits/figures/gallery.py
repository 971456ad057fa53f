"""One figure of every kind, of made-up numbers in the shape that the studies give them."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from fits import fit
from fits.comparing import compare
from fits.coverage import Coverage
from fits.dip_arms import BEST, CLEAN
from fits.figures.adaptive_figure import ADAPTIVE, Course, adaptive_figure
from fits.figures.base_law_figures import exponent_figure, floor_figure, law_figure
from fits.figures.continual_figures import critical_figure, general_loss_figure, ratio_figure
from fits.figures.coverage_figure import coverage_figure
from fits.figures.critical_arms_figure import critical_arms_figure
from fits.figures.fit_figure import fit_figure
from fits.figures.order_figures import gain_figure, interaction_figure, payoff_figure
from fits.figures.plots import Figure
from fits.figures.rate_figures import best_rate_figure, coordinate_figure, rate_figure
from fits.figures.rewarm_figures import law_figure as rewarm_law_figure
from fits.figures.rewarm_figures import rate_figure as rewarm_figure
from fits.figures.rewarm_figures import replay_figure
from fits.figures.schedule_figures import curve_figure, error_figure, loss_figure
from fits.figures.schedule_figures import rate_figure as schedules_figure
from fits.figures.stability_figures import SHOWN, gap_figure, trade_figure
from fits.figures.stability_figures import curve_figure as stability_figure
from fits.isoflops import isoflop
from fits.rates import schedule
from fits.rewarm_arms import CONSTANT, LENGTHS, PEAKS, STRONG, UNSEEN

SIZES = (26_232, 60_368, 133_440)
RATIOS = (0.0, 1 / 16, 1 / 8, 1 / 4, 1 / 3, 1 / 2, 3 / 4, 1.0)
TOKENS = np.geomspace(2048, 1e6, 12)


def _noise(count: int) -> Any:
    return 1e-3 * np.random.default_rng(0).normal(size=count)


def _continual() -> pd.DataFrame:
    rows = [
        (size, unit, ratio, corpus, tokens, 2 - 0.1 * k + sign * 0.4 * ratio**0.5 + 0.01 * unit)
        for k, size in enumerate(SIZES)
        for unit in (0, 1)
        for ratio in RATIOS
        for corpus, sign in (("prose+docs", 1), ("code", -1))
        for tokens in TOKENS
    ]
    columns = ["n_params", "unit", "ratio", "corpus", "tokens", "loss_nats"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(change=table["ratio"] * table["tokens"] / 1e6 - 0.05)


def general_loss() -> Figure:
    return general_loss_figure(_continual(), "prose+docs", (0.0, 0.05))


def loss_against_ratio() -> Figure:
    table = _continual()
    last = table[(table["tokens"] == TOKENS[-1]) & table["ratio"].between(0.01, 0.99)]
    fits = [
        fit(
            "cmr-ratio",
            rows.rename(columns={"ratio": "ratio_domain"}),
            holdout="ratio_domain == 1/3",
            group={"n_params": size, "corpus": corpus, "cpt_tokens": TOKENS[-1]},
            interval="none",
        )
        for (size, corpus), rows in last.groupby(["n_params", "corpus"])
    ]
    return ratio_figure(fits, table, "prose+docs", "code")


def _readings() -> pd.DataFrame:
    rows = [
        (size, tokens, eps, 0.2 + eps + 1e-7 * tokens + 0.02 * k, "" if tokens > 5e4 else "<", 3)
        for k, size in enumerate(SIZES)
        for tokens in (40_000, 163_840, 327_680, 983_040)
        for eps in (0.0, 0.05)
    ]
    columns = ["n_params", "horizon_tokens", "eps", "critical_ratio", "censored", "seeds"]
    table = pd.DataFrame(rows, columns=columns)
    low, high = table["critical_ratio"] - 0.05, table["critical_ratio"] + 0.05
    return table.assign(low=low, high=high)


def critical_ratio() -> Figure:
    return critical_figure(_readings(), RATIOS, [])


def critical_ratio_by_arm() -> Figure:
    labels = {"far": "code (far)", "near": "docs (near)", "reset": "code, optimizer reset"}
    readings = pd.concat([_readings().assign(arm=arm) for arm in labels], ignore_index=True)
    told = {"arm": "far", "n_params": SIZES[-1], "critical_ratio": 0.3, "low": 0.2, "high": 0.4}
    return critical_arms_figure(readings, pd.DataFrame([told]), labels, 0.05, RATIOS)


def coverage() -> Figure:
    rows = [
        Coverage(design, "huber-log", method, quantity, held, 400)
        for design in ("chinchilla, 40 runs", "cmr-ratio, 5 runs")
        for method in ("profile", "bootstrap")
        for quantity, held in (("E", 380), ("alpha", 370), ("curve", 385), ("new", 379))
    ]
    return coverage_figure(rows)


def adaptive() -> Figure:
    courses = [
        Course(way, world, [(0.2, 2.0), (0.5 + 0.1 * world, 1.0)])
        for way in (ADAPTIVE, "listed order", "random order")
        for world in range(3)
    ]
    return adaptive_figure(courses, 0.4, courses, 0.9)


def _sized() -> pd.DataFrame:
    n, d = (a.ravel() for a in np.meshgrid(np.geomspace(6e3, 1.3e5, 6), np.geomspace(3e5, 8e6, 6)))
    loss = (1.2 + 20 * n**-0.35 + 100 * d**-0.37) * np.exp(_noise(len(n)))
    table = pd.DataFrame({"n_params": n, "n_tokens": d, "loss_nats": loss})
    return table.assign(budget_flop=6 * n * d)


def base_law() -> Figure:
    table = _sized()
    law = fit("chinchilla", table, interval="none")
    larger = table.tail(2).assign(n_params=2e5, budget_flop=lambda rows: 6 * 2e5 * rows["n_tokens"])
    return law_figure(table, law, larger, "prose+docs+code")


def exponents() -> Figure:
    rows = [
        (count, approach, 0.5 + 0.05 * k, 0.4, 0.7)
        for count in ("with embeddings", "without embeddings")
        for k, approach in enumerate(("envelope", "isoflop", "parametric"))
    ]
    table = pd.DataFrame(rows, columns=["parameters", "approach", "a", "low", "high"])
    return exponent_figure(table, [("Kaplan's 0.73", 0.73), ("Chinchilla's .50", 0.5)])


def floors() -> Figure:
    known = {"least measured": 2.43, "windows allow": 2.397, "entropy rate": 2.396}
    row = {"text": "markov", "E": 2.39, "low": 2.37, "high": 2.40, **known}
    return floor_figure(pd.DataFrame([row, {**row, "text": "words", "low": 0.0, "high": 1e6}]))


def frontier() -> Figure:
    n, c = (a.ravel() for a in np.meshgrid(np.geomspace(5e3, 2e5, 7), np.geomspace(1e11, 1e12, 5)))
    d = c / (6 * n)
    loss = 1.2 + 20 * n**-0.35 + 100 * d**-0.37
    columns = {"n_params": n, "n_tokens": d, "budget_flop": c, "loss_nats": loss}
    return isoflop(pd.DataFrame(columns), "parabola", noise_nats=0.01).figure()


ENDS = (0.0, 0.03, 0.1, 0.3, 0.6, 1.0)
SIDES = (("low", 2.0**-10), ("high", 2.0**-6))


def _ends() -> pd.DataFrame:
    rows = [
        (order, side, peak, "1-sqrt", unit, end, average, 2 + 0.1 * k * end**0.6 + 0.01 * unit)
        for k, order in enumerate(("uniform", "ascending"))
        for side, peak in SIDES
        for unit in (0, 1, 2)
        for end in ENDS
        for average in ("", "ema:6:0.2")
    ]
    names = ["order", "side", "peak", "shape", "unit", "end_ratio", "average", "loss_nats"]
    return pd.DataFrame(rows, columns=names)


def interaction() -> Figure:
    return interaction_figure(_ends(), "1-sqrt", "ema:6:0.2", "prose")


def gain() -> Figure:
    table = _ends()
    table["gain_nats"] = 0.03 + 0.07 * table["end_ratio"] ** 0.6 + _noise(len(table))
    rows = table[(table["order"] == "ascending") & (table["average"] == "")]
    laws = ["order-gain", "order-gain-linear"]
    ranked = {side: compare(laws, rows[rows["side"] == side], by="end_ratio") for side, _ in SIDES}
    return gain_figure(table, "1-sqrt", ranked)


def payoff() -> Figure:
    rows = [(2.0**k, unit, 0.03 * (k + 8)) for k in range(-10, -3) for unit in (0, 1)]
    table = pd.DataFrame(rows, columns=["peak", "unit", "pays_nats"])
    return payoff_figure(table, dict(SIDES))


KINDS = (("standard", 458_752), ("standard", 1_835_008), ("mup", 458_752))
WIDTHS = (12, 24, 48, 96)


def loss_against_rate() -> Figure:
    rows = [
        (kind, width, tokens, unit, 2.0**k, 2 + 0.02 * (k + 6 + width / 48) ** 2 + 0.01 * unit)
        for kind, tokens in KINDS
        for width in WIDTHS
        for unit in (0, 1)
        for k in range(-10, -3)
    ]
    columns = ["parametrisation", "width", "tokens", "unit", "lr", "loss_nats"]
    return rate_figure(pd.DataFrame(rows, columns=columns), _best(), "prose")


def _best() -> pd.DataFrame:
    rows = [
        (kind, width, tokens, 0.5 / width, 0.4 / width, 0.6 / width, 2.0)
        for kind, tokens in KINDS
        for width in WIDTHS
    ]
    rates = ["best rate", "best rate low", "best rate high", "least loss"]
    return pd.DataFrame(rows, columns=["parametrisation", "width", "tokens", *rates])


def best_rate() -> Figure:
    power = {"p": -1.28, "p low": -1.37, "p high": -1.2, "c": 0.04}
    slopes = pd.DataFrame([{"parametrisation": kind, **power} for kind in ("standard", "mup")])
    rule: Any = lambda width, tokens: 0.4 / width * (tokens / 458_752) ** -0.34  # noqa: E731
    return best_rate_figure(_best(), slopes, 12, rule)


def coordinates() -> Figure:
    rows = [
        (kind, width, 0, 3, place, 1.0, (1 + k) * width**slope)
        for kind, slope in (("standard", 0.8), ("mup", 0.0))
        for width in WIDTHS
        for k, place in enumerate(("embedding", "attention 1", "MLP 1", "logits"))
    ]
    columns = ["parametrisation", "width", "seed", "step", "place", "size", "change"]
    return coordinate_figure(pd.DataFrame(rows, columns=columns))


def _curve(height: float) -> pd.DataFrame:
    steps = np.array([0, 1, 2, 5, 10, 50, 200, 400])
    parts = [pd.DataFrame({"step": steps, "unit": unit}) for unit in (0, 1)]
    table = pd.concat(parts, ignore_index=True)
    value = height + 0.3 * np.log1p(table["step"]) + 0.05 * table["unit"]
    return table.assign(loss_nats=value, value=0.1 * value)


def _rewarmed() -> Any:
    arms = [CONSTANT, STRONG, UNSEEN, *PEAKS.values(), *LENGTHS.values()]
    return SimpleNamespace(
        general="code",
        texts={STRONG: "prose"},
        curve=lambda arm, corpus: _curve(1.5 + 0.1 * arms.index(arm)),
        rates=dict.fromkeys(arms, np.full(1200, 1e-3)),
        transfer=dict.fromkeys(arms, 800),
    )


def losses_by_rewarm() -> Figure:
    return rewarm_figure(_rewarmed())


def replay() -> Figure:
    shares = np.array([0.0, 0.01, 0.05, 0.1, 0.25, 0.5])
    parts = [
        pd.DataFrame({"shift": shift, "replay": shares, "new text": 1.5 + shares / 4})
        for shift in ("strong", "weak")
    ]
    table = pd.concat(parts, ignore_index=True)
    table["old text"] = 1.7 + 1 / (0.3 + 20 * table["replay"])
    noise = {"old text sd": 0.05, "new text sd": 0.01}
    return replay_figure(table.assign(**noise), {"strong": (1.68, 1.76), "weak": (1.7, 1.8)})


def rewarm_law() -> Figure:
    told: Any = SimpleNamespace(text="prose", along=lambda m, arm, places: {0: 6 - places / 400})
    return rewarm_law_figure(_rewarmed(), {"old text": told, "new text": told})


CURVES = (
    "constant", "cosine", "two-stage",
    "wsd", "infinite", "cosine-long", "constant-long", "rewarmed",
)  # fmt: skip
LAWS = ("annealing", "annealing-free", "multi-power", "functional")


def _along() -> pd.DataFrame:
    steps = np.arange(100, 1601, 50)
    parts = [pd.DataFrame({"curve": name, "step": steps}) for name in CURVES]
    table = pd.concat(parts, ignore_index=True)
    table["loss_nats"] = 1.7 + 20 / table["step"] ** 0.7
    ends = {"low": table["loss_nats"] - 0.02, "high": table["loss_nats"] + 0.02, "units": 5}
    laws = {law: table["loss_nats"] * (1 + 0.002 * k) for k, law in enumerate(LAWS)}
    return table.assign(**ends, **laws)


def schedules() -> Figure:
    return schedules_figure({name: schedule("cosine", 1600, 8e-3, warmup=40) for name in CURVES})


def law_curves() -> Figure:
    return curve_figure(_along(), CURVES[:3], LAWS, "prose+docs+code")


def loss_curves() -> Figure:
    return loss_figure(_along(), CURVES[:3], "multi-power", CURVES, "prose+docs+code")


def law_errors() -> Figure:
    rows = [
        (law, curve, unit, 0.3 * (1 + k) * (1 + j) + 0.1 * unit)
        for k, law in enumerate(LAWS)
        for j, curve in enumerate(CURVES[3:])
        for unit in (0, 1, 2)
    ]
    table = pd.DataFrame(rows, columns=["law", "curve", "unit", "curve_error"])
    return error_figure(table, CURVES[3:7])


def stability() -> Figure:
    measured: Any = SimpleNamespace(
        general="prose+docs",
        domain="code",
        passes=3,
        first=120,
        curve=lambda arm, corpus, of: _curve(0.3 + 0.02 * SHOWN.index(arm)),
    )
    return stability_figure(measured)


def dips() -> Figure:
    rows = [
        (arm, text, "accuracy", 0.14 - 0.02 * k, 0.12 - 0.02 * k, 0.16 - 0.02 * k, 14.0, k % 2, 8)
        for k, arm in enumerate((*SHOWN, BEST, CLEAN))
        for text in ("general", "domain")
    ]
    depth = ["depth", "depth low", "depth high"]
    columns = ["arm", "text", "measure", *depth, "back", "not back", "dips"]
    return gap_figure(pd.DataFrame(rows, columns=columns))


def trade() -> Figure:
    rows = [
        (arm, text, 2 + 0.1 * k * sign)
        for k, arm in enumerate((*SHOWN, BEST, CLEAN))
        for text, sign in (("general", 1), ("domain", -1))
    ]
    return trade_figure(pd.DataFrame(rows, columns=["arm", "text", "loss"]))


def fit_in_two() -> Figure:
    table = _sized()
    larger = f"n_params > {table['n_params'].max() / 1.01}"
    return fit_figure(fit("chinchilla", table, holdout=larger, interval="none"))


def fit_in_one() -> Figure:
    tokens = np.repeat(np.geomspace(1e8, 2e10, 7), 2)
    change = -0.1 * (tokens / 1e9) ** 0.2 + _noise(14)
    table = pd.DataFrame({"cpt_tokens": tokens, "change_nats": change})
    return fit_figure(fit("cmr-domain-tokens", table, holdout="cpt_tokens > 1e10", interval="none"))


def fit_of_curves() -> Figure:
    names = ("constant", "cosine")
    rates = {name: schedule(name, 2000, 1e-3, warmup=100) for name in names}
    rates["wsd"] = schedule("wsd", 2000, 1e-3, warmup=100, decay=400)
    steps = np.arange(200, 2001, 25)
    parts = [
        pd.DataFrame({"curve": name, "step": steps, "area": np.cumsum(rate)[steps - 1]})
        for name, rate in rates.items()
    ]
    table = pd.concat(parts, ignore_index=True)
    table["loss_nats"] = 2.6 + 0.6 / table.pop("area") ** 0.5
    one = fit("annealing", table, rates=rates, holdout="curve == 'wsd'", interval="none")
    return fit_figure(one)


GALLERY: dict[str, Callable[[], Figure]] = {
    make.__name__: make
    for make in (
        general_loss, loss_against_ratio, critical_ratio, critical_ratio_by_arm, coverage, adaptive,
        base_law, exponents, floors, frontier, interaction, gain, payoff, loss_against_rate,
        best_rate, coordinates, losses_by_rewarm, replay, rewarm_law, schedules, law_curves,
        loss_curves, law_errors, stability, dips, trade, fit_in_two, fit_in_one, fit_of_curves,
    )
}  # fmt: skip
HOLD_OUT = (
    "loss_against_ratio", "base_law", "rewarm_law", "fit_in_two", "fit_in_one", "fit_of_curves",
)  # fmt: skip
