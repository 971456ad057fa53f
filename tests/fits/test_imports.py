"""What `import fits` costs, and which way its arrows point."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import fits

ROOT = Path(fits.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
HEAVY = ("jax", "scipy", "pandas", "matplotlib", "numpy", "pyarrow", "jinja2", "lab", "sweeps")


def imported(code: str) -> set[str]:
    """Names of the modules that a fresh interpreter holds after this code."""
    show = f"import sys\n{code}\nprint(*sys.modules)"
    told = subprocess.run(
        [sys.executable, "-c", show], capture_output=True, text=True, check=True, cwd=ROOT.parent
    )
    return {name.partition(".")[0] for name in told.stdout.split()}


def test_import_fits_takes_no_heavy_library() -> None:
    assert not imported("import fits; dir(fits)") & set(HEAVY)


def test_a_fit_takes_neither_figures_nor_the_training_core() -> None:
    taken = imported("import fits; fits.fit; fits.load_fits; fits.critical_ratio; fits.read_table")
    assert {"numpy", "scipy"} <= taken
    assert not taken & {"jax", "matplotlib", "jinja2", "lab", "sweeps"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_imports_upwards(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names = [node.module or ""]
        for name in names:
            assert name.partition(".")[0] not in ("jax", "jaxlib", "flax", "lab", "sweeps")


def test_no_module_evaluates_or_unpickles() -> None:
    assert len(MODULES) > 10
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Name):
                assert node.id not in ("eval", "exec", "pickle", "compile", "__import__"), path
            if isinstance(node, ast.Attribute):  # pandas' own evaluators
                assert node.attr not in ("eval", "query", "read_pickle", "to_pickle"), path


def test_dir_lists_the_public_names_and_each_is_there() -> None:
    assert dir(fits) == sorted(fits.__all__)
    assert {"fit", "Fit", "law", "read_table", "critical_ratio"} <= set(dir(fits))
    for name in fits.__all__:
        assert callable(getattr(fits, name)), name


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        fits.nothing  # noqa: B018


def test_no_module_takes_the_place_of_a_public_name() -> None:
    # importing a submodule sets it as an attribute of the package, over a function of that name
    modules = {one.name for one in pkgutil.iter_modules([str(ROOT)])}
    assert not modules & set(fits.__all__)
    for name in modules:
        importlib.import_module(f"fits.{name}")
    assert fits.law("chinchilla").name == "chinchilla"
