"""How much worse a bAbI model answers about people whom its training never put into such stories.

    python -m experiments.systematic RUN [--output=DIR]

RUN is the directory of one model, or the name of one that comes with the package. The test stories are asked twice: as
they are, and with the names of all people exchanged for those of people of other tasks
(`mnm_jax.tasks.babi.systematic`). Writes `systematic.md` into DIR, by default the current directory. BABI_ARCHIVE names
the archive, which has to be the one that the model was trained on. The parameters are those that were best on the
validation stories.
"""

import pathlib
from collections.abc import Sequence

import numpy as np
from absl import flags

from experiments import command_line
from experiments.babi_errors import count_errors
from mnm_jax import training
from mnm_jax.analysis import tables
from mnm_jax.analysis.output import Output
from mnm_jax.tasks import babi
from mnm_jax.tasks.babi import Babi, Split, stories
from mnm_jax.tasks.babi.buckets import make_splits
from mnm_jax.tasks.babi.encoding import encode
from mnm_jax.tasks.babi.systematic import rename_people

_USAGE = "usage: python -m experiments.systematic RUN [--output=DIR]"


def make_test_splits(task: Babi) -> tuple[Split, Split]:
    """The test stories of the tasks that know people, as they are and with names exchanged.

    Raises:
      OSError, ValueError: if the archive cannot be had, or is another one, or if no task has people to exchange.
    """
    archive = stories.named_archive(None)
    if archive is None or stories.sha256(archive) != task.archive_sha256:
        raise ValueError(f"BABI_ARCHIVE has to name the archive of SHA-256 {task.archive_sha256}, which was trained on")
    read = stories.read_archive(archive, task.data, task.tasks)
    exchanged = rename_people(read["test"], read["train"])
    if not exchanged:
        raise ValueError(f"tasks {', '.join(map(str, task.tasks))}: none has people whose names could be exchanged")
    kept = {story.task for story in exchanged}
    splits = {"train": [story for story in read["test"] if story.task in kept], "exchanged": exchanged}
    made = make_splits(
        {
            name: encode(part, task.format.vocabulary, task.layout, task.format.sentence_length)
            for name, part in splits.items()
        }
    )
    return made["train"], made["exchanged"]


def compare(loaded: training.Loaded) -> str:
    """Counts errors on both, and makes a table of them."""
    counts = [count_errors(loaded.cell, loaded.variables, split) for split in make_test_splits(loaded.task)]
    percent = np.array([[100 * task.errors / task.questions for task in count.values()] for count in counts])
    names = [f"{task} {babi.TASK_NAMES[task].replace('-', ' ')}" for task in counts[0]]
    rows = [[name, f"{a:.1f}", f"{b:.1f}"] for name, a, b in zip(names, *percent, strict=True)]
    rows.append(["mean over these tasks", *(f"{mean:.2f}" for mean in percent.mean(axis=1))])
    header = ["test error in percent", "as they are", "names exchanged"]
    note = (
        "Every person of a test story has the name of another person of the same sex, who is in the training stories "
        "of other tasks but not of this one. Tasks without people are left out, and those whose answers are people."
    )
    if loaded.task.archive_sha256 != babi.OFFICIAL_SHA256:
        note += " The archive is not the official one."
    return f"{tables.to_markdown(header, rows)}\n{note}\n"


def main(argv: Sequence[str], given_output: str | None) -> None:
    """Makes the table of the run named on the command line, and prints where it is, and the table."""
    if len(argv) != 2:
        raise command_line.UsageError(_USAGE)
    output = command_line.output_directory(given_output, pathlib.Path())
    with command_line.writing_to(output, is_named=given_output is not None):  # Before what takes minutes.
        into = Output(output)
    try:
        loaded = training.load(argv[1], best=True)
        if not isinstance(loaded.task, Babi):
            raise ValueError(f"{argv[1]} was not trained on bAbI")
        table = compare(loaded)
    except (OSError, ValueError) as error:
        raise command_line.UsageError(error) from error
    with command_line.writing_to(output, is_named=given_output is not None):
        into.text("systematic.md", table)
    print(f"{into.paths[0]}\n\n{table}", end="")


def run() -> None:
    """Runs the program."""
    # Not at the top: other programs have flags of this name.
    output = flags.DEFINE_string("output", None, "Directory for the table; this one if not given.")
    command_line.run(lambda argv: main(argv, output.value), document=__doc__, takes_arguments=True)


if __name__ == "__main__":
    run()
