"""`lab bench step`: tokens/s of the training step, alone and stacked, and where its time goes."""

from collections.abc import Callable
from typing import Any

import numpy as np

from lab import flops, mesh
from lab.spec import ModelSpec, OptimizerSpec, Precision, Shape
from sweeps.bench.stream import stream_of
from sweeps.bench.timing import apart, matrix_product_peak, median_seconds

BATCH = 16
SHAPES = (
    ModelSpec(32, 2, 2, 88, 128),
    ModelSpec(64, 2, 4, 176, 128),
    ModelSpec(128, 4, 4, 344, 128),
)
LARGE_SHAPES = (  # about 100 M and 400 M parameters; accelerators only
    ModelSpec(768, 12, 12, 2048, 1024, 32_768, tied_embedding=True),
    ModelSpec(1024, 28, 16, 2816, 1024, 32_768, tied_embedding=True),
)
CHUNK = 16  # steps a dispatch
TEXT_TOKENS = 2**20
ACCELERATOR_STACKS = {4, 16, 64}  # on a CPU: a lane a core


def bench_step(repeats: int, lanes: int | None = None) -> dict[str, Any]:
    """Rows of tokens/s and FLOP/s for every shape, alone and stacked; shares of time when alone.

    Medians over `repeats`. FLOPs are the model's (attention and head included); the peak is that of
    a matrix product measured in the same call.
    """
    peak = apart(matrix_product_peak, repeats)
    on_cpu = apart(platform) == "cpu"
    stacks = {lanes} if lanes else {mesh.default_lanes()} if on_cpu else ACCELERATOR_STACKS
    rows = []
    wanted = [(model, count) for model in SHAPES for count in sorted({1, *stacks})]
    wanted += [] if on_cpu else [(model, 1) for model in LARGE_SHAPES]
    for model, count in wanted:
        seconds = apart(step_seconds, model, count, repeats)
        rate = count * BATCH * model.context / seconds
        row: dict[str, Any] = {
            "width": model.width,
            "layers": model.layers,
            "stack": count,
            "tokens_per_second": rate,
            "flops_per_token": flops.train_flops_per_token(model),
            "flops_per_second": rate * flops.train_flops_per_token(model),
        }
        row["fraction_of_peak"] = row["flops_per_second"] / peak
        if count == 1 and model in SHAPES:
            parts = apart(part_seconds, model, repeats)
            row["shares"] = {name: part / seconds for name, part in parts.items()}
        rows.append(row)
    return {
        "platform": "cpu" if on_cpu else "accelerator",
        "matrix_product_flops_per_second": peak,
        "cores": mesh.cpu_cores(),
        "rows": rows,
    }


def platform() -> str:
    """Of this machine's devices, as jax calls it."""
    import jax

    return str(jax.default_backend())


def step_seconds(
    model: ModelSpec, lanes: int, repeats: int, precision: Precision = "float32"
) -> float:
    """Seconds of one step of a whole stack."""
    import jax

    from lab.optimizer import Hyper, hyper
    from lab.train import Chunk, Trainer

    mesh.start(lanes)
    trainer = Trainer(Shape(model, BATCH, precision), mesh.lanes(lanes), CHUNK)
    stack = trainer.empty_stack()
    for lane in range(lanes):
        stack = trainer.put(stack, lane, trainer.initial(lane))
    one = hyper(OptimizerSpec())
    draw = np.random.default_rng(0)
    text = draw.integers(0, model.vocabulary, TEXT_TOKENS).astype(np.uint16)
    starts = draw.integers(0, TEXT_TOKENS - model.context - 1, (lanes, CHUNK, BATCH))
    chunk = Chunk(
        jax.device_put(text, mesh.lanes(lanes).replicated),
        starts.astype(np.int32),
        np.full((lanes, CHUNK), 1e-3, np.float32),
        Hyper(*(np.full(lanes, value, np.float32) for value in one)),
        np.full(lanes, CHUNK, np.int32),
    )

    def work() -> Any:
        nonlocal stack
        stack, log = trainer.train(stack, chunk)
        return log

    return median_seconds(work, repeats) / CHUNK


def part_seconds(model: ModelSpec, repeats: int) -> dict[str, float]:
    """Seconds a step spends in each of its parts, each timed alone, forward and backward.

    They need not add up to the step: compilers fuse across parts, and what stands between them
    (norms, residuals, the embedding) is in none.
    """
    import jax
    import jax.numpy as jnp

    from lab.model import causal_attention, log_losses
    from lab.optimizer import hyper, initial_state, update

    mesh.start(1)
    width, layers, tokens = model.width, model.layers, BATCH * model.context
    draw = np.random.default_rng(0)

    def random(*shape: int) -> Any:
        return jnp.asarray(draw.normal(size=shape), jnp.float32)

    def both_ways(function: Callable[..., Any], *args: Any) -> float:
        """Seconds of CHUNK forward and backward passes, one after another, each."""
        grads = jax.grad(lambda *a: function(*a).sum(), argnums=tuple(range(len(args))))

        @jax.jit
        def many(*a: Any) -> Any:
            def once(_: Any, now: Any) -> Any:
                step = grads(*now)
                return tuple(x - 1e-6 * g for x, g in zip(now, step, strict=True))

            return jax.lax.fori_loop(0, CHUNK, once, a)

        return median_seconds(lambda: many(*args), repeats) / CHUNK

    def products(x: Any, *matrices: Any) -> Any:
        return sum((jnp.tanh((x @ m).sum()) for m in matrices), start=jnp.float32(0))

    folded = (BATCH * model.heads, model.context, width // model.heads)
    shapes = [
        (width, 3 * width),
        (width, width),
        (width, model.mlp_width),
        (width, model.mlp_width),
    ]
    targets = jnp.asarray(draw.integers(0, model.vocabulary, tokens), jnp.int32)
    params = {str(k): random(*s) for k, s in enumerate(shapes * layers)}
    params["table"] = random(2 * model.vocabulary, width)
    h = hyper(OptimizerSpec())

    @jax.jit
    def optimize(state: Any) -> Any:
        def once(_: Any, now: Any) -> Any:
            return update(now[0], now[1], now[0], jnp.float32(1e-3), h)

        return jax.lax.fori_loop(0, CHUNK, once, state)

    start = (params, initial_state(params))
    return {
        "attention": layers * both_ways(causal_attention, *(random(*folded) for _ in range(3))),
        "projections": layers
        * both_ways(products, random(tokens, width), *map(_of(random), shapes))
        + layers
        * both_ways(products, random(tokens, model.mlp_width), random(shapes[2][1], width)),
        "head_and_loss": both_ways(
            lambda x, m: log_losses(x @ m, targets),
            random(tokens, width),
            random(width, model.vocabulary),
        ),
        "optimizer": median_seconds(lambda: optimize(start), repeats) / CHUNK,
        "input": _input_seconds(model, repeats),
    }


def _of(random: Callable[..., Any]) -> Callable[[tuple[int, ...]], Any]:
    return lambda shape: random(*shape)


def _input_seconds(model: ModelSpec, repeats: int) -> float:
    """Seconds the host takes to gather one step's windows."""
    stream = stream_of(model, BATCH)
    place = iter(range(0, 10**9, CHUNK))
    return median_seconds(lambda: stream.tokens(next(place), CHUNK), repeats) / CHUNK
