"""What updates measured, summed, such that it makes no difference where a training was cut.

A table of sums holds each measured number by its name, and three counts beside them: of the updates that are in the
sums (`num_measured`), of those of them that changed the parameters (`num_applied`), and of those that were left out
because loss, gradient or step was not finite (`num_skipped`).
"""

from collections.abc import Iterable

import jax
import jax.numpy as jnp

from mnm_jax.training.task import Metrics

Sums = Metrics
_COUNTS = ("num_measured", "num_applied", "num_skipped")


def start(names: Iterable[str]) -> Sums:
    """The sums over no updates of what will be measured under these names."""
    return {name: jnp.zeros((), jnp.float32) for name in (*names, *_COUNTS)}


def add(sums: Sums, measured: Metrics, *, is_finite: jax.Array, is_applied: jax.Array) -> Sums:
    """Adds an update, if it `is_finite`; whether it `is_applied` only counts."""
    ones = {"num_measured": is_finite, "num_applied": is_applied, "num_skipped": ~is_finite}
    added = {name: jnp.where(is_finite, x, 0) for name, x in measured.items()} | ones
    return {name: total + added[name].astype(total.dtype) for name, total in sums.items()}


def means(sums: Sums) -> Metrics:
    """The means over the updates that were measured, not a number if there were none; and how many were skipped."""
    measured = {name: x / sums["num_measured"] for name, x in sums.items() if name not in _COUNTS}
    return measured | {"num_skipped": sums["num_skipped"]}
