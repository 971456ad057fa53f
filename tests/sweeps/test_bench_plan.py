"""What `lab bench plan` plans and loads; no test here looks at a clock."""

from pathlib import Path

from lab.store import Store
from sweeps.bench import plan as bench
from sweeps.plan import make_plan
from sweeps.results import table
from sweeps.run import open_corpora


def test_the_grid_has_the_runs_asked_for_each_a_branch_of_its_own() -> None:
    grid = bench.large_grid(5000)
    made = make_plan(grid, open_corpora(grid))
    trunks = [segment for segment in made.segments if segment.parent is None]
    assert (len(made.runs), len(trunks)) == (5000, len(bench.WIDTHS))
    assert len(made.segments) == len(made.runs) + len(trunks)


def test_what_is_loaded_passes_for_trained(tmp_path: Path) -> None:
    many = bench.many_segments(100)
    made = make_plan(many, open_corpora(many))
    assert len(made.segments) == 100
    bench.pretend_trained(made, tmp_path)
    index = Store(tmp_path).load(verify_states=True, set_aside=False)
    assert (len(index.states), index.broken) == (100, [])
    rows = table(made, index)
    assert set(rows["status"]) == {"done"}
    assert len(rows) == sum(
        len(made.segments[k].stops) * 2 for run in made.runs for k in run.segments
    )


def test_its_keys_are_those_that_scripts_lean_on() -> None:
    value = bench.bench_plan(runs=5000, segments=100)
    assert (value["runs"], value["segments"]) == (5000, 100)
    assert value["plan_seconds"] > 0
    assert value["load_seconds"] > 0
