"""What became of trainings on the algorithmic tasks: the cost of a sequence in bits, as a table."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mnm_jax.analysis import style, tables
from mnm_jax.analysis.runs import Run

# At which a task counts as learned.
LEARNED_BITS = 0.1


class Row(NamedTuple):
    """One model, on the held-out episodes.

    Attributes:
      model: its name.
      num_seeds: how many seeds there are.
      bits: cost per sequence at the end, the mean over seeds.
      bits_low, bits_high: of the best and the worst seed.
      sequence_accuracy: the share of sequences wholly right at the end, the mean over seeds.
      sequence_accuracy_low, sequence_accuracy_high: of the worst and the best seed.
      num_learned: how many seeds were at or below 0.1 bits at any evaluation.
      learned_update: the update at which the second fastest seed (with one seed, the only one) first was; infinite if
        none was.
      updates: how many updates were made.
      minutes: of training, all seeds together; NaN if nobody recorded it.
    """

    model: str
    num_seeds: int
    bits: float
    bits_low: float
    bits_high: float
    sequence_accuracy: float
    sequence_accuracy_low: float
    sequence_accuracy_high: float
    num_learned: int
    learned_update: float
    updates: int
    minutes: float


def summarize(run: Run) -> Row:
    """The row of a run."""
    bits, right = run.metrics["eval_bits"], run.metrics["eval_sequence_accuracy"]
    is_learned = bits <= LEARNED_BITS
    first = np.where(is_learned.any(axis=1), run.updates[is_learned.argmax(axis=1)], np.inf)
    return Row(
        run.model,
        len(run.seeds),
        *_spread(bits[:, -1]),
        *_spread(right[:, -1]),
        num_learned=int(is_learned.any(axis=1).sum()),
        learned_update=float(np.sort(first)[: min(2, len(first))][-1]),
        updates=int(run.updates[-1]),
        minutes=float("nan") if run.seconds is None else run.seconds / 60,
    )


def _spread(values: np.ndarray) -> tuple[float, float, float]:
    return float(values.mean()), float(values.min()), float(values.max())


def to_csv(rows: Sequence[Row]) -> str:
    """The table for programs."""
    return tables.to_csv(Row._fields, rows)


def to_markdown(rows: Sequence[Row]) -> str:
    """The table for people."""
    looks = style.styles([row.model for row in rows])
    header = (
        "model",
        "bits per sequence, mean (range) over seeds",
        "sequences wholly right",
        f"seeds that reached {LEARNED_BITS} bits",
        "second of them at update",
        "updates",
        "minutes",
    )
    lines = [
        (
            looks[row.model].label,
            f"{row.bits:.3g} ({tables.span(row.bits_low, row.bits_high, '.3g')})",
            f"{row.sequence_accuracy:.3f} "
            f"({tables.span(row.sequence_accuracy_low, row.sequence_accuracy_high, '.3f')})",
            f"{row.num_learned} of {row.num_seeds}",
            f"{row.learned_update:,.0f}" if np.isfinite(row.learned_update) else "-",
            f"{row.updates:,}",
            tables.number(row.minutes, ".1f"),
        )
        for row in rows
    ]
    return tables.to_markdown(header, lines)
