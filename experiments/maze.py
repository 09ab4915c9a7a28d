"""The maze: which memory learns to find a hidden reward again, within one lifetime?

    python -m experiments.maze --workdir=DIR [--config=NAME]
        [--models=mnm_p,mnm_g,lstm,salu,attention,rnn,plastic,modplast,modul] [--num_seeds=3] [--config.KEY=VALUE ...]
        [--max_minutes=M] [--resume]

Each agent is trained with all its seeds side by side and leaves its files in DIR/MODEL; figures and tables go to DIR.
When a training ends, its agents live for test episodes with the last parameters; those with a memory that is written
do so once more with its rate at 0.

For example:

    python -m experiments.maze --workdir=runs/maze --models=mnm_p,rnn --num_seeds=1 --max_minutes=10
"""

import functools
import io
import pathlib
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from experiments import launcher, plot
from mnm_jax import models, policy, training
from mnm_jax._files import write_whole
from mnm_jax.analysis.lifetimes import LIFETIMES
from mnm_jax.tasks import MazeTask
from mnm_jax.tasks.maze_task import Lifetime

_CONFIGS = pathlib.Path(__file__).parent / "configs" / "maze.py"
_TEST_SEED = 2_000_000
_TEST_EPISODES = 300

PyTree = Any


def introduce(task: MazeTask, settings: training.TrainingSettings) -> None:
    """Prints the maze."""
    del settings
    if jax.process_index() == 0:
        print(task.describe(), flush=True)


def conclude(configuration: training.Configuration, report: training.Report, directory: pathlib.Path) -> None:
    """Lets the agents of all seeds live for test episodes, and saves what they found."""
    task, cell = configuration.task, configuration.cell()
    seeds = range(len(configuration.seeds))
    variables = [jax.tree.map(lambda leaf, i=i: leaf[i], report.state.variables) for i in seeds]
    lives = [live(task, cell, of_seed) for of_seed in variables]
    arrays: dict[str, Any] = {
        "update": np.array(report.update),
        "rewards": np.stack([life.rewards for life in lives]),
        "positions": lives[0].positions[0],
        "reward_position": lives[0].reward_position[0],
    }
    if hasattr(cell, "rate_scale"):
        forgetful = cell.clone(rate_scale=0.0)
        arrays["rewards_without_writing"] = np.stack([live(task, forgetful, of_seed).rewards for of_seed in variables])
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    write_whole(directory / LIFETIMES, file.getvalue())


def live(task: MazeTask, cell: nn.Module, variables: PyTree) -> Lifetime:
    """The test episodes of one agent, on the host; each leaf with a leading axis of episodes."""
    lives: Lifetime = jax.device_get(_live(task, cell, variables))
    return lives


@functools.partial(jax.jit, static_argnums=(0, 1))
def _live(task: MazeTask, cell: nn.Module, variables: PyTree) -> Lifetime:
    rngs = jax.random.split(jax.random.key(_TEST_SEED), _TEST_EPISODES)
    return jax.vmap(lambda rng: task.act(rng, policy(cell, variables)))(rngs)


def run() -> None:
    """Runs the program."""
    launcher.run(
        launcher.Experiment(
            name="maze",
            default_config=f"{_CONFIGS}:small",
            introduce=introduce,
            conclude=conclude,
            products=(LIFETIMES,),
            report=plot.report,
            default_models=models.AGENTS,
        )
    )


if __name__ == "__main__":
    run()
