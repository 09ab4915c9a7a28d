"""Whether a training in which a model acts is steady, and what its memory does meanwhile: from `metrics.jsonl` alone.

Axes: `S` seeds, `E` evaluations.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from mnm_jax.analysis import style
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
_NUM_COLUMNS = 5


def figure(runs: Mapping[str, Run], title: str) -> Figure:
    """Draws what training logged of every seed of some runs.

    Args:
      runs: by their names for the legend. What a run has not logged is left out.
      title: the title.
    """
    looks = style.distinguish({name: run.model for name, run in runs.items()})
    drawn = Figure(figsize=(15, 6.2), layout="constrained", dpi=120)
    panels = drawn.subplots(len(_PANELS) // _NUM_COLUMNS, _NUM_COLUMNS, sharex=True).flat
    for axes, panel in zip(panels, _PANELS, strict=True):
        for name, run in runs.items():
            _plot(axes, run, panel, looks[name])
        axes.set_title(panel.title, size=9.5)
        axes.set_ylabel(panel.label, size=8.5)
        axes.tick_params(labelsize=8)
        if panel.is_logarithmic:
            axes.set_yscale("log")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="0.92", linewidth=0.8)
        axes.xaxis.set_major_formatter(EngFormatter(sep="", unit=""))
    drawn.supxlabel("training (steps of the environment); thin lines: single seeds, thick lines: their median", size=9)
    drawn.suptitle(title, size=10.5)
    handles, labels = panels[0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside upper right", ncols=len(runs), frameon=False, fontsize=8.5)
    return drawn


def _plot(axes: Axes, run: Run, panel: _Panel, look: style.Style) -> None:
    if panel.metric not in run.metrics:
        return
    values = np.asarray(run.metrics[panel.metric], float)
    steps = run.updates * run.config["training"]["batch_size"] * run.task["episode_length"]
    color, dashes, median = look.color, look.dashes, np.median(values, axis=0)
    axes.plot(steps, values.T, linewidth=0.6, alpha=0.6, color=color, linestyle=dashes)
    axes.plot(steps, median, linewidth=1.8, label=look.label, color=color, linestyle=dashes)
