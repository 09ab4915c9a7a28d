"""When does a model take off? The table that compares models by it.

Axes: `S` seeds, `E` evaluations.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mnm_jax.analysis import style, tables
from mnm_jax.analysis.runs import Run


class TakeOff(NamedTuple):
    """One model's row of the table.

    Attributes:
      model: the name of the model.
      num_seeds: `S`.
      median: the median take-off over all seeds, where one that never took off counts as later than any other. So it is
        infinite if half of the seeds or more never did.
      first: the earliest take-off of a seed; NaN if there is none.
      last: the latest take-off of a seed that did take off; NaN if there is none.
      num_never: how many seeds never took off.
      accuracy_mean: the word accuracy at the last evaluation, its mean over seeds.
      accuracy_min: the lowest of the seeds'.
      accuracy_max: the highest.
      updates: how many updates the model was trained for.
      minutes: the wall-clock time of training, all seeds together; NaN if nobody recorded it.
    """

    model: str
    num_seeds: int
    median: float
    first: float
    last: float
    num_never: int
    accuracy_mean: float
    accuracy_min: float
    accuracy_max: float
    updates: int
    minutes: float


def takeoff_updates(updates: np.ndarray, accuracies: np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """When each seed first passes a threshold: `min {updates_e : accuracies_se > threshold}`.

    Args:
      updates: `[E]`, the updates at which the seeds were evaluated, ascending.
      accuracies: `[S, E]`.
      threshold: what the accuracy must exceed.

    Returns:
      `[S]`, infinite for a seed that never does.

    Raises:
      ValueError: if the shapes do not fit.
    """
    updates, accuracies = np.asarray(updates), np.asarray(accuracies)
    if updates.ndim != 1 or accuracies.ndim != 2 or accuracies.shape[1] != len(updates):
        raise ValueError(
            f"arguments 'updates' and 'accuracies': want shapes [E] and [S, E], got {updates.shape}, {accuracies.shape}"
        )
    first: np.ndarray = np.where(accuracies > threshold, updates, np.inf).min(axis=1, initial=np.inf)
    return first


def summarize(run: Run, threshold: float = 0.5) -> TakeOff:
    """One run's row of the table, from its word accuracy on held-out episodes."""
    accuracies = run.metrics["eval_word_accuracy"]
    takeoffs = takeoff_updates(run.updates, accuracies, threshold)
    did = takeoffs[np.isfinite(takeoffs)]
    final = accuracies[:, -1]
    return TakeOff(
        model=run.model,
        num_seeds=len(run.seeds),
        median=float(np.median(takeoffs)),
        first=float(did.min()) if did.size else math.nan,
        last=float(did.max()) if did.size else math.nan,
        num_never=len(takeoffs) - did.size,
        accuracy_mean=float(final.mean()),
        accuracy_min=float(final.min()),
        accuracy_max=float(final.max()),
        updates=int(run.updates[-1]),
        minutes=math.nan if run.seconds is None else run.seconds / 60,
    )


def describe(row: TakeOff) -> tuple[str, str, str]:
    """The words of a table for when a model took off: the median, the range, and how many seeds never did."""
    median = tables.number(row.median, ",g") if math.isfinite(row.median) else f"not by {row.updates:,}"
    return median, tables.span(row.first, row.last, ",g"), f"{row.num_never} of {row.num_seeds}"


def to_csv(rows: Sequence[TakeOff]) -> str:
    """The table for programs: the fields of `TakeOff`, with `inf` and `nan` as Python writes them."""
    return tables.to_csv(TakeOff._fields, rows)


def to_markdown(rows: Sequence[TakeOff], threshold: float = 0.5) -> str:
    """The table for people, aligned so that it reads well as plain text too.

    Args:
      rows: the models.
      threshold: what `summarize` was given.

    Returns:
      A Markdown table, and under it a sentence that explains it.
    """
    header = (
        "model",
        "take-off (median)",
        "take-off (range)",
        "never took off",
        "final word accuracy (mean)",
        "final word accuracy (range)",
        "updates",
        "minutes",
    )
    labels = style.styles([row.model for row in rows])
    table = tables.to_markdown(header, [(labels[row.model].label, *_cells(row)) for row in rows])
    return f"{table}\n{_explanation(threshold)}\n"


def _cells(row: TakeOff) -> tuple[str, ...]:
    return (
        *describe(row),
        tables.number(row.accuracy_mean, ".3f"),
        tables.span(row.accuracy_min, row.accuracy_max, ".3f"),
        f"{row.updates:,}",
        tables.number(row.minutes, ".1f"),
    )


def _explanation(threshold: float) -> str:
    return (
        f"Take-off: the first evaluation at which a seed's word accuracy on held-out episodes is above {threshold:g}, "
        "in updates. The median is over all seeds, one that never took off counting as later than others; the range "
        "is over those that did. Minutes: wall-clock time of training, all seeds together. Attention pays for its "
        "whole table at every step."
    )
