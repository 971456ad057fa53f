"""How the benches measure: medians over repeats, each configuration in a process of its own."""

import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

MATRIX = 2048  # of the matrix product that stands for this machine's peak


def median_seconds(work: Callable[[], Any], repeats: int) -> float:
    """Median wall-clock seconds of `work`, after one call that is not counted (it compiles)."""
    import jax

    jax.block_until_ready(work())
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        jax.block_until_ready(work())
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def apart(function: Callable[..., Any], *args: Any) -> Any:
    """The value of `function(*args)`, computed in a fresh process: the number of devices, and what
    is compiled, are a process's own."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *args).result()


def matrix_product_peak(repeats: int) -> float:
    """FLOP/s of a float32 product of two square matrices, on all cores or one accelerator."""
    import jax
    import jax.numpy as jnp

    from lab import mesh

    mesh.start(1)
    a = jax.random.normal(jax.random.key(0), (MATRIX, MATRIX), jnp.float32)
    product = jax.jit(lambda x, y: x @ y)
    return 2 * MATRIX**3 / median_seconds(lambda: product(a, a), repeats)
