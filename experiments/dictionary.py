"""The dictionary task: which memory learns to translate from a dictionary that it reads once?

    python -m experiments.dictionary --workdir=DIR [--config=NAME]
        [--models=mnm_p,mnm_g,lstm,salu,attention] [--num_seeds=3] [--config.KEY=VALUE ...] [--max_minutes=M] [--resume]

Each model is trained with all its seeds and leaves its files in DIR/MODEL; figures and tables go to DIR.
A writer of your own is a model too: `--models=my_module:my_writer`, a function that makes a `mnm_jax.writers.Writer`.

For example:

    python -m experiments.dictionary --workdir=runs/first --models=mnm_p,lstm --num_seeds=1 --max_minutes=2
    python -m experiments.dictionary --workdir=runs/first --models=mnm_p,lstm --num_seeds=1 --resume
"""

import dataclasses
import pathlib

import jax

from experiments import generalization, launcher, plot, products
from mnm_jax import training
from mnm_jax.tasks.dictionary import Dictionary

_CONFIGS = pathlib.Path(__file__).parent / "configs" / "dictionary.py"
_EPISODE = "episode.npz"


def introduce(task: Dictionary, settings: training.TrainingSettings) -> None:
    """Prints an episode."""
    if jax.process_index() == 0:
        print(f"An episode of the task ({task.num_steps} steps):")
        print(task.describe(task.sample(jax.random.key(settings.evaluation_seed))), flush=True)


def num_pairs_to_evaluate(task: Dictionary) -> list[int]:
    """Powers of two from 2 to 32, and the trained size; what the alphabet does not allow is cut to what it does."""
    sizes = {min(size, task.max_num_pairs) for size in (2, 4, 8, 16, 32, task.num_pairs)}
    return sorted(sizes)


def conclude(configuration: training.Configuration, report: training.Report, directory: pathlib.Path) -> None:
    """Saves an episode of the first seed; and of a finished model, how it does beyond what it was trained on."""
    task = configuration.task
    example = task.sample(jax.random.key(configuration.training.evaluation_seed))
    products.save_episode(task, configuration.cell(), report.state.variables, example, directory / _EPISODE)
    if report.is_finished:
        sizes = num_pairs_to_evaluate(task)
        tasks = {size: dataclasses.replace(task, num_pairs=size, num_queries=None) for size in sizes}
        generalization.evaluate(configuration, report.state, tasks, "num_pairs", directory)


def run() -> None:
    """Runs the program."""
    launcher.run(
        launcher.Experiment(
            name="dictionary",
            default_config=f"{_CONFIGS}:demo",
            introduce=introduce,
            conclude=conclude,
            products=(generalization.FILE,),
            report=plot.report,
        )
    )


if __name__ == "__main__":
    run()
