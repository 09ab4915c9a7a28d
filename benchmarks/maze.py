"""How many steps of the maze an agent is trained on in a second.

    python -m benchmarks.maze [MODEL...] [--width=100] [--batch_size=30] [--repeats=7]

By default every model, each with one seed at the published size: a maze of 9, hidden layers of 100, 30 episodes of 200
steps. Prints medians of whole updates, and of acting alone, without a gradient: its share is what an update would save
if its gradient were taken while acting. On a CPU that is shared with other programs, the time that the process itself
had (`processor`) is nearer to what a free core gives than the time by the clock.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from absl import app, flags

from mnm_jax import models, policy, training
from mnm_jax.analysis import tables
from mnm_jax.tasks import MazeTask


class Seconds(NamedTuple):
    """Medians.

    Attributes:
      clock: by the clock.
      processor: of the process, all its threads together.
    """

    clock: float
    processor: float


class Speed(NamedTuple):
    """What was measured.

    Attributes:
      update: acting, gradient, clipping and the optimiser.
      acting: of the same episodes.
    """

    update: Seconds
    acting: Seconds


def measure(model: str, task: MazeTask, settings: models.ModelSettings, batch_size: int, repeats: int) -> Speed:
    """Measures medians, after compilation.

    Args:
      model: one of `models.NAMES`.
      task: the maze.
      settings: sizes and options of the model.
      batch_size: episodes of an update.
      repeats: how often to measure.
    """
    cell = models.build(model, settings, output_size=task.output_size, vocabulary_size=None, num_steps=task.num_steps)
    functions = training.make_functions(
        task, cell, training.TrainingSettings(num_updates=1, batch_size=batch_size, clip_norm=4.0)
    )
    state = jax.jit(functions.init)(jax.random.key(0))
    rngs = jax.random.split(jax.random.key(1), batch_size)

    @jax.jit
    def act(variables: Any) -> Any:
        return jax.vmap(lambda rng: task.act(rng, policy(cell, variables)))(rngs)

    update = jax.jit(lambda state: functions.train_chunk(state, jnp.int32(1), None))
    return Speed(_median(lambda: update(state), repeats), _median(lambda: act(state.variables), repeats))


def _median(function: Callable[[], Any], repeats: int) -> Seconds:
    jax.block_until_ready(function())
    times = []
    for _ in range(repeats):
        start = time.perf_counter(), time.process_time()
        jax.block_until_ready(function())
        times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return Seconds(*map(statistics.median, zip(*times, strict=True)))


def _define_flags() -> None:
    flags.DEFINE_integer("width", 100, "Width of controllers and memories.", lower_bound=1)
    flags.DEFINE_integer("batch_size", 30, "Episodes of an update.", lower_bound=1)
    flags.DEFINE_integer("repeats", 7, "How often to measure.", lower_bound=1)


def main(argv: Sequence[str]) -> None:
    """Prints the table."""
    width, batch_size, repeats = (flags.FLAGS[name].value for name in ("width", "batch_size", "repeats"))
    names = argv[1:] or models.NAMES
    if unknown := set(names) - set(models.NAMES):
        raise app.UsageError(f"unknown model {', '.join(sorted(unknown))}; choose from {', '.join(models.NAMES)}")
    task, rows = MazeTask(), []
    for name in names:
        settings = models.ModelSettings(width, width)
        update, acting = measure(name, task, settings, batch_size, repeats)
        num_steps = batch_size * task.num_steps
        rates = (update.clock, update.processor, acting.processor)
        share = f"{acting.processor / update.processor:.0%}"
        rows.append((name, *(f"{num_steps / seconds:,.0f}" for seconds in rates), share))
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}; width {width}, batch {batch_size}")
    header = ("model", "steps per second, clock", "processor", "acting alone, processor", "share of acting")
    print(tables.to_markdown(header, rows), end="")


if __name__ == "__main__":
    _define_flags()
    app.run(main)
