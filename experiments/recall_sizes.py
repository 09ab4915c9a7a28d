"""Multi-query associative recall with memories of several sizes, in one figure and one table.

    python -m experiments.recall_sizes WORKDIR [WORKDIR...] [--output=DIR]

reads the runs that `experiments.recall` left in each WORKDIR, all on the same task, and writes `recall.png`,
`recall.md` and `recall.csv` into DIR, by default the current directory.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from experiments import command_line, plot
from mnm_jax import _paths
from mnm_jax.analysis.runs import LoadError, load_runs


def compare(workdirs: Sequence[str | Path], output: str | Path) -> list[Path]:
    """Writes the figure and the tables.

    Args:
      workdirs: directories that `experiments.recall` wrote.
      output: where to write; made if there is none.

    Returns:
      The files written.

    Raises:
      LoadError: if a directory holds no runs, or runs of another task.
    """
    runs = [run for workdir in workdirs for run in load_runs(workdir)]
    for run in runs:
        if run.experiment != "mqar" or run.task != runs[0].task:
            raise LoadError(f"{run.directory}: not the task of {runs[0].directory}: {run.task}, {runs[0].task}")
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    return plot.compare_recall(runs, output)


def main(argv: Sequence[str], given_output: str | None) -> None:
    """Makes figure and tables of the directories on the command line, and prints where they are."""
    if len(argv) < 2:
        raise command_line.UsageError("usage: python -m experiments.recall_sizes WORKDIR [WORKDIR...] [--output=DIR]")
    try:
        paths = compare(list(map(_paths.expand, argv[1:])), command_line.output_directory(given_output, Path()))
    except LoadError as error:
        raise command_line.UsageError(error) from error
    print("\n".join(map(str, paths)))


def run() -> None:
    """Runs the program."""
    # Not at the top: other programs have a flag of this name.
    output = flags.DEFINE_string("output", None, "Directory for the table and the figure; this one if not given.")
    command_line.run(lambda argv: main(argv, output.value), document=__doc__, takes_arguments=True)


if __name__ == "__main__":
    run()
