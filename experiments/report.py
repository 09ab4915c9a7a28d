"""One table and one figure of any number of runs: of different models, seeds, tasks and experiments.

    python -m experiments.report WORKDIR... [--output=DIR] [--formats=png,pdf]

reads the files of every run in each WORKDIR, finished or not (a WORKDIR may also be the directory of a single run), and
writes into DIR, by default the current directory:

- `report.md`: the table, a row for each run;
- `report.csv`: the same for programs, unrounded;
- `report_seeds.csv`: a row for each seed of each run;
- `report.png`: learning curves of the headline metric, a panel for each experiment.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from experiments import command_line
from mnm_jax import _paths
from mnm_jax.analysis import comparison, curves, tables
from mnm_jax.analysis.output import Output
from mnm_jax.analysis.runs import LoadError, load_runs

_USAGE = "usage: python -m experiments.report WORKDIR [WORKDIR...] [--output=DIR] [--formats=png,pdf,svg]"


def make_report(workdirs: Sequence[str | Path], output: str | Path, formats: Sequence[str] = ("png",)) -> list[Path]:
    """Writes the table and the figure.

    Args:
      workdirs: directories that hold runs, or are runs.
      output: where to write; made if there is none.
      formats: of the figure, some of `png`, `pdf`, `svg`.

    Returns:
      The files written, the table for people first.

    Raises:
      LoadError: if one of `workdirs` does not exist, holds no run, or holds what training does not write.
      OSError: if `output` cannot be written to.
    """
    runs = comparison.name_runs([run for workdir in workdirs for run in load_runs(workdir)])
    rows = comparison.summarize(runs)
    seeds = [row for name, run in runs.items() for row in comparison.summarize_seeds(name, run)]
    into = Output(output, formats)
    into.text("report.md", comparison.to_markdown(rows))
    into.text("report.csv", tables.to_csv(comparison.Summary._fields, rows))
    into.text("report_seeds.csv", tables.to_csv(comparison.SeedSummary._fields, seeds))
    into.figure(
        "report", curves.comparison(runs, f"Learning curves of {len(runs)} {'run' if len(runs) == 1 else 'runs'}")
    )
    return into.paths


def main(argv: Sequence[str], given_output: str | None, formats: Sequence[str] = ("png",)) -> None:
    """Makes the report of the directories on the command line, and prints where it is and the table."""
    if len(argv) < 2:
        raise command_line.UsageError(_USAGE)
    output = command_line.output_directory(given_output, Path())
    try:
        with command_line.writing_to(output, is_named=given_output is not None):
            paths = make_report(list(map(_paths.expand, argv[1:])), output, formats)
    except LoadError as error:
        raise command_line.UsageError(error) from error
    for path in paths:
        print(path)
    print(f"\n{paths[0].read_text()}", end="")


def run() -> None:
    """Runs the program."""
    # Not at the top: other programs have flags of these names.
    output = flags.DEFINE_string("output", None, "Directory for the table and the figure; this one if not given.")
    formats = command_line.formats_flag()
    command_line.run(lambda argv: main(argv, output.value, formats.value), document=__doc__, takes_arguments=True)


if __name__ == "__main__":
    run()
