"""Whether a training in which a model acts is steady, and what its memory does meanwhile: from `metrics.jsonl` alone.

Axes: `S` seeds, `E` evaluations.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from mnm_jax.analysis import panels, style
from mnm_jax.analysis.runs import Run


class _Panel(NamedTuple):
    metric: str
    title: str
    label: str
    is_logarithmic: bool = False


_PANELS = (
    _Panel("eval_episode_reward", "Reward", "reward of an episode"),
    _Panel("train_gradient_norm", "Gradient, all parameters", "norm before clipping", True),
    _Panel("train_gradient_norm_policy", "Gradient, policy head", "norm before clipping", True),
    _Panel("train_gradient_norm_value", "Gradient, value head", "norm before clipping", True),
    _Panel("eval_entropy", "Entropy of the policy", "nats"),
    _Panel("eval_value_error", "Error of the values", "root mean square"),
    _Panel("eval_rate", "Rate of the write", "mean over steps"),
    _Panel("eval_write_norm", "Length of a write", "norm, mean over steps", True),
    _Panel("eval_memory_norm_end", "Length of the memory", "norm at the end of an episode", True),
    _Panel("eval_error_after", "Error after the write", "mean squared difference", True),
)
_NUM_COLUMNS = 2


def figure(runs: Mapping[str, Run], title: str) -> Figure:
    """Draws what training logged of every seed of some runs.

    Args:
      runs: by their names for the legend. What a run has not logged is left out.
      title: the title, but for the meaning of the lines, which is added.

    Returns:
      The figure, as wide as a page.
    """
    looks = style.distinguish({name: run.model for name, run in runs.items()})
    num_rows = len(_PANELS) // _NUM_COLUMNS
    drawn = Figure(figsize=(8, 1.8 * num_rows + 1.9), layout="constrained", dpi=150)
    grid = drawn.subplots(num_rows, _NUM_COLUMNS, sharex=True)
    for axes, panel in zip(grid.flat, _PANELS, strict=True):
        for name, run in runs.items():
            _plot(axes, run, panel, looks[name])
        axes.set_title(panel.title, size=panels.SMALL, loc="left")
        axes.set_ylabel(panel.label, size=panels.SMALL)
        axes.tick_params(labelsize=panels.SMALL)
        if panel.is_logarithmic:
            axes.set_yscale("log")
        panels.finish(axes)
        axes.xaxis.set_major_formatter(EngFormatter(sep="", unit=""))
    for axes, panel in zip(grid.flat, _PANELS, strict=True):  # When all are filled, for they share their limits.
        if panel.is_logarithmic:
            panels.plain_ticks(axes.yaxis)
        panels.name_ends(axes)  # All of them are in the legend too.
    for axes in grid[-1]:
        axes.set_xlabel("training (steps of the environment)", size=panels.SMALL)
    several = any(len(run.seeds) > 1 for run in runs.values())
    drawn.suptitle(
        f"{title}\n{'thin lines: single seeds, thick lines: their median' if several else '1 seed'}", size=10.5
    )
    panels.legend(drawn, [Line2D([], [], **_line(look)) for look in looks.values()])
    return drawn


def _plot(axes: Axes, run: Run, panel: _Panel, look: style.Style) -> None:
    if panel.metric not in run.metrics:
        return
    values = np.asarray(run.metrics[panel.metric], float)
    steps = run.updates * run.config["training"]["batch_size"] * run.task["episode_length"]
    if len(values) > 1:
        axes.plot(steps, values.T, linewidth=0.5, alpha=0.5, color=look.color)
    axes.plot(steps, np.median(values, axis=0), **_line(look))


def _line(look: style.Style) -> dict[str, Any]:
    return panels.line_of(look) | {"marker": "none"}  # So noisy a line would have too many.
