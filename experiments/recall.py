"""Multi-query associative recall: how many pairs does a memory recall, and with how many floats?

    python -m experiments.recall --workdir=DIR [--config=NAME]
        [--models=mnm_p,mnm_g,lstm,salu,attention,ntm,dnc] [--num_seeds=3] [--config.KEY=VALUE ...] [--max_minutes=M]
        [--resume]

Each model is trained with all its seeds and leaves its files in DIR/MODEL; figures and tables go to DIR.
`python -m experiments.recall_sizes DIR...` puts runs with different `--config.model.memory_size` into one figure.
"""

import dataclasses
import pathlib

import jax

from experiments import generalization, launcher, plot
from mnm_jax import models, training
from mnm_jax.tasks import MultiQueryRecall

_CONFIGS = pathlib.Path(__file__).parent / "configs" / "recall.py"


def introduce(task: MultiQueryRecall, settings: training.TrainingSettings) -> None:
    """Prints an episode."""
    if jax.process_index() == 0:
        print(f"An episode of the task ({task.num_steps} steps):")
        print(task.describe(task.sample(jax.random.key(settings.evaluation_seed))), flush=True)


def num_pairs_to_evaluate(task: MultiQueryRecall) -> list[int]:
    """Powers of two from 2 on, as many as there are steps and keys for, and the trained number."""
    most = min(task.num_steps // 4, task.vocabulary_size // 2 - 1)
    return sorted({task.num_pairs, *(2**i for i in range(1, most.bit_length()))})


def conclude(configuration: training.Configuration, report: training.Report, directory: pathlib.Path) -> None:
    """Evaluates a finished model on fewer and more pairs than it was trained on, in as many steps."""
    if report.is_finished:
        task = configuration.task
        tasks = {number: dataclasses.replace(task, num_pairs=number) for number in num_pairs_to_evaluate(task)}
        generalization.evaluate(configuration, report.state, tasks, "num_pairs", directory)


def run() -> None:
    """Runs the program."""
    launcher.run(
        launcher.Experiment(
            name="mqar",
            default_config=f"{_CONFIGS}:small",
            introduce=introduce,
            conclude=conclude,
            products=(generalization.FILE,),
            report=plot.report,
            default_models=models.MEMORIES,
        )
    )


if __name__ == "__main__":
    run()
