"""Figures and tables of finished or running trainings, from their files alone.

    python -m experiments.plot WORKDIR [WORKDIR...]
    python -m experiments.plot WORKDIR --output=DIR

writes into each working directory, or into DIR, `learning_curves.png` and, of the dictionary task, `takeoff.md`,
`takeoff.csv`, `generalization.png`; of the algorithmic tasks `costs.md`, `costs.csv` and `generalization.png`; of
multi-query associative recall `recall.md`, `recall.csv` and `recall.png`; of the bAbI tasks
`errors.md`, `errors.csv` and `errors.png`; of the maze `rewards.md`, `rewards.csv`, `visits.png` and for each agent
`episode_<model>.gif`; and for each model with a written memory, but in the maze, `similarity_<model>.png`. Of a task of
your own it writes `learning_curves.png` and `results.md`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from experiments import command_line
from mnm_jax import _paths
from mnm_jax.analysis import comparison, costs, curves, errors, lifetimes, recall, similarity, style, takeoff
from mnm_jax.analysis.maze import save_gif
from mnm_jax.analysis.runs import LoadError, Run, load_runs
from mnm_jax.tasks import MazeTask, MultiQueryRecall, algorithmic
from mnm_jax.tasks.babi import TASK_NAMES
from mnm_jax.tasks.dictionary import Dictionary
from mnm_jax.tasks.maze import reference_levels

_USAGE = "usage: python -m experiments.plot WORKDIR [WORKDIR...] [--output=DIR]"


def make_figures(workdir: str | Path, output: str | Path | None = None) -> list[Path]:
    """Writes every figure and table that the files of a working directory allow, and prints what they do not.

    Args:
      workdir: the directory that a training command wrote.
      output: where to write; made if there is none. `None` for `workdir`.

    Returns:
      The files written.

    Raises:
      LoadError: if the directory does not exist, holds no run, or holds runs of different tasks.
      OSError: if `output` cannot be written to.
    """
    workdir = Path(workdir)
    runs = load_runs(workdir)
    task = runs[0].task
    for run in runs:
        if run.task != task:
            raise LoadError(f"{workdir}: {runs[0].model} and {run.model} have different tasks: {task} and {run.task}")
    output = workdir if output is None else Path(output)
    output.mkdir(parents=True, exist_ok=True)
    return _MAKERS.get(runs[0].experiment, _make_figures_of_any_task)(output, runs)


def _make_dictionary_figures(workdir: Path, runs: Sequence[Run]) -> list[Path]:
    task = runs[0].task
    title = _describe(task)
    metrics = ("word_accuracy", "character_accuracy") if task["word_length"] > 1 else ("word_accuracy",)
    dictionary = Dictionary(**task)
    paths = [workdir / "learning_curves.png", workdir / "takeoff.md", workdir / "takeoff.csv"]
    curves.learning_curves(runs, f"Learning curves\n{title}", dictionary.levels(), metrics).savefig(paths[0])
    rows = [takeoff.summarize(run) for run in runs]
    paths[1].write_text(takeoff.to_markdown(rows))
    paths[2].write_text(takeoff.to_csv(rows))
    return paths + _plot_generalization(workdir, runs, title, dictionary, metrics) + _plot_similarities(workdir, runs)


def _make_babi_figures(workdir: Path, runs: Sequence[Run]) -> list[Path]:
    task = runs[0].task
    tasks = f"tasks {', '.join(map(str, task['tasks']))}" if len(task["tasks"]) < len(TASK_NAMES) else "all tasks"
    title = f"bAbI {task['data']}, {tasks}, layout {task['layout']}"
    path = workdir / "learning_curves.png"
    curves.learning_curves(runs, f"Learning curves, on validation stories\n{title}", {}, ("answer_accuracy",)).savefig(
        path
    )
    evaluated = {run.model: result for run in runs if (result := errors.load(run)) is not None}
    if skipped := [run for run in runs if run.model not in evaluated]:
        print(f"{workdir}/errors.*: without {_names(skipped)}, for there is no {errors.TEST}")
    similarities = _plot_similarities(workdir, runs, show_writes=True)
    if not evaluated:
        return [path, *similarities]
    models = list(evaluated.values())
    paths = [workdir / name for name in ("errors.md", "errors.csv", "errors.png")]
    paths[0].write_text(errors.to_markdown(models))
    paths[1].write_text(errors.to_csv(models))
    errors.heat_map(models, title).savefig(paths[2])
    return [path, *paths, *similarities]


def _make_maze_figures(workdir: Path, runs: Sequence[Run]) -> list[Path]:
    task = MazeTask(**runs[0].task)
    title = f"maze of size {task.size}, episodes of {task.episode_length} steps, reward {task.reward:g}"
    paths = [workdir / "learning_curves.png"]
    levels = {name: level.mean for name, level in reference_levels(task.environment, task.params).items()}
    curves.reward_curves(runs, f"Learning curves\n{title}", levels).savefig(paths[0])
    tested = {run.model: agent for run in runs if (agent := lifetimes.load(run)) is not None}
    if skipped := [run for run in runs if run.model not in tested]:
        print(f"{workdir}/rewards.*, visits.png: without {_names(skipped)}, for there is no {lifetimes.LIFETIMES}")
    if not tested:
        return paths
    rows = lifetimes.summarize(list(tested.values()))
    paths += [workdir / name for name in ("rewards.md", "rewards.csv", "visits.png")]
    paths[1].write_text(lifetimes.to_markdown(rows))
    paths[2].write_text(lifetimes.to_csv(rows))
    shown = [run for run in runs if run.model in tested]
    visits = {model: lifetimes.visits_of(agent) for model, agent in tested.items()}
    curves.visit_curves(shown, visits, f"Search and recall: steps from visit to visit\n{title}").savefig(paths[3])
    for run in shown:
        agent = tested[run.model]
        paths.append(workdir / f"episode_{run.directory.name}.gif")
        save_gif(paths[-1], task.environment, agent.positions, agent.reward_position, agent.rewards[0, 0])
    return paths


def _make_algorithmic_figures(workdir: Path, runs: Sequence[Run]) -> list[Path]:
    task = algorithmic.TASKS[runs[0].experiment](**runs[0].task)
    name = runs[0].experiment.replace("_", " ")
    sizes = ", ".join(f"{key.removeprefix('num_').replace('_', ' ')} {value}" for key, value in runs[0].task.items())
    title, metrics = f"{name} ({sizes})", ("sequence_accuracy", "bits")
    paths = [workdir / file for file in ("learning_curves.png", "costs.md", "costs.csv")]
    curves.learning_curves(runs, f"Learning curves\n{title}", {}, metrics).savefig(paths[0])
    rows = [costs.summarize(run) for run in runs]
    paths[1].write_text(costs.to_markdown(rows))
    paths[2].write_text(costs.to_csv(rows))
    evaluated = _with_generalization(workdir, runs)
    if not evaluated:
        return paths
    paths.append(workdir / "generalization.png")
    title = f"Longer episodes than in training\ntrained on {title}"
    curves.generalization_curves(evaluated, title, {}, task.max_length, metrics, task.unit).savefig(paths[-1])
    return paths


def _make_recall_figures(workdir: Path, runs: Sequence[Run]) -> list[Path]:
    task = MultiQueryRecall(**runs[0].task)
    path = workdir / "learning_curves.png"
    title = f"Learning curves\n{_describe_recall(task)}"
    curves.learning_curves(runs, title, task.levels(), ("query_accuracy",)).savefig(path)
    _with_generalization(workdir, runs)
    return [path, *compare_recall(runs, workdir)]


def compare_recall(runs: Sequence[Run], directory: Path) -> list[Path]:
    """Writes the figure and the table of runs on multi-query associative recall, with any sizes of memory.

    Args:
      runs: all on the same task.
      directory: where to.

    Returns:
      The files written.
    """
    task = MultiQueryRecall(**runs[0].task)
    rows = [recall.summarize(run) for run in runs]
    numbers = sorted({task.num_pairs, *(int(size) for run in runs for size in run.sizes)})
    levels = {
        n: dataclasses.replace(task, num_pairs=n).levels()["values but not keys"]["query_accuracy"] for n in numbers
    }
    paths = [directory / name for name in ("recall.png", "recall.md", "recall.csv")]
    floats, title = [row.state_floats for row in rows], _describe_recall(task)
    curves.recall_curves(runs, floats, title, levels, task.num_pairs).savefig(paths[0])
    paths[1].write_text(recall.to_markdown(rows))
    paths[2].write_text(recall.to_csv(rows))
    return paths


def _describe_recall(task: MultiQueryRecall) -> str:
    fillers = "random fillers" if task.random_fillers else "one filler"
    return (
        f"multi-query associative recall, {task.num_pairs} pairs in {task.num_steps} steps, a vocabulary of "
        f"{task.vocabulary_size:,}, {fillers}"
    )


def _make_figures_of_any_task(workdir: Path, runs: Sequence[Run]) -> list[Path]:
    paths, named = [workdir / "learning_curves.png", workdir / "results.md"], {run.model: run for run in runs}
    curves.comparison(named, "Learning curves").savefig(paths[0])
    paths[1].write_text(comparison.to_markdown(comparison.summarize(named)))
    return paths


_MAKERS = {
    "dictionary": _make_dictionary_figures,
    "babi": _make_babi_figures,
    "maze": _make_maze_figures,
    "mqar": _make_recall_figures,
    **dict.fromkeys(algorithmic.TASKS, _make_algorithmic_figures),
}


def _with_generalization(workdir: Path, runs: Sequence[Run]) -> list[Run]:
    """The runs that were evaluated at several sizes; prints which were not."""
    if skipped := [run for run in runs if not len(run.sizes)]:
        path = workdir / "generalization.png"
        print(f"{path}: without {_names(skipped)}, for there is no (whole) generalization.jsonl")
    return [run for run in runs if len(run.sizes)]


def _plot_generalization(
    workdir: Path, runs: Sequence[Run], title: str, dictionary: Dictionary, metrics: Sequence[str]
) -> list[Path]:
    evaluated, path = _with_generalization(workdir, runs), workdir / "generalization.png"
    if not evaluated:
        return []
    levels: dict[str, dict[int, Mapping[str, float]]] = {}
    for num_pairs in sorted({int(number) for run in evaluated for number in run.sizes}):
        for name, level in dataclasses.replace(dictionary, num_pairs=num_pairs, num_queries=None).levels().items():
            levels.setdefault(name, {})[num_pairs] = level
    title = f"Accuracy at other numbers of pairs than in training\ntrained on {title}"
    curves.generalization_curves(evaluated, title, levels, dictionary.num_pairs, metrics).savefig(path)
    return [path]


def _plot_similarities(workdir: Path, runs: Sequence[Run], *, show_writes: bool = False) -> list[Path]:
    labels = style.styles([run.model for run in runs])
    paths = []
    for run in runs:
        if run.episode is not None:
            title = f"{labels[run.model].label}: one held-out episode, seed {run.seeds[0]}"
            paths.append(workdir / f"similarity_{run.directory.name}.png")
            similarity.figure(run.episode, title, show_writes=show_writes).savefig(paths[-1])
    skipped = [run for run in runs if run.episode is None]
    if skipped:
        print(f"{workdir}/similarity_*.png: without {_names(skipped)}, for there is no episode.npz")
    return paths


def _names(runs: Sequence[Run]) -> str:
    return ", ".join(run.model for run in runs)


def _describe(task: Mapping[str, Any]) -> str:
    length = "single-character" if task["word_length"] == 1 else f"{task['word_length']}-character"
    queries = "every word queried once" if task["num_queries"] is None else f"{task['num_queries']} queries"
    alphabets = f"alphabets of {task['source_alphabet_size']} and {task['target_alphabet_size']}"
    return f"{task['num_pairs']} pairs of {length} words, {alphabets}, {queries}"


def report(workdir: str | Path, output: str | Path | None = None) -> None:
    """Makes the figures and tables of a working directory, and prints where they are, and the tables for people.

    Arguments and errors are those of `make_figures`.
    """
    paths = make_figures(workdir, output)
    for path in paths:
        print(path)
    for path in paths:
        if path.suffix == ".md":
            print(f"\n{path.read_text()}", end="")


def main(argv: Sequence[str], output: str | None = None) -> None:
    """Makes the figures of each directory named on the command line, in `output` or else in that directory."""
    if len(argv) < 2 or (output is not None and len(argv) > 2):
        raise command_line.UsageError(_USAGE if len(argv) < 2 else "--output=DIR takes one WORKDIR")
    for workdir in map(_paths.expand, argv[1:]):
        target = command_line.output_directory(output, workdir)
        try:
            report(workdir, target)
        except LoadError as error:
            raise command_line.UsageError(error) from error
        except OSError as error:
            raise command_line.UsageError(f"{target} cannot be written to: {error}") from error


def run() -> None:
    """Runs the program."""
    # Not at the top: the programs that train make figures too, and have no such flag.
    output = flags.DEFINE_string("output", None, "Directory for figures and tables; the run's own if not given.")
    command_line.run(lambda argv: main(argv, output.value), document=__doc__, takes_arguments=True)


if __name__ == "__main__":
    run()
