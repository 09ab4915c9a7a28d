"""A task of your own: which memory learns it?

    python -m experiments.train --workdir=DIR --task=module:Class [--config.task.FIELD=VALUE ...]
        [--models=mnm_p,mnm_g,lstm,salu,attention] [--num_seeds=3] [--config.KEY=VALUE ...] [--max_minutes=M] [--resume]

The class is a frozen dataclass with all that `mnm_jax.training.Task` asks for. It is looked for where Python looks for
modules, and in the current directory. Each model is trained with all its seeds and leaves its files in
DIR/MODEL, which `mnm_jax.training.load` reads; figures and tables go to DIR.

For example, with a task that comes with the package:

    python -m experiments.train --workdir=runs/mine --task=mnm_jax.tasks:Dictionary --config.task.num_pairs=4
    python -m experiments.train --workdir=runs/mine --resume
"""

import dataclasses
import json
import pathlib
import sys

import jax
from absl import flags
from ml_collections import ConfigDict

from experiments import command_line, launcher, plot
from mnm_jax import tasks, training

_TASK = flags.DEFINE_string("task", None, "The task, module:Class.")
_CONFIGS = pathlib.Path(__file__).parent / "configs" / "train.py"


def prepare(config: ConfigDict) -> None:
    """Checks that the configuration has a task, the one that `--task` names, with a value for each of its fields.

    Raises:
      ValueError: if not.
    """
    if not config.experiment:
        raise ValueError("--task=module:Class is missing: the task to train on")
    if _TASK.value not in (None, config.experiment):
        raise ValueError(f"--task={_TASK.value} is not the task of this configuration, {config.experiment}")
    for field in dataclasses.fields(tasks.find_task(config.experiment)):
        is_needed = field.init and field.default is field.default_factory is dataclasses.MISSING
        if is_needed and config.task.get(field.name) is None:
            raise ValueError(f"--config.task.{field.name}=VALUE is missing: {config.experiment} has no default for it")
    try:
        json.dumps(config.task.to_dict())
    except TypeError as error:
        raise ValueError(f"task {config.experiment!r}: its fields cannot be written to a file: {error}") from error


def introduce(task: training.Task, settings: training.TrainingSettings) -> None:
    """Prints the task."""
    del settings
    if jax.process_index() == 0:
        print(f"{task}: episodes of at most {task.num_steps} steps", flush=True)


def run() -> None:
    """Runs the program."""
    task = command_line.flag_value(sys.argv, "task") or ""
    launcher.run(
        launcher.Experiment(
            name="train",
            default_config=f"{_CONFIGS}:{task}",
            introduce=introduce,
            conclude=lambda configuration, report, directory: None,
            products=(),
            report=plot.report,
            prepare=prepare,
        )
    )


if __name__ == "__main__":
    run()
