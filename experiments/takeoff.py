"""The table of take-offs over several configurations: what makes learning start?

    python -m experiments.takeoff DIR [--output=DIR]

reads every `CONFIGURATION/MODEL` that `make takeoff` left in the first DIR, and writes `takeoff.md` there, or into the
DIR of `--output`.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags

from experiments import command_line
from mnm_jax import _paths
from mnm_jax.analysis import style, tables, takeoff
from mnm_jax.analysis.output import Output
from mnm_jax.analysis.runs import LoadError, Run, load_runs

THRESHOLDS = (0.5, 0.97)


def table(directory: Path) -> str:
    """Makes the table, in Markdown: a row for each configuration and model.

    Args:
      directory: holds a directory for each configuration.

    Raises:
      LoadError: if it holds no runs.
    """
    header = [
        "configuration",
        "model",
        *(f"word accuracy {threshold:g}: median (range)" for threshold in THRESHOLDS),
        f"did not reach {', '.join(f'{threshold:g}' for threshold in THRESHOLDS)}",
        "final word accuracy of each seed",
    ]
    # The plain name of a family comes before the names that it begins.
    workdirs = sorted(path for path in directory.iterdir() if path.is_dir())
    rows = [[workdir.name, *_cells(run)] for workdir in workdirs for run in load_runs(workdir)]
    if not rows:
        raise LoadError(f"{directory}: no runs; wanted CONFIGURATION/MODEL/metrics.jsonl")
    return tables.to_markdown(header, rows, num_names=2)


def _cells(run: Run) -> list[str]:
    described = [takeoff.describe(takeoff.summarize(run, threshold)) for threshold in THRESHOLDS]
    return [
        style.styles([run.model])[run.model].label,
        *(f"{median} ({span})" for median, span, _ in described),
        ", ".join(never for _, _, never in described),
        " ".join(f"{accuracy:.2f}" for accuracy in run.metrics["eval_word_accuracy"][:, -1]),
    ]


def main(argv: Sequence[str], given_output: str | None) -> None:
    """Writes and prints the table of the directory that the command line names."""
    if len(argv) != 2:
        raise command_line.UsageError("usage: python -m experiments.takeoff DIR [--output=DIR]")
    directory = _paths.expand(argv[1])
    if not directory.is_dir():
        raise command_line.UsageError(f"{directory} is not a directory")
    output = command_line.output_directory(given_output, directory)
    try:
        text = table(directory)
    except LoadError as error:
        raise command_line.UsageError(error) from error
    with command_line.writing_to(output, is_named=given_output is not None):
        Output(output).text("takeoff.md", text)
    print(text, end="")


def run() -> None:
    """Runs the program."""
    # Not at the top: other programs have flags of this name.
    output = flags.DEFINE_string("output", None, "Directory for the table; the one that is read if not given.")
    command_line.run(lambda argv: main(argv, output.value), document=__doc__, takes_arguments=True)


if __name__ == "__main__":
    run()
