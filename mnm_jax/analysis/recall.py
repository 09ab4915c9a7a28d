"""What became of trainings on multi-query associative recall: accuracy beside the size of the state, as a table."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mnm_jax import models
from mnm_jax.analysis import style, tables
from mnm_jax.analysis.runs import Run
from mnm_jax.tasks import MultiQueryRecall


class Row(NamedTuple):
    """One run.

    Attributes:
      model: its name.
      state_floats: how many floats it carries from step to step, the controller's included.
      num_seeds: how many seeds there are.
      accuracy: the share of queries answered rightly at the end, the mean over seeds.
      accuracy_low, accuracy_high: of the worst and the best seed.
      best_accuracy: the largest so far of each seed, the mean over seeds.
      updates: how many updates were made.
      minutes: of training, all seeds together; NaN if nobody recorded it.
    """

    model: str
    state_floats: int
    num_seeds: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    best_accuracy: float
    updates: int
    minutes: float


def state_floats(run: Run) -> int:
    """How many floats the model of a run carries from step to step."""
    task = MultiQueryRecall(**run.task)
    cell = models.build(
        run.model,
        models.ModelSettings(**run.config["model"]),
        output_size=task.output_size,
        vocabulary_size=task.vocabulary_size,
        num_steps=task.num_steps,
    )

    def start() -> object:
        variables = cell.init(jax.random.key(0), None, jnp.int32(0))
        return cell.apply(variables, method="initial_carry")

    leaves = jax.tree.leaves(jax.eval_shape(start))
    return sum(leaf.size for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.floating))


def summarize(run: Run) -> Row:
    """The row of a run."""
    accuracies = run.metrics["eval_query_accuracy"]
    final = accuracies[:, -1]
    return Row(
        run.model,
        state_floats(run),
        len(run.seeds),
        float(final.mean()),
        float(final.min()),
        float(final.max()),
        float(np.fmax.reduce(accuracies, axis=1).mean()),
        int(run.updates[-1]),
        float("nan") if run.seconds is None else run.seconds / 60,
    )


def to_csv(rows: Sequence[Row]) -> str:
    """The table for programs."""
    return tables.to_csv(Row._fields, rows)


def to_markdown(rows: Sequence[Row]) -> str:
    """The table for people."""
    looks = style.styles([row.model for row in rows])
    header = (
        "model",
        "floats of state",
        "query accuracy, mean (range) over seeds",
        "best so far",
        "updates",
        "minutes",
    )
    lines = [
        (
            looks[row.model].label,
            f"{row.state_floats:,}",
            f"{row.accuracy:.3f} ({tables.span(row.accuracy_low, row.accuracy_high, '.3f')})",
            f"{row.best_accuracy:.3f}",
            f"{row.updates:,}",
            tables.number(row.minutes, ".1f"),
        )
        for row in rows
    ]
    return tables.to_markdown(header, lines)
