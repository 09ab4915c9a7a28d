"""Figures of what the memory does in the maze, from the numbers that `experiments.maze_memory` writes.

Axes: `S` seeds, `X` points on the horizontal axis.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mnm_jax.analysis import style

_SIZE = (10, 4.6)


def knowledge(numbers: Mapping[str, Any]) -> Figure:
    """How often a linear decoder finds the reward's cell in what an agent remembers: by steps, and by visits.

    Args:
      numbers: what `experiments.maze_memory` writes.
    """
    looks = style.styles(list(numbers["agents"]))
    figure = Figure(figsize=_SIZE, layout="constrained", dpi=150)
    by_step, by_visits = figure.subplots(1, 2, sharey=True)
    for model, agent in numbers["agents"].items():
        seeds = [of_seed["knowledge"] for of_seed in agent["seeds"]]
        _plot(by_step, [seed["by_step"] for seed in seeds], 1, looks[model])
        _plot(by_visits, [seed["by_visits"] for seed in seeds], 0, looks[model])
        chance = seeds[0]["chance"]
    for axes in (by_step, by_visits):
        axes.axhline(chance, color="0.35", linestyle=":", linewidth=1.2)
        axes.annotate(
            f"chance ({chance:.2g})", (0.99, chance), xycoords=("axes fraction", "data"), ha="right", va="bottom"
        )
        _finish(axes)
    by_step.set_ylabel("reward's cell decoded (fraction of test episodes)")
    by_step.set_xlabel("steps since the start of the episode")
    by_visits.set_xlabel("visits to the reward so far")
    by_visits.legend(frameon=False, fontsize=8.5)
    _title(figure, numbers, "When does the agent know where the reward is?")
    return figure


def following(numbers: Mapping[str, Any]) -> Figure:
    """What an agent does when the reward moves: the steps from visit to visit, and how often it goes to the old place.

    Args:
      numbers: what `experiments.maze_memory` writes.
    """
    looks = style.styles(list(numbers["agents"]))
    figure = Figure(figsize=_SIZE, layout="constrained", dpi=150)
    searches, arrivals = figure.subplots(1, 2)
    for model, agent in numbers["agents"].items():
        seeds = [of_seed["following"] for of_seed in agent["seeds"]]
        _plot(searches, [seed["before"] for seed in seeds], 1, looks[model]._replace(dashes="--", label="_"))
        _plot(searches, [seed["after"] for seed in seeds], 1, looks[model])
        _plot(arrivals, [seed["arrivals_at_old"] for seed in seeds], 1, looks[model])
    searches.plot([], [], color="0.35", linestyle="--", label="before the move")
    for axes in (searches, arrivals):
        axes.set_ylim(bottom=0)
        _finish(axes)
    searches.set_ylabel("steps since the visit before, or since start or move")
    searches.set_xlabel("visit to the reward, since start or move")
    arrivals.set_ylabel("arrivals at the old place (mean of a search)")
    arrivals.set_xlabel("search for the new place")
    searches.legend(frameon=False, fontsize=8.5)
    middle = numbers["task"]["episode_length"] // 2
    _title(figure, numbers, f"The reward moves after {middle} steps: does the agent follow?")
    return figure


def _plot(axes: Axes, seeds: Sequence[Sequence[float | None]], start: int, look: style.Style) -> None:
    """Each seed as a thin line, and the mean as far as all seeds go."""
    for values in seeds:
        x = np.arange(start, start + len(values))
        axes.plot(x, np.array(values, float), color=look.color, linestyle=look.dashes, linewidth=0.6, alpha=0.5)
    length = min(map(len, seeds))
    mean = np.mean([np.array(values[:length], float) for values in seeds], axis=0)
    x = np.arange(start, start + length)
    axes.plot(
        x,
        mean,
        color=look.color,
        linestyle=look.dashes,
        marker=look.marker,
        markevery=max(1, length // 12),
        markersize=4,
        linewidth=1.8,
        label=look.label,
    )


def _finish(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.92", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _title(figure: Figure, numbers: Mapping[str, Any], title: str) -> None:
    task, counts = numbers["task"], {len(agent["seeds"]) for agent in numbers["agents"].values()}
    seeds = " to ".join(map(str, sorted({min(counts), max(counts)})))
    figure.suptitle(
        f"{title}\nmaze of size {task['size']}, episodes of {task['episode_length']} steps; {seeds} "
        f"{'seed' if counts == {1} else 'seeds'}, the mean and each seed",
        size=10.5,
    )
