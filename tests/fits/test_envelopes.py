"""The envelope of training curves: recovery, its two biases, edges, refusals."""

import numpy as np
import pandas as pd
import pytest

from fits import Refused
from fits.envelopes import envelope
from fits.frontier import Frontier

E, A, B, ALPHA, BETA = 1.817235, 477.84, 2143.9, 0.347313, 0.367183  # 2404.10102
TRUE = BETA / (ALPHA + BETA)
SCALE = (ALPHA * A / BETA / B) ** (1 / (ALPHA + BETA))
RATIOS = (2.0, 400.0)  # tokens per parameter, of the first and last logged loss


def curves(
    sizes: int, ratios: tuple[float, float] = RATIOS, run_sd: float = 0.0, seed: int = 0
) -> pd.DataFrame:
    """Losses of Chinchilla's law along runs of sizes over a factor 200; whole runs shifted."""
    random = np.random.default_rng(seed)
    rows = []
    for k, n in enumerate(np.geomspace(5e7, 1e10, sizes)):
        tokens = np.geomspace(ratios[0] * n, ratios[1] * n, 60)
        loss = E + A * n**-ALPHA + B * tokens**-BETA + run_sd * random.normal()
        rows.append(
            pd.DataFrame({"run": f"r{k}", "n_params": n, "n_tokens": tokens, "loss_nats": loss})
        )
    return pd.concat(rows, ignore_index=True)


@pytest.fixture(scope="module")
def twenty() -> Frontier:
    return envelope(curves(20))


@pytest.mark.parametrize(("sizes", "bias"), [(6, -0.0224), (12, -0.0053), (40, -0.0003)])
def test_the_staircase_of_few_sizes_is_biased(sizes: int, bias: float) -> None:
    one = envelope(curves(sizes), bootstrap=0)
    assert one.exponent() - TRUE == pytest.approx(bias, abs=5e-4)
    assert one.exponent() + one.exponent("d_opt") == pytest.approx(1, abs=1e-9)


def test_sizes_are_recovered_to_a_step_of_the_staircase(twenty: Frontier) -> None:
    step = 200 ** (1 / 19)
    budget = twenty.used["budget_flop"].to_numpy()
    ratio = twenty.used["n_opt"].to_numpy() / (SCALE * (budget / 6) ** TRUE)
    assert 1 / step < ratio.min() < 1 < ratio.max() < step
    assert np.exp(np.log(ratio).mean()) == pytest.approx(1, abs=2e-3)
    inside = twenty.used["loss_opt"].to_numpy()
    n = twenty.used["n_opt"].to_numpy()
    law = E + A * n**-ALPHA + B * (budget / 6 / n) ** -BETA
    np.testing.assert_allclose(inside, law, rtol=1e-4)  # of interpolation between logged losses


def test_fewer_budgets_read_the_same_law(twenty: Frontier) -> None:
    assert envelope(curves(20), budgets=200).exponent() == pytest.approx(
        twenty.exponent(), abs=1e-3
    )


def test_the_interval_is_of_whole_runs_and_holds_the_truth(twenty: Frontier) -> None:
    own = twenty.interval()
    assert own.method == "bootstrap of 200, whole runs of 20"
    assert len(twenty.laws["n_opt"].intervals()) == 1  # no t: neighbouring budgets share runs
    assert own.low is not None
    assert own.high is not None
    assert own.low < TRUE < own.high
    assert own.high - own.low < 0.06
    assert envelope(curves(20)).interval() == own  # seeded


def test_lucky_runs_bias_it_downwards() -> None:
    def mean_bias(sizes: int) -> float:
        found = [
            envelope(curves(sizes, run_sd=0.002, seed=s), budgets=300, bootstrap=0).exponent()
            for s in range(40)
        ]
        return float(np.mean(found)) - TRUE

    assert mean_bias(20) == pytest.approx(-0.006, abs=0.0025)  # three standard errors of 40
    assert mean_bias(40) == pytest.approx(-0.0135, abs=0.007)


def test_ends_of_the_sizes_are_edges(twenty: Frontier) -> None:
    optima = twenty.optima
    assert optima["edge"].iloc[0]
    assert optima["edge"].iloc[-1]
    assert "smallest" in optima["note"].iloc[0]
    largest = optima[(optima["n_opt"] == optima["n_opt"].max()) & optima["edge"]]
    assert len(largest) > 100
    assert not twenty.used["n_opt"].isin([optima["n_opt"].min(), optima["n_opt"].max()]).any()
    said = " ".join(twenty.notes)
    assert "18 sizes are best at some budget" in said
    assert "the largest size with a run there is best" in said


def test_runs_that_end_too_early_flag_the_budgets_they_leave() -> None:
    whole, short = envelope(curves(20)), envelope(curves(20, (10.0, 40.0)))
    assert len(short.used) < len(whole.used)
    # true ratios fall from 27 to 15 over these budgets: runs of 10 to 22 leave every optimum out
    with pytest.raises(Refused, match="sizes are best somewhere without being the smallest"):
        envelope(curves(20, (100.0, 400.0)))


def test_flop_and_tokens_of_the_table_are_believed() -> None:
    table = curves(20)
    flop = 6 * table["n_params"] * table["n_tokens"]
    plain = envelope(table, bootstrap=0)
    only = envelope(table.assign(train_flop=flop).drop(columns="n_tokens"), bootstrap=0)
    assert only.exponent() == pytest.approx(plain.exponent(), abs=1e-12)
    dearer = envelope(table.assign(train_flop=1.3 * flop), bootstrap=0)
    np.testing.assert_allclose(dearer.optima["budget_flop"], 1.3 * plain.optima["budget_flop"])
    np.testing.assert_allclose(dearer.optima["d_opt"], plain.optima["d_opt"], rtol=1e-9)


def test_several_horizons_of_one_size_are_runs_of_their_own() -> None:
    table = curves(20)
    worse = table.assign(run=table["run"] + " long", loss_nats=table["loss_nats"] + 0.05)
    one = envelope(pd.concat([worse, table]), columns={"run": "run"}, bootstrap=0)
    assert one.exponent() == envelope(table, bootstrap=0).exponent()
    assert not one.optima["source"].str.contains("long").any()


def test_few_runs_are_not_resampled() -> None:
    table = curves(20)
    one = envelope(table[table["run"].isin([f"r{k}" for k in range(5, 10)])])
    assert one.interval().method == "none"
    assert "5 runs: too few to resample" in one.notes


def test_what_cannot_be_read_is_refused_in_one_line() -> None:
    table = curves(12)
    first = table["run"] == "r0"
    cases = [
        (table.drop(columns="run"), "no column 'run'; it has n_params"),
        (table.drop(columns="n_tokens"), "no column 'train_flop'; it has run"),
        (table.drop(columns="loss_nats"), "no column 'loss_nats'"),
        (table.assign(loss_nats=-1.0), "loss_nats must be positive"),
        (table.assign(n_tokens=np.nan), "not a finite number"),
        (table[~first | (table.index == 0)], "run 'r0' has one row"),
        (table.assign(run=table["run"].where(~first, "r1")), "run 'r1' has rows of 2 sizes"),
        (pd.concat([table, table.iloc[:1]]), "run 'r0' has two losses at"),
        (table.assign(run=table["run"].where(~first)), "rows without a run"),
        (curves(20).iloc[5 * 60 : 9 * 60], "2 sizes are best somewhere .* a power law needs 3"),
    ]
    for bad, words in cases:
        with pytest.raises(Refused, match=words) as refusal:
            envelope(bad)
        assert "\n" not in str(refusal.value)
    with pytest.raises(Refused, match="budgets must be 3 or more"):
        envelope(table, budgets=2)


def test_the_figure_shows_curves_and_frontier(twenty: Frontier) -> None:
    figure = twenty.figure()
    assert set(figure.data["kind"]) == {"measured", "optimum", "law"}
    assert figure.render("png").startswith(b"\x89PNG")
    assert "Dotted and faint are optima on the edge" in figure.caption
