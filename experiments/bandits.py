"""Two-armed bandits: which memory learns to find out which arm pays more often, while it plays?

    python -m experiments.bandits --workdir=DIR [--config=NAME]
        [--models=mnm_p,mnm_g,lstm,salu,attention,rnn,plastic,modplast,modul] [--num_seeds=3] [--config.KEY=VALUE ...]
        [--max_minutes=M] [--resume]

Each agent is trained with all its seeds and leaves its files in DIR/MODEL; figures and tables go to DIR.
When a training ends, its agents play test episodes with the last parameters. They are compared with random play, with
the best arm, known from the start, and with the Bayes-optimal policy, all three exactly.
"""

import pathlib

import jax
import numpy as np

from experiments import launcher, plot, products
from mnm_jax import models, training
from mnm_jax._files import whole_file
from mnm_jax.analysis.regrets import REGRETS
from mnm_jax.tasks import BanditTask

_CONFIGS = pathlib.Path(__file__).parent / "configs" / "bandits.py"


def introduce(task: BanditTask, settings: training.TrainingSettings) -> None:
    """Prints what is played."""
    del settings
    if jax.process_index() == 0:
        print(task.describe(), flush=True)


def conclude(configuration: training.Configuration, report: training.Report, directory: pathlib.Path) -> None:
    """Lets the agents of all seeds play test episodes, and saves their rewards and regrets."""
    task, cell = configuration.task, configuration.cell()
    plays = [
        products.live(task, cell, jax.tree.map(lambda leaf, i=i: leaf[i], report.state.variables))
        for i in range(len(configuration.seeds))
    ]
    best = [of_seed.probabilities.max(axis=1, keepdims=True) for of_seed in plays]
    paying = [np.take_along_axis(of_seed.probabilities, of_seed.actions, axis=1) for of_seed in plays]
    with whole_file(directory / REGRETS) as file:
        np.savez_compressed(
            file,
            update=np.array(report.update),
            rewards=np.stack([of_seed.rewards for of_seed in plays]),
            regrets=np.stack(best) - np.stack(paying),
        )


def run() -> None:
    """Runs the program."""
    launcher.run(
        launcher.Experiment(
            name="bandits",
            default_config=f"{_CONFIGS}:small",
            introduce=introduce,
            conclude=conclude,
            products=(REGRETS,),
            report=plot.report,
            default_models=models.AGENTS,
        )
    )


if __name__ == "__main__":
    run()
