"""What the memory does in the maze: when an agent knows where the reward is, and whether it follows when that moves.

    python -m experiments.maze_memory WORKDIR [WORKDIR...] --output=DIR [--episodes=1000] [--formats=png,pdf]
    python -m experiments.maze_memory --output=DIR [...]    # Draws the figures again, from DIR/maze_memory.json alone.

Every trained agent in a WORKDIR of `experiments.maze` lives for episodes of its own maze. From what its memory returns
after each step, or from the hidden state of one without a memory to read, the reward's cell is decoded linearly. Then
the reward is moved in the middle of episodes. DIR gets

- `maze_memory.json`: all the numbers; those that it has of other agents, in the same maze and as many episodes, stay;
- `knowledge.png`: how often the decoder is right, against steps and against visits to the reward;
- `following.png`: how soon the reward is found, and the steps from visit to visit, before the move and after it, and
  how often an agent goes to the old place.
"""

import dataclasses
import itertools
import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags

from experiments import command_line
from mnm_jax import _paths, training
from mnm_jax._files import write_whole
from mnm_jax.analysis import maze_memory, maze_memory_figures
from mnm_jax.analysis.output import Output
from mnm_jax.analysis.runs import LoadError, load_runs
from mnm_jax.tasks import MazeTask

_USAGE = "usage: python -m experiments.maze_memory WORKDIR [WORKDIR...] --output=DIR"
_EPISODES = flags.DEFINE_integer("episodes", 1000, "Episodes of each agent, for each of the two.", lower_bound=8)

_NUMBERS = "maze_memory.json"
_SEED = 3_000_000


def measure(task: MazeTask, agents: Sequence[training.Loaded], num_episodes: int) -> dict[str, Any]:
    """What is measured of an agent, in JSON types, for each of its seeds.

    Args:
      task: the maze.
      agents: of one training, one for each seed.
      num_episodes: of each.
    """
    rng_knowledge, rng_following = jax.random.split(jax.random.key(_SEED))
    move_at = task.episode_length // 2
    of_seeds = []
    for cell, variables, *_ in agents:
        remembered = maze_memory.remember(task, cell, variables, rng_knowledge, num_episodes)
        knowledge = maze_memory.decode(remembered, len(task.environment.free_cells))
        following = maze_memory.follow(task, cell, variables, rng_following, num_episodes, move_at)
        of_seeds.append({"knowledge": _plain(knowledge), "following": _plain(following)})
    return {"update": agents[0].update, "seeds": of_seeds}


def _plain(measured: NamedTuple) -> dict[str, Any]:
    """The fields, as lists and numbers; `None` for what is none."""
    return {name: _without_nan(np.asarray(value).tolist()) for name, value in measured._asdict().items()}


def _without_nan(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_nan(part) for part in value]
    return None if math.isnan(value) else value


def measure_all(workdirs: Sequence[str], num_episodes: int, maze: dict[str, Any] | None = None) -> dict[str, Any]:
    """What is measured of every agent in some working directories, with the maze that all of them share.

    Args:
      workdirs: the directories.
      num_episodes: of each agent.
      maze: the fields of the maze that it has to be; `None` for any.

    Raises:
      UsageError: if there is no trained agent, if they are of different mazes, or if two are of one model.
    """
    task, agents = None, {}
    try:
        runs = [run for workdir in workdirs for run in load_runs(_paths.expand(workdir))]
        for run in runs:
            if run.experiment != "maze":
                raise LoadError(f"{run.directory} was trained on {run.experiment}, not in the maze")
            if run.model in agents:
                raise LoadError(f"{run.directory} is a second run of {run.model}; want one of each model")
            of_seeds = [training.load(run.directory, seed=seed) for seed in run.seeds]
            if task is not None and task != of_seeds[0].task:
                raise LoadError(f"{run.directory} has another maze than the others: {of_seeds[0].task}, not {task}")
            task = of_seeds[0].task
            if maze not in (None, dataclasses.asdict(task)):
                raise LoadError(f"{run.directory} has another maze than the agents in {_NUMBERS}: {task}, not {maze}")
            print(f"{run.directory}: update {of_seeds[0].update}, {len(run.seeds)} seeds", flush=True)
            agents[run.model] = measure(task, of_seeds, num_episodes)
    except (OSError, ValueError) as error:
        raise command_line.UsageError(error) from error
    assert task is not None  # There is a run in each directory.
    return {"task": dataclasses.asdict(task), "episodes": num_episodes, "agents": agents}


def _read(path: pathlib.Path) -> dict[str, Any]:
    """What `measure_all` gave, from its file.

    Raises:
      UsageError: if it cannot be read, or holds something else.
    """
    try:
        numbers: dict[str, Any] = json.loads(path.read_text())
        seeds = [of_seed for agent in numbers["agents"].values() for of_seed in agent["seeds"]]
        fields = {"knowledge": maze_memory.Knowledge._fields, "following": maze_memory.Following._fields}
        for of_seed, (part, wanted) in itertools.product(seeds, fields.items()):
            if missing := set(wanted) - set(of_seed[part]):
                raise ValueError(f"'{part}' of an agent lacks {', '.join(sorted(missing))}")
        return {key: numbers[key] for key in ("task", "episodes", "agents")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else error
        raise command_line.UsageError(f"{path} cannot be read: {reason}; {_USAGE}") from error


def main(argv: Sequence[str], given_output: str, formats: Sequence[str] = ("png",)) -> None:
    """Measures the agents in the working directories on the command line, if there are any, and draws the figures."""
    output = _paths.expand(given_output)
    with command_line.writing_to(output):  # Before what takes minutes.
        into = Output(output, formats)
    path = output / _NUMBERS
    if len(argv) > 1:
        older = _read(path) if path.exists() else None
        if older is not None and older["episodes"] != _EPISODES.value:
            raise command_line.UsageError(
                f"--episodes={_EPISODES.value}: {path} has agents with {older['episodes']} episodes; want as many, or "
                f"another --output"
            )
        numbers = measure_all(argv[1:], _EPISODES.value, None if older is None else older["task"])
        if older is not None:
            numbers["agents"] = older["agents"] | numbers["agents"]
        with command_line.writing_to(output):
            write_whole(path, json.dumps(numbers, indent=1) + "\n")
    numbers = _read(path)
    with command_line.writing_to(output):
        into.figure("knowledge", maze_memory_figures.knowledge(numbers))
        into.figure("following", maze_memory_figures.following(numbers))
    print("\n".join(map(str, into.paths)))


def run() -> None:
    """Runs the program."""
    # Not at the top: other programs have flags of these names.
    output = flags.DEFINE_string("output", None, "Directory for numbers and figures.", required=True)
    formats = command_line.formats_flag()
    command_line.run(lambda argv: main(argv, output.value, formats.value), document=__doc__, takes_arguments=True)


if __name__ == "__main__":
    run()
