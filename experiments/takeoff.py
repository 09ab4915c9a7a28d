"""The table of take-offs over several configurations: what makes learning start?

    python -m experiments.takeoff DIR

reads every `DIR/CONFIGURATION/MODEL` that `make takeoff` left and writes `DIR/takeoff.md`.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from experiments import command_line
from mnm_jax.analysis import style
from mnm_jax.analysis.runs import LoadError, load_runs
from mnm_jax.analysis.takeoff import takeoff_updates

THRESHOLDS = (0.5, 0.97)


def table(directory: Path) -> str:
    """Makes the table, in Markdown: a row for each configuration and model.

    Args:
      directory: holds a directory for each configuration.

    Raises:
      LoadError: if it holds no runs.
    """
    lines = [
        "| configuration | model | " + " | ".join(f"word accuracy {t:g}: median (range)" for t in THRESHOLDS) + " | "
        "did not reach " + ", ".join(f"{t:g}" for t in THRESHOLDS) + " | final word accuracy of each seed |",
        "| --- | --- |" + " ---: |" * (len(THRESHOLDS) + 1) + " --- |",
    ]
    # The plain name of a family comes before the names that it begins.
    for workdir in sorted(path for path in directory.iterdir() if path.is_dir()):
        for run in load_runs(workdir):
            accuracies = run.metrics["eval_word_accuracy"]
            updates = [takeoff_updates(run.updates, accuracies, threshold) for threshold in THRESHOLDS]
            never = ", ".join(f"{int(np.isinf(values).sum())} of {len(values)}" for values in updates)
            cells = [workdir.name, style.styles([run.model])[run.model].label, *map(_median_and_range, updates), never]
            final = " ".join(f"{accuracy:.2f}" for accuracy in accuracies[:, -1])
            lines.append("| " + " | ".join([*cells, final]) + " |")
    if len(lines) == 2:
        raise LoadError(f"{directory}: no runs; wanted CONFIGURATION/MODEL/metrics.jsonl")
    return "\n".join(lines) + "\n"


def _median_and_range(updates: np.ndarray) -> str:
    reached = updates[np.isfinite(updates)]
    if not reached.size:
        return "never"
    median = np.median(updates)
    span = f"{reached.min():g} to {reached.max():g}"
    return f"{median:g} ({span})" if np.isfinite(median) else f"half or fewer ({span})"


def main(argv: Sequence[str]) -> None:
    """Writes and prints the table of the directory that the command line names."""
    if len(argv) != 2:
        raise command_line.UsageError("usage: python -m experiments.takeoff DIR")
    directory = Path(argv[1])
    if not directory.is_dir():
        raise command_line.UsageError(f"{directory} is not a directory")
    try:
        text = table(directory)
    except LoadError as error:
        raise command_line.UsageError(error) from error
    (directory / "takeoff.md").write_text(text)
    print(text, end="")


if __name__ == "__main__":
    command_line.run(main, takes_arguments=True)
