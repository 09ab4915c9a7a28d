"""The dictionary task: which memory learns to translate from a dictionary that it reads once?

    python -m experiments.dictionary --workdir=DIR [--config=experiments/configs/dictionary.py:NAME]
        [--models=mnm_p,mnm_g,lstm,salu,attention] [--num_seeds=5] [--config.KEY=VALUE ...] [--max_minutes=M] [--resume]

Each model is trained with all its seeds side by side and leaves its files in DIR/MODEL; figures and tables go to DIR.
A writer of your own is a model too: `--models=my_module:my_writer`, a function that makes a `mnm_jax.writers.Writer`.
"""

import dataclasses
import json
import os
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import ml_collections
import numpy as np
from absl import flags
from ml_collections import config_flags

import mnm_jax as mnm
from experiments import command_line, plot
from mnm_jax import models, training
from mnm_jax.tasks.dictionary import Dictionary

_CONFIGS = pathlib.Path(__file__).parent / "configs" / "dictionary.py"
_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration file and :NAME; the demo if not given.")
_MODELS = flags.DEFINE_list("models", list(models.NAMES), "Models to train, one after the other.")
_NUM_SEEDS = flags.DEFINE_integer("num_seeds", 3, "Seeds of each model, trained side by side.", lower_bound=1)
_WORKDIR = flags.DEFINE_string("workdir", None, "Directory for metrics, checkpoints and figures.")
_MAX_MINUTES = flags.DEFINE_float(
    "max_minutes", float("inf"), "Time for training, shared evenly by the models not yet finished.", lower_bound=0
)
_RESUME = flags.DEFINE_bool("resume", False, "Go on in a workdir that exists.")


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A checked configuration.

    Attributes:
      task: the task.
      model: sizes and options of the models.
      training: how to train.
    """

    task: Dictionary
    model: models.Settings
    training: training.Settings

    @classmethod
    def from_config(cls, config: ml_collections.ConfigDict) -> "Experiment":
        """Checks a configuration.

        Raises:
          ValueError: if a value is not possible, naming it.
        """
        return cls(Dictionary(**config.task), models.Settings(**config.model), training.Settings(**config.training))

    def settings(self, name: str) -> training.Settings:
        """How to train a model: the weight of the meta-objective goes with it."""
        meta_weight = self.model.meta_weight
        return dataclasses.replace(
            self.training, meta_weight=models.default_meta_weight(name) if meta_weight is None else meta_weight
        )

    def cell(self, name: str, task: Dictionary) -> nn.Module:
        """The cell of a model, with room for the episodes of a task."""
        return models.build(
            name,
            self.model,
            output_size=task.output_size,
            vocabulary_size=task.vocabulary_size,
            num_steps=task.num_steps,
        )


def num_pairs_to_evaluate(task: Dictionary) -> list[int]:
    """Powers of two from 2 to 32, and the trained size; what the alphabet does not allow is cut to what it does."""
    sizes = {min(size, task.max_num_pairs) for size in (2, 4, 8, 16, 32, task.num_pairs)}
    return sorted(sizes)


def train_model(
    name: str, experiment: Experiment, seeds: Sequence[int], directory: pathlib.Path, max_seconds: float = float("inf")
) -> bool:
    """Trains one model, and evaluates it beyond what it was trained on once it is finished.

    Args:
      name: the model.
      experiment: the configuration.
      seeds: one run for each.
      directory: where to write. A checkpoint there is where it goes on.
      max_seconds: the budget.

    Returns:
      Whether the training is finished.
    """
    directory.mkdir(parents=True, exist_ok=True)
    new = directory / "config.json.tmp"
    new.write_text(_to_json(name, experiment, seeds))
    new.replace(directory / "config.json")
    for name_of_end in ("episode.npz", "generalization.jsonl"):
        (directory / name_of_end).unlink(missing_ok=True)  # They would not fit longer curves.
    cell = experiment.cell(name, experiment.task)
    report = training.run(
        experiment.task,
        cell,
        experiment.settings(name),
        seeds,
        directory,
        max_seconds=max_seconds,
        headline="word_accuracy",
        description=name,
    )
    _save_episode(experiment, cell, report.state.params, directory / "episode.npz")
    if report.is_finished:
        _generalize(name, experiment, seeds, report.state.params, directory / "generalization.jsonl")
    return report.is_finished


def _to_json(name: str, experiment: Experiment, seeds: Sequence[int]) -> str:
    config = dataclasses.asdict(experiment)
    config["training"] = dataclasses.asdict(experiment.settings(name))
    contents = {"model": name, "seeds": list(seeds), "config": config}
    return json.dumps(contents, indent=2) + "\n"


def _generalize(name: str, experiment: Experiment, seeds: Sequence[int], params: Any, path: pathlib.Path) -> None:
    """Evaluates a model on smaller and larger dictionaries than it was trained on."""
    lines = []
    for num_pairs in num_pairs_to_evaluate(experiment.task):
        task = dataclasses.replace(experiment.task, num_pairs=num_pairs, num_queries=None)
        functions = training.compiled(task, experiment.cell(name, task), experiment.settings(name))
        metrics = jax.device_get(functions.evaluate(params, training.held_out(task, experiment.training)))
        for i, seed in enumerate(seeds):
            values = {metric: float(metrics[metric][i]) for metric in ("character_accuracy", "word_accuracy")}
            lines.append(json.dumps({"seed": seed, "num_pairs": num_pairs, **values}) + "\n")
    path.write_text("".join(lines))


def _save_episode(experiment: Experiment, cell: nn.Module, params: Any, path: pathlib.Path) -> None:
    """Saves what the memory of the first seed did in one held-out episode, for a cell that has one."""
    example = experiment.task.sample(jax.random.key(experiment.training.evaluation_seed))
    first = jax.tree.map(lambda leaf: leaf[0], params)
    trace = jax.jit(lambda params, inputs: mnm.unroll(cell, {"params": params}, inputs).trace)(first, example.inputs)
    if trace:
        np.savez(path, labels=experiment.task.symbols(example), **jax.device_get(trace)._asdict())


def _check_workdir(workdir: pathlib.Path, names: Sequence[str], experiment: Experiment, seeds: Sequence[int]) -> None:
    """Refuses to mix two experiments in one directory.

    Raises:
      UsageError: if the directory is in use without `--resume`, or by another configuration.
    """
    ancestor = next(path for path in (workdir, *workdir.absolute().parents) if path.exists())
    if not ancestor.is_dir():
        raise command_line.UsageError(f"--workdir={workdir} is not a directory")
    if not os.access(ancestor, os.W_OK):
        raise command_line.UsageError(f"--workdir={workdir} cannot be written to")
    if not _RESUME.value and workdir.is_dir() and any(workdir.iterdir()):
        raise command_line.UsageError(f"--workdir={workdir} exists; pass --resume to go on in it, or name another")
    for path in sorted(workdir.glob("*/config.json")):
        try:
            saved = _flatten(json.loads(path.read_text()))
            wanted = _flatten(json.loads(_to_json(saved["model"], experiment, seeds)))
            num_updates = saved["config.training.num_updates"]
        except (json.JSONDecodeError, AttributeError, KeyError) as error:
            raise command_line.UsageError(f"{path} cannot be read: {error!r}") from error
        # A run may be made longer, if its learning rate does not depend on its length, and another model may be trained
        # otherwise; but one figure holds one task.
        keys = {
            key for key in saved.keys() | wanted.keys() if saved["model"] in names or key.startswith("config.task.")
        }
        may_be_longer = experiment.training.schedule == "constant" and experiment.training.num_updates > num_updates
        differences = [
            f"{key} was {saved.get(key)} and is {wanted.get(key)}"
            for key in sorted(keys - ({"config.training.num_updates"} if may_be_longer else set()))
            if saved.get(key) != wanted.get(key)
        ]
        if differences:
            raise command_line.UsageError(f"{path.parent} was made otherwise: {'; '.join(differences)}")


def _flatten(tree: dict, prefix: str = "") -> dict:
    """Nested keys joined by dots."""
    flat = {}
    for key, value in tree.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat


def _is_finished(directory: pathlib.Path, experiment: Experiment) -> bool:
    """Whether a model has made all its updates and was evaluated beyond what it was trained on."""
    latest = training.Checkpoints(directory / training.CHECKPOINTS).latest()
    return latest == experiment.training.num_updates and (directory / "generalization.jsonl").exists()


def _directory(name: str) -> str:
    """The directory of a model: its name, without the colon of `module:function`."""
    return name.replace(":", ".")


def main(argv: Sequence[str]) -> None:
    """Trains the models that the flags name and draws the figures."""
    del argv
    names, seeds = list(dict.fromkeys(_MODELS.value)), range(_NUM_SEEDS.value)
    if _WORKDIR.value is None:
        raise command_line.UsageError("--workdir=DIR is missing: a directory for metrics, checkpoints and figures")
    if not names:
        raise command_line.UsageError(f"--models is empty; choose from {', '.join(models.NAMES)}")
    workdir = pathlib.Path(_WORKDIR.value)
    try:
        experiment = Experiment.from_config(_CONFIG.value)
        for name in names:
            models.find_writer(name)
            experiment.settings(name)
    except ValueError as error:
        raise command_line.UsageError(error) from error
    _check_workdir(workdir, names, experiment, seeds)

    task = experiment.task
    print(f"An episode of the task ({task.num_steps} steps):")
    print(task.describe(task.sample(jax.random.key(experiment.training.evaluation_seed))), flush=True)
    deadline = time.monotonic() + 60 * _MAX_MINUTES.value
    unfinished = [name for name in names if not _is_finished(workdir / _directory(name), experiment)]
    for i, name in enumerate(unfinished):
        budget = (deadline - time.monotonic()) / (len(unfinished) - i)
        print(f"Training {name}: {len(seeds)} seeds, {experiment.training.num_updates} updates", flush=True)
        is_finished = train_model(name, experiment, seeds, workdir / _directory(name), budget)
        if not is_finished:
            print(f"{name}: stopped by --max_minutes; go on with --resume", flush=True)
    plot.report(workdir)


def run() -> None:
    """Runs the program."""
    command_line.run(main, default_config=f"{_CONFIGS}:demo")


if __name__ == "__main__":
    run()
