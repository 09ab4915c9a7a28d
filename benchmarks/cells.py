"""How fast the gradient of an episode is, of any model, and how much memory a further step of it takes.

    python -m benchmarks.cells [--models=mnm_p,ntm,dnc] [--num_steps=100] [--batch_size=32] [--size=100] [--repeats=5]

Steps per second: those of all episodes together, of the memory-saving unroll, the median of the repeats; by the clock,
and by the time that the process had of its processors, which other programs on the machine change less. Bytes per
sample-step: by how much the temporary buffers of one gradient grow from T to 2T steps, for each further step of each
episode, with the plain and with the memory-saving unroll.
"""

import statistics
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from absl import app, flags

from benchmarks import footprint
from mnm_jax import models
from mnm_jax.analysis import tables

_NUM_LAYERS, _NUM_HEADS = 3, 1


class Speed(NamedTuple):
    """Steps per second, of all episodes together.

    Attributes:
      by_clock: while the clock went on.
      by_processor: of the process's own time.
    """

    by_clock: float
    by_processor: float


def speed(model: str, num_steps: int, batch_size: int, size: int, repeats: int) -> Speed:
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
        start = time.perf_counter(), time.process_time()
        jax.block_until_ready(gradient(variables, inputs))
        times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    by_clock, by_processor = map(statistics.median, zip(*times, strict=True))
    return Speed(batch_size * num_steps / by_clock, batch_size * num_steps / by_processor)


def bytes_per_sample_step(model: str, num_steps: int, batch_size: int, size: int, *, reversible: bool) -> float:
    """How much temporary memory a further step of an episode takes, on the average of the steps from `T` to `2 T`."""
    at = [
        footprint.temporary_bytes(
            footprint.make_cell(model, size, _NUM_LAYERS, _NUM_HEADS, steps), steps, batch_size, reversible=reversible
        )
        for steps in (num_steps, 2 * num_steps)
    ]
    return (at[1] - at[0]) / (num_steps * batch_size)


def _define_flags() -> None:
    flags.DEFINE_list("models", list(models.MEMORIES), f"Some of {', '.join(models.NAMES)}.")
    flags.DEFINE_integer("num_steps", 100, "Length of the episode, T.", lower_bound=1)
    flags.DEFINE_integer("batch_size", 32, "Episodes.", lower_bound=1)
    flags.DEFINE_integer("size", 100, "Width of controller, keys, values and hidden layers, d.", lower_bound=1)
    flags.DEFINE_integer("repeats", 5, "How often to measure.", lower_bound=1)
    flags.register_validator(
        "models",
        lambda names: bool(names) and set(names) <= set(models.NAMES),
        f"takes one or more of {', '.join(models.NAMES)}, separated by commas",
    )


def main(argv: Sequence[str]) -> None:
    """Prints the table, a line as soon as it is known."""
    del argv
    values = flags.FLAGS
    sizes = values.num_steps, values.batch_size, values.size
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}; T={sizes[0]}, {sizes[1]} episodes, d={sizes[2]}")
    rows = []
    for name in values.models:
        by_clock, by_processor = speed(name, *sizes, values.repeats)
        slopes = [bytes_per_sample_step(name, *sizes, reversible=saves) for saves in (False, True)]
        rows.append((name, f"{by_clock:,.0f}", f"{by_processor:,.0f}", *(f"{slope:,.0f}" for slope in slopes)))
        print(" ".join(rows[-1]), flush=True)
    header = "model", "steps per second", "per second of processor", "bytes, plain", "bytes, saving"
    print("\n" + tables.to_markdown(header, rows), end="")


if __name__ == "__main__":
    _define_flags()
    app.run(main)
