"""The loop around the jitted chunks: evaluation, files, progress, budget, resumption.

A run writes into its own directory:
  config.json    what was asked for
  metrics.jsonl  a line for each evaluation and seed: what depends on the seed alone
  timing.jsonl   a line for each evaluation: seconds of wall-clock time since the start of training
  checkpoints/   the state at the end
"""

import functools
import json
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from mnm_jax.training.checkpoint import Checkpoints
from mnm_jax.training.update import Functions, Settings, Task, TrainState, held_out, make_functions

METRICS, TIMING, CHECKPOINTS = "metrics.jsonl", "timing.jsonl", "checkpoints"


@functools.lru_cache(maxsize=16)
def compiled(task: Task, cell: nn.Module, settings: Settings) -> Functions:
    """The functions of `make_functions`, over a leading axis of seeds and compiled; `train_chunk` consumes its state.

    Equal arguments give the very same functions, so that nothing is compiled twice.
    """
    functions = make_functions(task, cell, settings)
    return Functions(
        init=jax.jit(jax.vmap(functions.init)),
        train_chunk=jax.jit(jax.vmap(functions.train_chunk, in_axes=(0, None)), donate_argnums=0),
        evaluate=jax.jit(jax.vmap(functions.evaluate, in_axes=(0, None))),
    )


class Report(NamedTuple):
    """How a run ended.

    Attributes:
      state: the final state, each leaf with a leading axis of seeds.
      metrics: the last evaluation, each `[num_seeds]`.
      is_finished: whether all updates were made; if not, the budget ended the run and it can be resumed.
    """

    state: TrainState
    metrics: dict[str, np.ndarray]
    is_finished: bool


def run(
    task: Task,
    cell: nn.Module,
    settings: Settings,
    seeds: Sequence[int],
    directory: str | pathlib.Path,
    *,
    max_seconds: float = float("inf"),
    headline: str = "loss",
    description: str = "",
) -> Report:
    """Trains all seeds side by side, from the checkpoint in `directory` if there is one.

    Every random number comes from the seeds, so that the same call writes the same `metrics.jsonl` on the same machine,
    and a run that was interrupted by its budget writes, resumed, what it would have written in one go.

    Args:
      task: what to learn.
      cell: what learns it.
      settings: how.
      seeds: one run for each, vmapped.
      directory: where to write; made if it does not exist.
      max_seconds: stop after the first chunk that ends later than this, so that there is progress in any case.
      headline: the evaluation metric that the progress bar shows.
      description: the name that the progress bar shows.

    Returns:
      The `Report`.
    """
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    deadline = start + max_seconds
    init, train_chunk, evaluate = compiled(task, cell, settings)
    examples = held_out(task, settings)

    keys = jnp.stack([jax.random.key(seed) for seed in seeds])
    state = init(keys)
    checkpoints = Checkpoints(directory / CHECKPOINTS)
    if (update := checkpoints.latest()) is not None:
        state = checkpoints.load(state)
        _drop_later_lines(directory / METRICS, update)
        if timing := _drop_later_lines(directory / TIMING, update):
            start -= timing[-1]["seconds"]
        metrics = jax.device_get(evaluate(state.params, examples))
    else:
        update = 0
        for name in (METRICS, TIMING):
            (directory / name).write_text("")
        metrics = jax.device_get(evaluate(state.params, examples))
        _log(directory, update, seeds, {}, metrics, time.monotonic() - start)

    with tqdm.tqdm(
        total=settings.num_updates, initial=update, desc=description, unit="update", disable=not sys.stderr.isatty()
    ) as progress:
        while update < settings.num_updates:
            # Evaluations stand at multiples of the interval, wherever a run was interrupted.
            n = min(settings.evaluate_every - update % settings.evaluate_every, settings.num_updates - update)
            state, training_metrics = train_chunk(state, n)
            metrics = jax.device_get(evaluate(state.params, examples))
            update += n
            _log(directory, update, seeds, jax.device_get(training_metrics), metrics, time.monotonic() - start)
            progress.update(n)
            progress.set_postfix({headline: f"{np.mean(metrics[headline]):.3f}"})
            if time.monotonic() >= deadline:
                break
    if checkpoints.latest() != update:
        checkpoints.save(update, state)
    return Report(state, metrics, update >= settings.num_updates)


def _log(
    directory: pathlib.Path,
    update: int,
    seeds: Sequence[int],
    training: dict[str, Any],
    evaluation: dict[str, Any],
    seconds: float,
) -> None:
    """Appends the lines of one evaluation."""
    named = {f"train_{name}": values for name, values in training.items()}
    named |= {f"eval_{name}": values for name, values in evaluation.items()}
    lines = [
        {"update": update, "seed": seed} | {name: float(values[i]) for name, values in named.items()}
        for i, seed in enumerate(seeds)
    ]
    with (directory / METRICS).open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    with (directory / TIMING).open("a") as file:
        file.write(json.dumps({"update": update, "seconds": round(seconds, 3)}) + "\n")


def _drop_later_lines(path: pathlib.Path, update: int) -> list[dict[str, Any]]:
    """Keeps the lines of a file up to an update, and returns them. A line that was cut off is later than that."""
    lines = []
    for text in path.read_text().splitlines() if path.exists() else ():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            break
        if line["update"] <= update:
            lines.append(line)
    shortened = path.with_suffix(".tmp")
    shortened.write_text("".join(json.dumps(line) + "\n" for line in lines))
    shortened.replace(path)
    return lines
