"""The table that compares runs, of whatever models, tasks and experiments, by their headline metrics.

Axes: `S` seeds.
"""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mnm_jax.analysis import tables
from mnm_jax.analysis.runs import Run

_EXPLANATION = """\
The metric is that of held-out episodes, larger being better. Final: at the last evaluation so far. Deviation and range
are over seeds; the deviation is that of a sample (divided by S - 1). Best: the largest so far of each seed, the mean of
these over seeds. Minutes: wall-clock time of training, all seeds together.
"""


class SeedSummary(NamedTuple):
    """One seed of a run.

    Attributes:
      run: the name of the run.
      seed: the seed.
      final: the headline metric at the last evaluation.
      best: the largest so far; NaN if it never was a number.
      num_skipped: how many updates were skipped.
    """

    run: str
    seed: int
    final: float
    best: float
    num_skipped: int


class Summary(NamedTuple):
    """One run's row of the table.

    Attributes:
      run: the name of the run.
      model: the name of the model.
      task: the name of the task, with what tells it apart from others of that name in the table.
      metric: the name of the headline metric.
      num_seeds: `S`.
      updates: how many updates were made, up to the last evaluation.
      num_updates: how many were asked for.
      final_mean: the metric at the last evaluation, its mean over seeds.
      final_deviation: its standard deviation over seeds, `sqrt(sum_s (x_s - mean)^2 / (S - 1))`; NaN for a single one.
      final_min: the lowest of the seeds'.
      final_max: the highest.
      best_mean: the mean over seeds of the largest metric so far of each.
      minutes: the wall-clock time of training, all seeds together; NaN if nobody recorded it.
      num_skipped: how many updates were skipped, summed over seeds.
    """

    run: str
    model: str
    task: str
    metric: str
    num_seeds: int
    updates: int
    num_updates: int
    final_mean: float
    final_deviation: float
    final_min: float
    final_max: float
    best_mean: float
    minutes: float
    num_skipped: int


def name_runs(runs: Sequence[Run]) -> dict[str, Run]:
    """Names each run `WORKDIR/MODEL`, with more of the path in front where that is not enough to tell runs apart.

    Args:
      runs: the runs; of those with the same directory only the last one counts.
    """
    distinct = {run.directory.resolve(): run for run in runs}
    names = ([str(Path(*path.parts[-length:])) for path in distinct] for length in itertools.count(2))
    telling = next(candidates for candidates in names if len(set(candidates)) == len(distinct))
    return dict(zip(telling, distinct.values(), strict=True))


def summarize_seeds(name: str, run: Run) -> list[SeedSummary]:
    """A row for each seed of a run."""
    values = run.metrics[f"eval_{run.headline}"]
    skipped = run.metrics.get("train_num_skipped", np.zeros_like(values))
    return [
        SeedSummary(name, seed, float(of_seed[-1]), float(np.fmax.reduce(of_seed)), int(np.nansum(skipped_by_seed)))
        for seed, of_seed, skipped_by_seed in zip(run.seeds, values, skipped, strict=True)
    ]


def summarize(runs: Mapping[str, Run]) -> list[Summary]:
    """The rows of the table, from the runs by their names."""
    tasks = _describe_tasks(runs)
    rows = []
    for name, run in runs.items():
        seeds = summarize_seeds(name, run)
        final = np.array([seed.final for seed in seeds])
        rows.append(
            Summary(
                run=name,
                model=run.model,
                task=tasks[name],
                metric=run.headline,
                num_seeds=len(seeds),
                updates=int(run.updates[-1]),
                num_updates=run.num_updates,
                final_mean=float(final.mean()),
                final_deviation=float(final.std(ddof=1)) if len(seeds) > 1 else np.nan,
                final_min=float(final.min()),
                final_max=float(final.max()),
                best_mean=float(np.mean([seed.best for seed in seeds])),
                minutes=np.nan if run.seconds is None else run.seconds / 60,
                num_skipped=sum(seed.num_skipped for seed in seeds),
            )
        )
    return rows


def _describe_tasks(runs: Mapping[str, Run]) -> dict[str, str]:
    """The task of each run: the name, and the settings in which tasks of that name differ."""
    texts = {}
    for name, run in runs.items():
        others = [other.task for other in runs.values() if other.experiment == run.experiment]
        differing = [key for key in run.task if any(task.get(key) != run.task[key] for task in others)]
        settings = ", ".join(f"{key}={run.task[key]}" for key in differing)
        texts[name] = f"{run.experiment} ({settings})" if settings else run.experiment
    return texts


def to_markdown(rows: Sequence[Summary]) -> str:
    """The table for people, and what it means; skipped updates only if there were any."""
    header = ["run", "task", "metric", "seeds", "updates"]
    header += ["final (mean)", "final (deviation)", "final (range)", "best (mean)", "minutes"]
    any_skipped = any(row.num_skipped for row in rows)
    cells = [[*_cells(row), f"{row.num_skipped:,}"] if any_skipped else _cells(row) for row in rows]
    return tables.to_markdown(header + ["skipped updates"] * any_skipped, cells, num_names=3) + "\n" + _EXPLANATION


def _cells(row: Summary) -> list[str]:
    return [
        row.run,
        row.task,
        row.metric.replace("_", " "),
        str(row.num_seeds),
        f"{row.updates:,} of {row.num_updates:,}",
        tables.number(row.final_mean, ".3f"),
        tables.number(row.final_deviation, ".3f"),
        tables.span(row.final_min, row.final_max, ".3f"),
        tables.number(row.best_mean, ".3f"),
        tables.number(row.minutes, ".1f"),
    ]
