"""Multi-query associative recall with memories of several sizes, in one figure and one table.

    python -m experiments.recall_sizes WORKDIR [WORKDIR...] [--output=DIR] [--formats=png,pdf]

reads the runs that `experiments.recall` left in each WORKDIR, all on the same task, and writes `recall.png`,
`recall.md` and `recall.csv` into DIR, by default the current directory.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from experiments import command_line, plot
from mnm_jax import _paths
from mnm_jax.analysis.output import Output
from mnm_jax.analysis.runs import LoadError, load_runs


def compare(workdirs: Sequence[str | Path], output: str | Path, formats: Sequence[str] = ("png",)) -> list[Path]:
    """Writes the figure and the tables.

    Args:
      workdirs: directories that `experiments.recall` wrote.
      output: where to write; made if there is none.
      formats: of the figure, some of `png`, `pdf`, `svg`.

    Returns:
      The files written.

    Raises:
      LoadError: if a directory holds no runs, or runs of another task.
      OSError: if `output` cannot be written to.
    """
    runs = [run for workdir in workdirs for run in load_runs(workdir)]
    for run in runs:
        if run.experiment != "mqar" or run.task != runs[0].task:
            raise LoadError(f"{run.directory}: not the task of {runs[0].directory}: {run.task}, {runs[0].task}")
    into = Output(output, formats)
    plot.compare_recall(runs, into)
    return into.paths


def main(argv: Sequence[str], given_output: str | None, formats: Sequence[str] = ("png",)) -> None:
    """Makes figure and tables of the directories on the command line, and prints where they are."""
    if len(argv) < 2:
        raise command_line.UsageError("usage: python -m experiments.recall_sizes WORKDIR [WORKDIR...] [--output=DIR]")
    output = command_line.output_directory(given_output, Path())
    try:
        with command_line.writing_to(output, is_named=given_output is not None):
            paths = compare(list(map(_paths.expand, argv[1:])), output, formats)
    except LoadError as error:
        raise command_line.UsageError(error) from error
    print("\n".join(map(str, paths)))


def run() -> None:
    """Runs the program."""
    # Not at the top: other programs have flags of these names.
    output = flags.DEFINE_string("output", None, "Directory for the table and the figure; this one if not given.")
    formats = command_line.formats_flag()
    command_line.run(lambda argv: main(argv, output.value, formats.value), document=__doc__, takes_arguments=True)


if __name__ == "__main__":
    run()
