"""The bAbI tasks: which memory learns to answer questions about a story that it reads once, word by word?

    python -m experiments.babi --workdir=DIR [--config=NAME] [--tasks=1,2,...|all]
        [--data=en-10k|en] [--layout=stream|question|sentences] [--babi_archive=PATH]
        [--models=mnm_p,mnm_g,lstm,salu,attention] [--num_seeds=3] [--config.KEY=VALUE ...] [--max_minutes=M] [--resume]
    python -m experiments.babi --ask=DIR/MODEL [--story=FILE] [--seed=SEED]

The tasks of one run are trained together. Each model is trained with all its seeds and leaves its files in
DIR/MODEL; figures and tables go to DIR. The archive `tasks_1-20_v1-2.tar.gz`, or a directory into which it was
extracted, is the one that `--babi_archive` or the environment variable BABI_ARCHIVE names; else it is downloaded.

The test files are evaluated when a training ends, once, with the parameters that were best on the validation stories.

`--ask` tells a trained model a story and asks it questions, as `python -m experiments.ask RUN` does.

For example:

    python -m experiments.babi --workdir=runs/qa1 --tasks=1 --models=mnm_p --num_seeds=1 --max_minutes=3
    python -m experiments.babi --ask=runs/qa1
"""

import collections
import itertools
import json
import os
import pathlib
from typing import Any

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from experiments import ask, command_line, launcher, plot, products
from experiments.babi_errors import count_errors
from mnm_jax import training
from mnm_jax._files import write_whole
from mnm_jax.analysis.errors import TEST
from mnm_jax.tasks import babi
from mnm_jax.tasks.babi import Babi, stories

_TASKS = flags.DEFINE_list("tasks", None, "Tasks of 1 to 20 to train together, or all.")
_DATA = flags.DEFINE_enum("data", None, babi.CONFIGS, "1,000 training questions of each task, or 10,000.")
_LAYOUT = flags.DEFINE_enum(
    "layout",
    None,
    babi.LAYOUTS,
    "An episode is a whole story, word by word, a question with its story, or a whole story, a sentence at each step.",
)
_ASK = flags.DEFINE_string("ask", None, "A trained model, to ask it questions instead of training one.")
_ARCHIVE = flags.DEFINE_string("babi_archive", None, "tasks_1-20_v1-2.tar.gz, or what it holds; else BABI_ARCHIVE.")

_CONFIGS = pathlib.Path(__file__).parent / "configs" / "babi.py"
_DATA_SUMMARY, _EPISODE = "data.json", "episode.npz"


def prepare(config: ConfigDict) -> None:
    """Puts `--tasks`, `--data`, `--layout` and `--babi_archive` into the configuration.

    Raises:
      ValueError: if there is no such task or archive.
    """
    if _TASKS.value is not None:
        config.task.tasks = _parse_tasks(_TASKS.value)
    if _DATA.value is not None:
        config.task.data = _DATA.value
    if _LAYOUT.value is not None:
        config.task.layout = _LAYOUT.value
    if _ARCHIVE.value is not None:
        os.environ["BABI_ARCHIVE"] = _ARCHIVE.value  # Where the task looks for it.
    try:
        archive = stories.named_archive(None)
        if archive is not None:
            config.task.archive_sha256 = stories.sha256(archive)
    except OSError as error:
        message = str(error)
        if _ARCHIVE.value is not None:
            message = message.replace("BABI_ARCHIVE=", "--babi_archive=", 1)
        raise ValueError(message) from error


def _parse_tasks(texts: list[str]) -> tuple[int, ...]:
    if texts == ["all"]:
        return tuple(babi.TASK_NAMES)
    numbers = {str(number): number for number in babi.TASK_NAMES}
    if not texts or not numbers.keys() >= set(texts):
        raise ValueError(f"--tasks={','.join(texts)}: wants numbers of 1 to 20 with commas between, or all")
    return tuple(numbers[text] for text in texts)


def introduce(task: Babi, settings: training.TrainingSettings) -> None:
    """Loads the data, and prints what is in it, and an episode."""
    try:
        data = task.loaded
    except (OSError, ValueError) as error:
        raise command_line.UsageError(error) from error
    if jax.process_index() > 0:
        return
    print(f"bAbI {task.data}, {_describe_tasks(task)}, layout {task.layout}")
    for name in ("train", "validation", "test"):
        split = getattr(data, name)
        print(f"  {name}: {split.num_episodes:,} episodes, {split.num_questions:,} questions")
    num_symbols, num_answers = len(data.vocabulary.symbols), len(data.vocabulary.answers)
    print(f"  {num_symbols} symbols, {num_answers} answers")
    lengths = ", ".join(str(bucket.num_steps) for bucket in data.train.buckets)
    print(f"  episodes of {lengths} steps; of what training reads, {data.train.drawn_padding_share:.1%} is padding")
    if task.archive_sha256 != babi.OFFICIAL_SHA256:
        print(f"  not the official archive: SHA-256 {task.archive_sha256}")
    print("An episode:")
    print(task.describe(_first_held_out(task, settings)), flush=True)


def _describe_tasks(task: Babi) -> str:
    return "all tasks" if len(task.tasks) == len(babi.TASK_NAMES) else f"tasks {', '.join(map(str, task.tasks))}"


def conclude(configuration: training.Configuration, report: training.Report, directory: pathlib.Path) -> None:
    """Saves what the data was, how many questions of the test files each seed gets wrong, and an episode.

    Prints how fast training was.
    """
    task, best, variables = configuration.task, report.state.best, report.state.best_variables
    speed = tokens_per_second(configuration, directory)
    if speed is not None:
        print(f"{configuration.model}: {speed:,.0f} words and marks per second, all seeds together", flush=True)
    cell, is_seen, seeds = configuration.cell(), task.is_seen_in_test, []
    for i, seed in enumerate(configuration.seeds):
        of_seed = jax.tree.map(lambda leaf, i=i: leaf[i], variables)
        counts = count_errors(cell, of_seed, task.loaded.test, is_seen)
        seeds.append(
            {
                "seed": seed,
                "best_update": int(best.update[i]),
                "validation_accuracy": float(best.value[i]),
                "tasks": [{"task": number, **count._asdict()} for number, count in counts.items()],
            }
        )
    example = _first_held_out(task, configuration.training)
    products.save_episode(task, configuration.cell(), report.state.variables, example, directory / _EPISODE)
    _write(directory / _DATA_SUMMARY, task.loaded.summary())
    _write(directory / TEST, {"update": report.update, "seeds": seeds})


def _first_held_out(task: Babi, settings: training.TrainingSettings) -> babi.Example:
    """A validation episode of the shortest shape."""
    example: babi.Example = jax.tree.map(lambda leaf: leaf[0], training.held_out(task, settings)[0])
    return example


def _write(path: pathlib.Path, contents: dict[str, Any]) -> None:
    write_whole(path, json.dumps(contents, indent=2) + "\n")


def tokens_per_second(configuration: training.Configuration, directory: pathlib.Path) -> float | None:
    """How many steps that are no padding are trained on in a second, evaluations and checkpoints included.

    Returns:
      The median over the intervals between evaluations, for the first ones compile; `None` if there was none yet.
    """
    timing = [json.loads(line) for line in (directory / training.TIMING).read_text().splitlines()]
    tokens: dict[int, float] = collections.defaultdict(float)
    for line in map(json.loads, (directory / training.METRICS).read_text().splitlines()):
        tokens[line["update"]] += configuration.training.batch_size * (line.get("train_num_tokens") or 0.0)
    speeds = [
        tokens[after["update"]] * (after["update"] - before["update"]) / (after["seconds"] - before["seconds"])
        for before, after in itertools.pairwise(timing)
        if after["seconds"] > before["seconds"]
    ]
    return float(np.median(speeds)) if speeds else None


_EXPERIMENT = launcher.Experiment(
    name="babi",
    default_config=f"{_CONFIGS}:single",
    introduce=introduce,
    conclude=conclude,
    products=(_DATA_SUMMARY, TEST),
    report=plot.report,
    prepare=prepare,
)


def _ask() -> bool:
    """Asks the model that `--ask` names, if it names one."""
    if _ASK.value is not None:
        ask.answer(_ASK.value)
        return True
    for flag in (ask.STORY, ask.SEED):
        if flag.value is not None:
            raise command_line.UsageError(f"--{flag.name} goes with --ask=RUN")
    return False


def run() -> None:
    """Runs the program."""
    launcher.run(_EXPERIMENT, instead=_ask)


if __name__ == "__main__":
    run()
