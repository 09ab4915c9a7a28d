"""Test errors of the bAbI tasks: the table of tasks by models, and the same as a heat map.

Axes: `S` seeds, `K` tasks.
"""

import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from mnm_jax.analysis import style, tables
from mnm_jax.analysis.runs import LoadError, Run
from mnm_jax.tasks.babi import OFFICIAL_SHA256, TASK_NAMES

TEST = "test.json"
FAILED_ABOVE = 5.0
"""A task has failed if more than so many percent of its answers are wrong."""


class Errors(NamedTuple):
    """How a trained model did on the test files.

    Attributes:
      run: its training.
      tasks: the `K` tasks, ascending.
      wrong: `[S, K]`, how many questions were answered wrongly.
      questions: `[K]`, how many there are.
      unseen_wrong, unseen_questions: `[S, K]` and `[K]`, the same of the questions that training does not have with the
        same story; `None` for a run that did not count them.
      best_updates: `[S]`, after how many updates the parameters were best on the validation stories.
      validation_accuracies: `[S]`, how good they were there.
      update: how many updates there were in all.
    """

    run: Run
    tasks: tuple[int, ...]
    wrong: np.ndarray
    questions: np.ndarray
    unseen_wrong: np.ndarray | None
    unseen_questions: np.ndarray | None
    best_updates: np.ndarray
    validation_accuracies: np.ndarray
    update: int

    @property
    def percent(self) -> np.ndarray:
        """`[S, K]`, the errors in percent."""
        percent: np.ndarray = 100 * self.wrong / self.questions
        return percent

    @property
    def unseen_percent(self) -> np.ndarray:
        """`[S, K]`, the errors in percent of the questions that training does not have; NaN where there are none."""
        if self.unseen_wrong is None or self.unseen_questions is None:
            return np.full_like(self.percent, np.nan)
        with np.errstate(invalid="ignore"):
            percent: np.ndarray = 100 * self.unseen_wrong / self.unseen_questions
        return percent

    @property
    def mean_percent(self) -> np.ndarray:
        """`[S]`, the mean over tasks."""
        mean: np.ndarray = self.percent.mean(axis=1)
        return mean

    @property
    def num_failed(self) -> np.ndarray:
        """`[S]`, how many tasks failed."""
        number: np.ndarray = np.sum(self.percent > FAILED_ABOVE, axis=1)
        return number

    @property
    def chosen(self) -> int:
        """Index of the seed that was best on the validation stories, the first of equal ones."""
        return int(np.argmax(self.validation_accuracies))


class Published(NamedTuple):
    """What a paper reports for all tasks trained together, with 10,000 training questions each, in percent.

    Attributes:
      name: of the model.
      mean: the mean over tasks, its mean over runs.
      deviation: its standard deviation over runs, that of a sample.
      best: the lowest of the runs.
      num_runs: how many runs.
      source: where it is written.
    """

    name: str
    mean: float
    deviation: float
    best: float
    num_runs: int
    source: str


PUBLISHED = (
    Published(
        "TPR-RNN",
        mean=1.34,
        deviation=0.52,
        best=0.78,
        num_runs=8,
        source="Schlag and Schmidhuber, NeurIPS 2018; https://github.com/ischlag/TPR-RNN, README",
    ),
)


def load(run: Run) -> Errors | None:
    """Reads the test errors of a run.

    Returns:
      The errors; `None` if the file is not there (yet).

    Raises:
      LoadError: if the file is not what `experiments.babi` writes.
    """
    path = run.directory / TEST
    if not path.exists():
        return None
    try:
        contents = json.loads(path.read_text())
        seeds = contents["seeds"]
        tasks = tuple(entry["task"] for entry in seeds[0]["tasks"])
        # Older runs have the first two only.
        known = ("errors", "questions", "unseen_errors", "unseen_questions")
        names = [name for name in known if name in seeds[0]["tasks"][0]]
        table = np.array([[[entry[name] for name in names] for entry in seed["tasks"]] for seed in seeds])
        has_unseen = len(names) == 4
        return Errors(
            run,
            tasks,
            wrong=table[..., 0],
            questions=table[0, :, 1],
            unseen_wrong=table[..., 2] if has_unseen else None,
            unseen_questions=table[0, :, 3] if has_unseen else None,
            best_updates=np.array([seed["best_update"] for seed in seeds]),
            validation_accuracies=np.array([seed["validation_accuracy"] for seed in seeds]),
            update=contents["update"],
        )
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise LoadError(f"{path} is not a table of test errors: {error!r}") from error


def to_csv(models: Sequence[Errors]) -> str:
    """The table for programs: a row for each model, seed and task."""
    header = ["model", "seed", "task", "errors", "questions", "error_percent", "unseen_errors", "unseen_questions"]
    header += ["best_update", "validation_accuracy"]

    def unseen(model: Errors, i: int, k: int) -> tuple[int | None, int | None]:
        if model.unseen_wrong is None or model.unseen_questions is None:
            return None, None
        return int(model.unseen_wrong[i, k]), int(model.unseen_questions[k])

    rows = [
        (
            model.run.model,
            seed,
            task,
            int(model.wrong[i, k]),
            int(model.questions[k]),
            float(model.percent[i, k]),
            *unseen(model, i, k),
            int(model.best_updates[i]),
            float(model.validation_accuracies[i]),
        )
        for model in models
        for i, seed in enumerate(model.run.seeds)
        for k, task in enumerate(model.tasks)
    ]
    return tables.to_csv(header, rows)


def to_markdown(models: Sequence[Errors]) -> str:
    """The table for people: a row for each task, a column for each model, and what it means.

    Args:
      models: at least one, all of the same tasks.

    Returns:
      A Markdown table with its footnotes. Published results stand beside models of all tasks together, trained on
      10,000 questions each.
    """
    first = models[0]
    labels = style.styles([model.run.model for model in models])
    is_joint = first.tasks == tuple(TASK_NAMES) and first.run.task["data"] == "en-10k"
    published = PUBLISHED if is_joint else ()
    counted = _with_unseen(models)
    header = ["test error in percent", *(labels[model.run.model].label for model in models)]
    header += [f"{labels[model.run.model].label}, unseen questions" for model in counted]
    header += [f"{other.name} (reported by its paper)" for other in published]

    def row(name: str, values: Iterable[np.ndarray], *beside: str) -> list[str]:
        own = [name, *map(_mean_and_deviation, values)]
        return [*own, *beside, *["-"] * (len(header) - len(own) - len(beside))]

    rows = []
    for k, task in enumerate(first.tasks):
        unseen = [_mean_and_deviation(model.unseen_percent[:, k]) for model in counted]
        name = f"{task} {TASK_NAMES[task].replace('-', ' ')}"
        rows.append(row(name, [model.percent[:, k] for model in models], *unseen))
    unseen = [
        _mean_and_deviation(np.nanmean(model.unseen_percent, axis=1)) if np.any(model.unseen_questions) else "-"
        for model in counted
    ]
    means = [f"{other.mean:.2f} ± {other.deviation:.2f}" for other in published]
    rows.append(row("mean over tasks", [model.mean_percent for model in models], *unseen, *means))
    rows.append(row(f"failed tasks (above {FAILED_ABOVE:g}%), number", [model.num_failed for model in models]))
    best = [f"{model.mean_percent[model.chosen]:.2f} (seed {model.run.seeds[model.chosen]})" for model in models]
    rows.append(["mean over tasks, best by validation", *best, *["-"] * (len(header) - 1 - len(best))])
    return f"{tables.to_markdown(header, rows)}\n{_footnotes(models, published)}"


def _with_unseen(models: Sequence[Errors]) -> list[Errors]:
    """Those that counted unseen questions apart; none if all the questions are unseen."""
    counted = [model for model in models if model.unseen_wrong is not None]
    return counted if any(np.any(model.unseen_questions < model.questions) for model in counted) else []


def _mean_and_deviation(values: np.ndarray) -> str:
    if np.isnan(values).any():
        return "-"
    deviation = f" ± {values.std(ddof=1):.2f}" if len(values) > 1 else ""
    return f"{values.mean():.2f}{deviation}"


def _footnotes(models: Sequence[Errors], published: Sequence[Published]) -> str:
    task = models[0].run.task
    lines = [
        f"bAbI {task['data']}, layout {task['layout']}, all tasks of the table trained together. Wrong answers among "
        "all questions of the test files, in percent: mean ± standard deviation over seeds (that of a sample, divided "
        "by S - 1). Each seed's parameters are those of its best evaluation on validation stories, which are held out "
        "from the training files; the test files had no part in any choice. Best by validation: the seed with the best "
        "evaluation."
    ]
    counted = _with_unseen(models)
    if counted and (unseen_questions := counted[0].unseen_questions) is not None:
        shares = [
            f"{k} ({1 - unseen / asked:.1%})"
            for k, asked, unseen in zip(counted[0].tasks, counted[0].questions, unseen_questions, strict=True)
            if unseen < asked
        ]
        lines.append(
            "Unseen questions: without those that the training stories have too, after the very same statements. These "
            f"are, of the test questions of the tasks: {', '.join(shares)}."
        )
    lines += [
        f"{model.run.model} is not finished: update {model.update:,} of {model.run.num_updates:,}."
        for model in models
        if model.update < model.run.num_updates
    ]
    lines += [
        f"{other.name}: all tasks together, 10,000 training questions each, {other.num_runs} runs, the best of them "
        f"{other.best:.2f}, as reported: {other.source}. Not measured here, nor with the same way of reading."
        for other in published
    ]
    if task["archive_sha256"] != OFFICIAL_SHA256:
        lines.append(
            "The archive is NOT the official one, so these numbers are not strictly comparable with published ones: "
            f"its SHA-256 is {task['archive_sha256']}, that of the official one {OFFICIAL_SHA256}."
        )
    return "".join(f"{line}\n\n" for line in lines).rstrip("\n") + "\n"


def heat_map(models: Sequence[Errors], title: str) -> Figure:
    """Draws the errors of each model on each task, and their mean over tasks; means over seeds where there are several.

    Args:
      models: at least one, all of the same tasks, of which there are several.
      title: the first line of the title.
    """
    labels = style.styles([model.run.model for model in models])
    values = np.array([[*model.percent.mean(axis=0), model.mean_percent.mean()] for model in models]).T
    num_rows, num_columns = values.shape
    figure = Figure(figsize=(0.9 * num_columns + 3.6, 0.24 * num_rows + 1.4), layout="constrained", dpi=150)
    axes = figure.subplots()
    # A guess between two answers is wrong half of the time.
    most = max(50.0, values.max())
    image = axes.imshow(values, cmap="Blues", vmin=0, vmax=most, aspect="auto")
    for (k, i), value in np.ndenumerate(values):
        color = "white" if value > 0.6 * most else "black"
        axes.text(i, k, f"{value:.1f}", ha="center", va="center", color=color, size=8)
    names = [f"{task} {TASK_NAMES[task].replace('-', ' ')}" for task in models[0].tasks]
    axes.set_yticks(range(num_rows), [*names, "mean over tasks"], size=8)
    axes.set_xticks(range(num_columns), [labels[model.run.model].label for model in models], size=8.5)
    axes.axhline(num_rows - 1.5, color="white", linewidth=3)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label="test error (percent)")
    numbers = {len(model.run.seeds) for model in models}
    of_seeds = "1 seed" if numbers == {1} else "mean over seeds"
    figure.suptitle(f"{title}\ntest error in percent, {of_seeds}", size=10.5)
    return figure
