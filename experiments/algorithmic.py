"""The algorithmic tasks: which memory learns to copy, to recall and to sort from examples, and what of longer ones?

    python -m experiments.algorithmic --workdir=DIR [--config=NAME]
        [--models=mnm_p,mnm_g,lstm,salu,attention,ntm,dnc] [--num_seeds=3] [--config.KEY=VALUE ...] [--max_minutes=M]
        [--resume]

NAME is a task, `copy`, `repeat_copy`, `double_copy`, `associative_recall` or `priority_sort`, at its published sizes,
or `copy_small` and so on, at sizes for a CPU. Each model is trained with all its seeds and leaves its
files in DIR/MODEL; figures and tables go to DIR.
"""

import dataclasses
import pathlib

import jax
from ml_collections import ConfigDict

from experiments import generalization, launcher, plot
from mnm_jax import models, training
from mnm_jax.tasks import algorithmic

_CONFIGS = pathlib.Path(__file__).parent / "configs" / "algorithmic.py"


def introduce(task: algorithmic.BitTask, settings: training.TrainingSettings) -> None:
    """Prints an episode."""
    if jax.process_index() == 0:
        print(f"An episode of the task (at most {task.num_steps} steps), what is read -> what is due:")
        print(task.describe(task.sample(jax.random.key(settings.evaluation_seed))), flush=True)


def lengths_to_evaluate(task: algorithmic.BitTask) -> list[int]:
    """Half the longest length of training, this length itself, twice and four times as much."""
    return sorted({max(2, task.max_length // 2), *(times * task.max_length for times in (1, 2, 4))})


def conclude(configuration: training.Configuration, report: training.Report, directory: pathlib.Path) -> None:
    """Evaluates a finished model on shorter and longer episodes than it was trained on."""
    if report.is_finished:
        task = configuration.task
        tasks = {length: task.at_length(length) for length in lengths_to_evaluate(task)}
        generalization.evaluate(configuration, report.state, tasks, "length", directory)


def prepare(config: ConfigDict) -> None:
    """Checks that the configuration is one of its own task.

    Raises:
      ValueError: if not.
    """
    task = algorithmic.TASKS.get(config.experiment)
    if task is None or {field.name for field in dataclasses.fields(task)} != set(config.task):
        raise ValueError(
            f"--config.experiment={config.experiment} is not the task of this configuration; choose the task by "
            f"--config=NAME, with a NAME of {', '.join(algorithmic.TASKS)}"
        )


def run() -> None:
    """Runs the program."""
    launcher.run(
        launcher.Experiment(
            name="copy",
            default_config=f"{_CONFIGS}:copy_small",
            introduce=introduce,
            conclude=conclude,
            products=(generalization.FILE,),
            report=plot.report,
            default_models=models.MEMORIES,
            prepare=prepare,
        )
    )


if __name__ == "__main__":
    run()
