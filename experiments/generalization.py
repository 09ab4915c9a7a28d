"""How trained models do in episodes of other sizes than those that they were trained on."""

import json
import pathlib
from collections.abc import Mapping

from mnm_jax import training
from mnm_jax._files import write_whole

FILE = "generalization.jsonl"


def evaluate(
    configuration: training.Configuration,
    state: training.TrainState,
    tasks: Mapping[int, training.Task],
    axis: str,
    directory: pathlib.Path,
) -> None:
    """Writes a line for each size and seed, with the metrics of the task.

    Args:
      configuration: of the run.
      state: the trained model, all seeds.
      tasks: by size, the task at that size.
      axis: what the size counts; the name of its field in the file.
      directory: where to write `FILE`.
    """
    lines = []
    for size, task in tasks.items():
        placement = training.place(task, configuration.cell(task), configuration.training)
        examples = training.held_out(task, configuration.training)
        metrics = placement.collect(placement.evaluate(placement.spread(state), examples))
        for i, seed in enumerate(configuration.seeds):
            values = {name: float(values[i]) for name, values in metrics.items()}
            lines.append(json.dumps({"seed": seed, axis: size, **values}) + "\n")
    write_whole(directory / FILE, "".join(lines))
