"""Figures and tables of finished or running trainings, from their files alone.

    python -m experiments.plot WORKDIR [WORKDIR...]
    python -m experiments.plot WORKDIR --output=DIR --formats=png,pdf

writes into each working directory, or into DIR, `learning_curves.png` and, of the dictionary task, `takeoff.md`,
`takeoff.csv`, `generalization.png`; of the algorithmic tasks `costs.md`, `costs.csv` and `generalization.png`; of
multi-query associative recall `recall.md`, `recall.csv`, `recall.png` and `generalization.png`; of the bAbI tasks
`errors.md`, `errors.csv` and, of several tasks together, `errors.png`; of the maze `rewards.md`, `rewards.csv`,
`visits.png`, `steadiness.png` and for each agent `episode_<model>.gif`; of bandits `regrets.md`, `regrets.csv` and
`steadiness.png`; and for each model with a written memory, but where it acts, `similarity_<model>.png`. Of a task of
your own it writes `learning_curves.png` and `results.md`.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags

from experiments import command_line
from mnm_jax import _paths
from mnm_jax.analysis import (
    comparison,
    costs,
    curves,
    errors,
    lifetimes,
    recall,
    regrets,
    similarity,
    steadiness,
    style,
    takeoff,
)
from mnm_jax.analysis.maze import save_gif
from mnm_jax.analysis.output import Output
from mnm_jax.analysis.runs import LoadError, Run, load_runs
from mnm_jax.tasks import BanditTask, MazeTask, MultiQueryRecall, algorithmic, bandits
from mnm_jax.tasks.babi import TASK_NAMES
from mnm_jax.tasks.dictionary import Dictionary
from mnm_jax.tasks.maze import reference_levels

_USAGE = "usage: python -m experiments.plot WORKDIR [WORKDIR...] [--output=DIR] [--formats=png,pdf,svg]"


def make_figures(
    workdir: str | Path, output: str | Path | None = None, formats: Sequence[str] = ("png",)
) -> list[Path]:
    """Writes every figure and table that the files of a working directory allow, and prints what they do not.

    Args:
      workdir: the directory that a training command wrote.
      output: where to write; made if there is none. `None` for `workdir`.
      formats: of the figures, some of `png`, `pdf`, `svg`.

    Returns:
      The files written.

    Raises:
      LoadError: if the directory does not exist, holds no run, or holds runs of different tasks.
      OSError: if `output` cannot be written to.
      ValueError: if a format is none of these.
    """
    workdir = Path(workdir)
    runs = load_runs(workdir)
    task = runs[0].task
    for run in runs:
        if run.task != task:
            raise LoadError(f"{workdir}: {runs[0].model} and {run.model} have different tasks: {task} and {run.task}")
    into = Output(workdir if output is None else output, formats)
    _MAKERS.get(runs[0].experiment, _make_figures_of_any_task)(into, runs)
    return into.paths


def _make_dictionary_figures(into: Output, runs: Sequence[Run]) -> None:
    task = runs[0].task
    title = _describe(task)
    metrics = ("word_accuracy", "character_accuracy") if task["word_length"] > 1 else ("word_accuracy",)
    dictionary = Dictionary(**task)
    into.figure(
        "learning_curves", curves.learning_curves(runs, f"Learning curves\n{title}", dictionary.levels(), metrics)
    )
    rows = [takeoff.summarize(run) for run in runs]
    into.text("takeoff.md", takeoff.to_markdown(rows))
    into.text("takeoff.csv", takeoff.to_csv(rows))
    _plot_generalization(
        into,
        runs,
        title,
        lambda num_pairs: dataclasses.replace(dictionary, num_pairs=num_pairs, num_queries=None),
        metrics,
    )
    _plot_similarities(into, runs)


def _make_babi_figures(into: Output, runs: Sequence[Run]) -> None:
    task = runs[0].task
    plural = "s" * (len(task["tasks"]) > 1)
    names = f"task{plural} {', '.join(map(str, task['tasks']))}"
    tasks = names if len(task["tasks"]) < len(TASK_NAMES) else "all tasks"
    title = f"bAbI {task['data']}, {tasks}, layout {task['layout']}"
    heading = f"Learning curves, on validation stories\n{title}"
    into.figure("learning_curves", curves.learning_curves(runs, heading, {}, ("answer_accuracy",)))
    evaluated = {run.directory: result for run in runs if (result := errors.load(run)) is not None}
    if skipped := [run for run in runs if run.directory not in evaluated]:
        print(f"{into.directory}/errors.*: without {_names(skipped)}, for there is no {errors.TEST}")
    if evaluated:
        models = list(evaluated.values())
        into.text("errors.md", errors.to_markdown(models))
        into.text("errors.csv", errors.to_csv(models))
        if len(models[0].tasks) > 1:  # Of a single task the table says it all.
            into.figure("errors", errors.heat_map(models, title))
    _plot_similarities(into, runs, show_writes=True)


def _make_maze_figures(into: Output, runs: Sequence[Run]) -> None:
    task = MazeTask(**runs[0].task)
    title = f"maze of size {task.size}, episodes of {task.episode_length} steps, reward {task.reward:g}"
    levels = reference_levels(task.environment, task.params)
    into.figure("learning_curves", curves.reward_curves(runs, f"Learning curves\n{title}", levels))
    _plot_steadiness(into, runs, title)
    tested = {run.directory: agent for run in runs if (agent := lifetimes.load(run)) is not None}
    if skipped := [run for run in runs if run.directory not in tested]:
        print(
            f"{into.directory}/rewards.*, visits.png: without {_names(skipped)}, for there is no {lifetimes.LIFETIMES}"
        )
    if not tested:
        return
    rows = lifetimes.summarize(list(tested.values()))
    into.text("rewards.md", lifetimes.to_markdown(rows))
    into.text("rewards.csv", lifetimes.to_csv(rows))
    shown = [run for run in runs if run.directory in tested]
    visits = [lifetimes.visits_of(tested[run.directory]) for run in shown]
    into.figure("visits", curves.visit_curves(shown, visits, f"Search and recall: steps from visit to visit\n{title}"))
    for run in shown:
        agent = tested[run.directory]
        into.paths.append(into.directory / f"episode_{run.directory.name}.gif")
        save_gif(into.paths[-1], task.environment, agent.positions, agent.reward_position, agent.rewards[0, 0])


def _make_bandit_figures(into: Output, runs: Sequence[Run]) -> None:
    task = BanditTask(**runs[0].task)
    title = f"bandits with {task.num_arms} arms, episodes of {task.episode_length} plays"
    levels = bandits.reference_levels(task.environment, task.params)
    into.figure("learning_curves", curves.reward_curves(runs, f"Learning curves\n{title}", levels))
    _plot_steadiness(into, runs, title)
    tested = {run.directory: agent for run in runs if (agent := regrets.load(run)) is not None}
    if skipped := [run for run in runs if run.directory not in tested]:
        print(f"{into.directory}/regrets.*: without {_names(skipped)}, for there is no {regrets.REGRETS}")
    if tested:
        rows = regrets.summarize(list(tested.values()))
        into.text("regrets.md", regrets.to_markdown(rows))
        into.text("regrets.csv", regrets.to_csv(rows))


def _plot_steadiness(into: Output, runs: Sequence[Run], title: str) -> None:
    """What written memories do in training, if it was logged."""
    logged = [run for run in runs if "eval_memory_norm" in run.metrics]
    if logged:
        looks = style.styles([run.model for run in logged])
        named = _by_name(logged, {model: look.label for model, look in looks.items()})
        heading = f"What the memory does while an agent learns\n{title}"
        into.figure("steadiness", steadiness.figure(named, heading))


def _make_algorithmic_figures(into: Output, runs: Sequence[Run]) -> None:
    task = algorithmic.TASKS[runs[0].experiment](**runs[0].task)
    name = runs[0].experiment.replace("_", " ")
    sizes = ", ".join(f"{key.removeprefix('num_').replace('_', ' ')} {value}" for key, value in runs[0].task.items())
    title, metrics = f"{name} ({sizes})", ("sequence_accuracy", "bits")
    into.figure("learning_curves", curves.learning_curves(runs, f"Learning curves\n{title}", {}, metrics))
    rows = [costs.summarize(run) for run in runs]
    into.text("costs.md", costs.to_markdown(rows))
    into.text("costs.csv", costs.to_csv(rows))
    if evaluated := _with_generalization(into, runs):
        title = f"Longer episodes than in training\ntrained on {title}"
        figure = curves.generalization_curves(evaluated, title, {}, task.max_length, metrics, task.unit)
        into.figure("generalization", figure)


def _make_recall_figures(into: Output, runs: Sequence[Run]) -> None:
    task = MultiQueryRecall(**runs[0].task)
    title, metrics = f"Learning curves\n{_describe_recall(task)}", ("query_accuracy",)
    into.figure("learning_curves", curves.learning_curves(runs, title, task.levels(), metrics))
    _plot_generalization(
        into, runs, _describe_recall(task), lambda num_pairs: dataclasses.replace(task, num_pairs=num_pairs), metrics
    )
    compare_recall(runs, into)


def compare_recall(runs: Sequence[Run], into: Output) -> None:
    """Writes figure and table of runs on multi-query associative recall, with any sizes of memory.

    Args:
      runs: all on the same task.
      into: where to.
    """
    task = MultiQueryRecall(**runs[0].task)
    rows = [recall.summarize(run) for run in runs]
    levels = {name: level["query_accuracy"] for name, level in task.levels().items()}
    title = f"Accuracy against the size of the state\n{_describe_recall(task)}"
    into.figure("recall", curves.recall_curves(runs, [row.state_floats for row in rows], title, levels))
    into.text("recall.md", recall.to_markdown(rows))
    into.text("recall.csv", recall.to_csv(rows))


def _describe_recall(task: MultiQueryRecall) -> str:
    fillers = "random fillers" if task.random_fillers else "one filler"
    return (
        f"multi-query associative recall, {task.num_pairs} pairs in {task.num_steps} steps, a vocabulary of "
        f"{task.vocabulary_size:,}, {fillers}"
    )


def _make_figures_of_any_task(into: Output, runs: Sequence[Run]) -> None:
    named = _by_name(runs, {run.model: run.model for run in runs})
    into.figure("learning_curves", curves.comparison(named, "Learning curves"))
    into.text("results.md", comparison.to_markdown(comparison.summarize(named)))


_MAKERS = {
    "dictionary": _make_dictionary_figures,
    "babi": _make_babi_figures,
    "maze": _make_maze_figures,
    "bandits": _make_bandit_figures,
    "mqar": _make_recall_figures,
    **dict.fromkeys(algorithmic.TASKS, _make_algorithmic_figures),
}


def _with_generalization(into: Output, runs: Sequence[Run]) -> list[Run]:
    """The runs that were evaluated at several sizes; prints which were not."""
    if skipped := [run for run in runs if not len(run.sizes)]:
        path = into.directory / "generalization.png"
        print(f"{path}: without {_names(skipped)}, for there is no (whole) generalization.jsonl")
    return [run for run in runs if len(run.sizes)]


def _plot_generalization(
    into: Output,
    runs: Sequence[Run],
    title: str,
    task_of: Callable[[int], Dictionary | MultiQueryRecall],
    metrics: Sequence[str],
) -> None:
    """Draws accuracy against the number of pairs; `task_of` makes the task with so many."""
    evaluated = _with_generalization(into, runs)
    if not evaluated:
        return
    levels: dict[str, dict[int, Mapping[str, float]]] = {}
    for num_pairs in sorted({int(number) for run in evaluated for number in run.sizes}):
        for name, level in task_of(num_pairs).levels().items():
            levels.setdefault(name, {})[num_pairs] = level
    title = f"Accuracy at other numbers of pairs than in training\ntrained on {title}"
    figure = curves.generalization_curves(evaluated, title, levels, runs[0].task["num_pairs"], metrics)
    into.figure("generalization", figure)


def _plot_similarities(into: Output, runs: Sequence[Run], *, show_writes: bool = False) -> None:
    labels = style.styles([run.model for run in runs])
    for run in runs:
        if run.episode is not None:
            title = f"{labels[run.model].label}: one held-out episode, seed {run.seeds[0]}"
            is_chained = run.config.get("model", {}).get("relation_size", 0) > 0
            figure = similarity.figure(run.episode, title, show_writes=show_writes, is_chained=is_chained)
            into.figure(f"similarity_{run.directory.name}", figure)
    skipped = [run for run in runs if run.episode is None]
    if skipped:
        print(f"{into.directory}/similarity_*.png: without {_names(skipped)}, for there is no episode.npz")


def _by_name(runs: Sequence[Run], labels: Mapping[str, str]) -> dict[str, Run]:
    """The runs by the labels of their models; those of a model that has several by their directories."""
    counts = Counter(run.model for run in runs)
    return {labels[run.model] if counts[run.model] == 1 else run.directory.name: run for run in runs}


def _names(runs: Sequence[Run]) -> str:
    return ", ".join(run.model for run in runs)


def _describe(task: Mapping[str, Any]) -> str:
    length = "single-character" if task["word_length"] == 1 else f"{task['word_length']}-character"
    queries = "every word queried once" if task["num_queries"] is None else f"{task['num_queries']} queries"
    alphabets = f"alphabets of {task['source_alphabet_size']} and {task['target_alphabet_size']}"
    return f"{task['num_pairs']} pairs of {length} words, {alphabets}, {queries}"


def report(workdir: str | Path, output: str | Path | None = None, formats: Sequence[str] = ("png",)) -> None:
    """Makes the figures and tables of a working directory, and prints where they are, and the tables for people.

    Arguments and errors are those of `make_figures`.
    """
    paths = make_figures(workdir, output, formats)
    for path in paths:
        print(path)
    for path in paths:
        if path.suffix == ".md":
            print(f"\n{path.read_text()}", end="")


def main(argv: Sequence[str], output: str | None = None, formats: Sequence[str] = ("png",)) -> None:
    """Makes the figures of each directory named on the command line, in `output` or else in that directory."""
    if len(argv) < 2 or (output is not None and len(argv) > 2):
        raise command_line.UsageError(_USAGE if len(argv) < 2 else "--output=DIR takes one WORKDIR")
    for workdir in map(_paths.expand, argv[1:]):
        target = command_line.output_directory(output, workdir)
        try:
            with command_line.writing_to(target, is_named=output is not None):
                report(workdir, target, formats)
        except LoadError as error:
            raise command_line.UsageError(error) from error


def run() -> None:
    """Runs the program."""
    # Not at the top: the programs that train make figures too, and have no such flags.
    output = flags.DEFINE_string("output", None, "Directory for figures and tables; the run's own if not given.")
    formats = command_line.formats_flag()
    command_line.run(lambda argv: main(argv, output.value, formats.value), document=__doc__, takes_arguments=True)


if __name__ == "__main__":
    run()
