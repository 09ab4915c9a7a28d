"""How fast the gradient of an episode is, of any model, and how much memory a further step of it takes.

    python -m benchmarks.cells [MODEL...]

By default every memory, at T=100, 32 episodes and widths of 100. Steps per second: those of all episodes together, of
the memory-saving unroll, the median of several runs. Bytes per sample-step: by how much the temporary buffers of one
gradient grow from T to 2T steps, for each further step of each episode.
"""

import statistics
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from absl import app

from benchmarks import footprint
from mnm_jax import models
from mnm_jax.analysis import tables

_NUM_STEPS, _BATCH_SIZE, _SIZE, _NUM_LAYERS, _NUM_HEADS, _REPEATS = 100, 32, 100, 3, 1, 7


def steps_per_second(model: str, num_steps: int, batch_size: int, size: int, repeats: int) -> float:
    """Measures the gradient of a batch, after compilation.

    Args:
      model: one of `models.NAMES`.
      num_steps: of each episode.
      batch_size: episodes.
      size: width of controller, keys, values and hidden layers.
      repeats: how often to measure.
    """
    cell = footprint.make_cell(model, size, _NUM_LAYERS, _NUM_HEADS, num_steps)
    inputs = jnp.zeros((batch_size, num_steps), jnp.int32)
    variables = jax.jit(cell.init)(jax.random.key(0), None, inputs[0, 0])
    gradient = jax.jit(footprint.gradient(cell, reversible=True))
    jax.block_until_ready(gradient(variables, inputs))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(gradient(variables, inputs))
        times.append(time.perf_counter() - start)
    return batch_size * num_steps / statistics.median(times)


def bytes_per_sample_step(model: str, num_steps: int, batch_size: int, size: int, *, reversible: bool) -> float:
    """How much temporary memory a further step of an episode takes, on the average of the steps from `T` to `2 T`."""
    at = [
        footprint.temporary_bytes(
            footprint.make_cell(model, size, _NUM_LAYERS, _NUM_HEADS, steps), steps, batch_size, reversible=reversible
        )
        for steps in (num_steps, 2 * num_steps)
    ]
    return (at[1] - at[0]) / (num_steps * batch_size)


def main(argv: Sequence[str]) -> None:
    """Prints the table."""
    names = argv[1:] or models.MEMORIES
    if unknown := set(names) - set(models.NAMES):
        raise app.UsageError(f"unknown model {', '.join(sorted(unknown))}; choose from {', '.join(models.NAMES)}")
    sizes = (_NUM_STEPS, _BATCH_SIZE, _SIZE)
    rows = []
    for name in names:
        speed = steps_per_second(name, *sizes, _REPEATS)
        slopes = [bytes_per_sample_step(name, *sizes, reversible=saves) for saves in (False, True)]
        rows.append((name, f"{speed:,.0f}", *(f"{slope:,.0f}" for slope in slopes)))
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}; T={_NUM_STEPS}, {_BATCH_SIZE} episodes, d={_SIZE}")
    print(tables.to_markdown(("model", "steps per second", "bytes, plain", "bytes, saving"), rows), end="")


if __name__ == "__main__":
    app.run(main)
