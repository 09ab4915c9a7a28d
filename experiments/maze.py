"""The maze: which memory learns to find a hidden reward again, within one lifetime?

    python -m experiments.maze --workdir=DIR [--config=NAME]
        [--models=mnm_p,mnm_g,lstm,salu,attention,rnn,plastic,modplast,modul] [--num_seeds=3] [--config.KEY=VALUE ...]
        [--max_minutes=M] [--resume]
    python -m experiments.maze --watch=DIR/MODEL

Each agent is trained with all its seeds and leaves its files in DIR/MODEL; figures and tables go to DIR.
When a training ends, its agents live for test episodes with the last parameters; those with a memory that is written
do so once more with its rate at 0.

`--watch` shows an episode of a trained agent, step by step: walls `#`, the agent `A`, and the reward `R`, which only we
can see.

For example:

    python -m experiments.maze --workdir=runs/maze --models=mnm_p,rnn --num_seeds=1 --max_minutes=10
    python -m experiments.maze --watch=runs/maze/mnm_p
"""

import pathlib
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from absl import flags

from experiments import command_line, launcher, plot, products
from mnm_jax import models, policy, training
from mnm_jax._files import whole_file
from mnm_jax.analysis.lifetimes import LIFETIMES
from mnm_jax.tasks import MazeTask
from mnm_jax.tasks.maze_task import Lifetime

_WATCH = flags.DEFINE_string("watch", None, "A trained agent, to watch it instead of training one.")

_CONFIGS = pathlib.Path(__file__).parent / "configs" / "maze.py"
_FRAMES_PER_SECOND = 8
_MOVES = ("up", "down", "left", "right")


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
    lives = [products.live(task, cell, of_seed) for of_seed in variables]
    arrays: dict[str, Any] = {
        "update": np.array(report.update),
        "rewards": np.stack([life.rewards for life in lives]),
        "positions": lives[0].positions[0],
        "reward_position": lives[0].reward_position[0],
    }
    if hasattr(cell, "rate_scale"):
        forgetful = cell.clone(rate_scale=0.0)
        arrays["rewards_without_writing"] = np.stack(
            [products.live(task, forgetful, of_seed).rewards for of_seed in variables]
        )
    with whole_file(directory / LIFETIMES) as file:
        np.savez_compressed(file, **arrays)


def frames(task: MazeTask, life: Lifetime) -> Iterator[str]:
    """An episode as text: what there is to see before the first step and after each.

    Args:
      task: the maze.
      life: the episode.
    """
    environment = task.environment
    _, state = environment.reset(jax.random.key(0), task.params)
    visits = np.cumsum(np.asarray(life.is_visit))
    rewards = np.cumsum(np.asarray(life.rewards))
    for step, position in enumerate(np.asarray(life.positions)):
        state = state._replace(position=position, reward_position=life.reward_position)
        yield (
            environment.draw(state)
            + "\n"
            + (
                f"step {step} of {task.episode_length}: {_MOVES[life.actions[step - 1]]}, visits {visits[step - 1]}, "
                f"reward {rewards[step - 1]:g}"
                if step
                else f"step 0 of {task.episode_length}"
            )
        )


def watch(run: str) -> None:
    """Shows an episode of a trained agent in the terminal; into a file, all pictures one below the other.

    Args:
      run: see `training.load`.

    Raises:
      UsageError: if there is no such run, or if it was not trained in the maze.
    """
    try:
        loaded = training.load(run)
    except (OSError, ValueError) as error:
        raise command_line.UsageError(error) from error
    task = loaded.task
    if not isinstance(task, MazeTask):
        raise command_line.UsageError(f"{run} was trained on {type(task).__name__}, not in the maze")
    life = task.act(jax.random.key(products.TEST_SEED), policy(loaded.cell, loaded.variables))
    for frame in frames(task, jax.device_get(life)):
        if not sys.stdout.isatty():
            print(f"{frame}\n")
            continue
        print(f"\x1b[H\x1b[2J{frame}", flush=True)  # From the upper left corner of an empty screen.
        time.sleep(1 / _FRAMES_PER_SECOND)


def _watch() -> bool:
    if _WATCH.value is not None:
        watch(_WATCH.value)
    return _WATCH.value is not None


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
        ),
        instead=_watch,
    )


if __name__ == "__main__":
    run()
