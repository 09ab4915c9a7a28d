"""What a run was asked for, as `config.json` holds it; and how to get a trained model back from a run's directory."""

import dataclasses
import json
import pathlib
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from mnm_jax import models, tasks
from mnm_jax.training.checkpoint import Checkpoints, RestoreError
from mnm_jax.training.devices import place
from mnm_jax.training.loop import CHECKPOINTS
from mnm_jax.training.update import Task, TrainingSettings

CONFIG = "config.json"
PyTree = Any


@dataclasses.dataclass(frozen=True)
class Configuration:
    """One model on one task, all its seeds together.

    Attributes:
      experiment: the name of the task, one of `tasks.TASKS`.
      model: the name of the model; see `models.find_writer`.
      seeds: one run for each.
      task: the task.
      model_settings: sizes and options of the model.
      training: how to train it.
    """

    experiment: str
    model: str
    seeds: tuple[int, ...]
    task: Task
    model_settings: models.ModelSettings
    training: TrainingSettings

    def cell(self, task: Task | None = None) -> nn.Module:
        """The cell, with room for the episodes of the task, or of another one of the same symbols."""
        task = self.task if task is None else task
        return models.build(
            self.model,
            self.model_settings,
            output_size=task.output_size,
            vocabulary_size=task.vocabulary_size,
            num_steps=task.num_steps,
        )

    def to_json(self) -> str:
        """The contents of `config.json`."""
        config = {"task": self.task, "model": self.model_settings, "training": self.training}
        contents = {
            "experiment": self.experiment,
            "model": self.model,
            "seeds": list(self.seeds),
            "config": {key: dataclasses.asdict(part) for key, part in config.items()},
        }
        return json.dumps(contents, indent=2) + "\n"

    @classmethod
    def load(cls, directory: str | pathlib.Path) -> "Configuration":
        """Reads the `config.json` of a run.

        Raises:
          ValueError: if there is none, or it is not what a run writes; the message names the file.
        """
        path = pathlib.Path(directory) / CONFIG
        try:
            contents = json.loads(path.read_text())
            config = contents["config"]
            return cls(
                contents["experiment"],
                contents["model"],
                tuple(contents["seeds"]),
                tasks.TASKS[contents["experiment"]](**config["task"]),
                models.ModelSettings(**config["model"]),
                TrainingSettings(**config["training"]),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is not the configuration of a run: {error!r}") from error

    def differences(self, other: "Configuration") -> dict[str, tuple[Any, Any]]:
        """What another configuration has otherwise: by name in `config.json`, the value here and the value there."""
        here, there = _flatten(json.loads(self.to_json())), _flatten(json.loads(other.to_json()))
        return {
            key: (here.get(key), there.get(key))
            for key in sorted(here.keys() | there.keys())
            if here.get(key) != there.get(key)
        }


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots."""
    flat = {}
    for key, value in tree.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


class Loaded(NamedTuple):
    """A trained model.

    Attributes:
      cell: what was trained.
      variables: what it learned, for `cell.apply` and `unroll`.
      task: what it was trained on.
      update: after how many updates.
      configuration: all that the run was asked for.
    """

    cell: nn.Module
    variables: PyTree
    task: Task
    update: int
    configuration: Configuration


def load(directory: str | pathlib.Path, *, seed: int | None = None, best: bool = False) -> Loaded:
    """Loads a trained model from what its run left on the disk.

    Example:
      >>> cell, variables, task, *_ = training.load("runs/demo/mnm_p")
      >>> carry, outputs, trace = mnm.unroll(cell, variables, task.sample(jax.random.key(0)).inputs)

    Args:
      directory: the directory of one model, which holds `config.json` and `checkpoints/`; or one with a single such
        directory in it.
      seed: which seed's parameters; `None` for the first.
      best: the parameters at the best evaluation instead of the last ones.

    Returns:
      The `Loaded` model.

    Raises:
      ValueError: if this is no directory of a run or of several, if the run has no such seed, or if no checkpoint of it
        is whole.
    """
    directory = _find_run(pathlib.Path(directory))
    configuration = Configuration.load(directory)
    seed = configuration.seeds[0] if seed is None else seed
    if seed not in configuration.seeds:
        raise ValueError(f"{directory} has no seed {seed}; it has {', '.join(map(str, configuration.seeds))}")
    cell = configuration.cell()
    shapes = place(configuration.task, cell, configuration.training).shapes(len(configuration.seeds))
    try:
        state, _ = Checkpoints(directory / CHECKPOINTS).load(shapes)
    except FileNotFoundError as error:
        raise RestoreError(str(error)) from error
    i = configuration.seeds.index(seed)
    params, update = (state.best.params, state.best.update) if best else (state.params, state.update)
    variables = {"params": jax.tree.map(lambda leaf: leaf[i], params)}
    return Loaded(cell, variables, configuration.task, int(np.asarray(update)[i]), configuration)


def _find_run(directory: pathlib.Path) -> pathlib.Path:
    if (directory / CONFIG).is_file():
        return directory
    inside = sorted(path.parent for path in directory.glob(f"*/{CONFIG}"))
    if len(inside) != 1:
        found = f"several: {', '.join(path.name for path in inside)}" if inside else f"no {CONFIG} in it"
        raise ValueError(f"{directory} is not the directory of one run: {found}")
    return inside[0]
