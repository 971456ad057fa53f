"""Rows of a figure's data, and the runs they came from."""

import pandas as pd

from fits.behind import Behind

RESULTS = pd.DataFrame(
    [
        # a trunk that r0 and r1 share, and what each does with it
        {"arm": arm, "run": run, "seed": seed, "cpt_ratio": ratio, "n_params": 8,
         "corpus": "prose", "step": step, "loss_nats": loss}
        for arm, run, seed, ratio, step, loss in (
            ("a", "r0", 0, 0.25, 0, 2.5123),
            ("a", "r1", 0, 0.5, 0, 2.5123),
            ("a", "r2", 1, 0.25, 0, 2.6017),
            ("a", "r0", 0, 0.25, 9, 1.7321),
            ("a", "r1", 0, 0.5, 9, 1.4142),
            ("a", "r2", 1, 0.25, 9, 1.8002),
            ("b", "r3", 0, 0.25, 9, float("nan")),
        )
    ]
)  # fmt: skip


def runs(**columns: list[float]) -> list[list[str]]:
    behind = Behind(RESULTS)
    return [[behind.names[k] for k in found] for found in behind.runs(pd.DataFrame(columns))]


def test_a_loss_names_its_run_and_that_of_a_shared_state_all_its_runs() -> None:
    assert runs(loss=[1.4142, 2.5123, 1.4143]) == [["r1"], ["r0", "r1"], []]


def test_a_mean_over_seeds_names_their_runs_and_no_others() -> None:
    assert runs(mean=[(1.7321 + 1.8002) / 2]) == [["r0", "r2"]]
    assert runs(mean=[(1.7321 + 1.4142) / 2]) == [[]]  # of two ratios: of no place


def test_all_losses_of_a_row_count_and_other_numbers_do_not() -> None:
    assert runs(loss=[1.7321], uniform=[1.4142], seed=[1.0], ratio=[0.25]) == [["r0", "r1"]]


def test_a_row_that_names_its_run_is_believed() -> None:
    behind = Behind(RESULTS)
    frame = pd.DataFrame({"run": ["r2", "unknown"], "change": [0.5, 0.5], "loss": [1.4142] * 2})
    assert [[behind.names[k] for k in found] for found in behind.runs(frame)] == [["r2"], []]


def test_averages_of_states_are_places_of_their_own() -> None:
    table = pd.concat([RESULTS.assign(average=""), RESULTS.assign(average="ema", loss_nats=9.5)])
    behind = Behind(table)
    (found,) = behind.runs(pd.DataFrame({"mean": [(1.7321 + 1.8002) / 2]}))
    assert [behind.names[k] for k in found] == ["r0", "r2"]
