"""How many steps of the maze an agent is trained on in a second.

    python -m benchmarks.maze [MODEL...]

By default every model, each with one seed at the published size: a maze of 9, hidden layers of 100, 30 episodes of 200
steps. Prints the median time of whole updates, and of acting alone, without a gradient: what the update would save if
its gradient were taken while acting.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from absl import app

from mnm_jax import models, policy, training
from mnm_jax.analysis import tables
from mnm_jax.tasks import MazeTask

_SIZE, _BATCH_SIZE, _REPEATS = 100, 30, 7


class Speed(NamedTuple):
    """What was measured, in seconds.

    Attributes:
      update: acting, gradient, clipping and the optimiser.
      acting: of the same episodes.
    """

    update: float
    acting: float


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

    update = jax.jit(lambda state: functions.train_chunk(state, 1, None))
    return Speed(_median(lambda: update(state), repeats), _median(lambda: act(state.variables), repeats))


def _median(function: Callable[[], Any], repeats: int) -> float:
    jax.block_until_ready(function())
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main(argv: Sequence[str]) -> None:
    """Prints the table."""
    names = argv[1:] or models.NAMES
    if unknown := set(names) - set(models.NAMES):
        raise app.UsageError(f"unknown model {', '.join(sorted(unknown))}; choose from {', '.join(models.NAMES)}")
    task, rows = MazeTask(), []
    for name in names:
        speed = measure(name, task, models.ModelSettings(_SIZE, _SIZE), _BATCH_SIZE, _REPEATS)
        num_steps = _BATCH_SIZE * task.num_steps
        rows.append(
            (name, f"{num_steps / speed.update:,.0f}", f"{1e3 * speed.update:.0f}", f"{1e3 * speed.acting:.0f}")
        )
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}")
    print(tables.to_markdown(("model", "steps per second", "update (ms)", "acting (ms)"), rows), end="")


if __name__ == "__main__":
    app.run(main)
