"""Figures of what the memory does in the maze, from the numbers that `experiments.maze_memory` writes.

Axes: `S` seeds, `X` points on the horizontal axis.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mnm_jax.analysis import panels, style

_WIDTH = 8.0  # Inches: that of a page.


def knowledge(numbers: Mapping[str, Any]) -> Figure:
    """How often a linear decoder finds the reward's cell in what an agent remembers: by steps, and by visits.

    Args:
      numbers: what `experiments.maze_memory` writes.
    """
    figure = Figure(figsize=(_WIDTH, 7), layout="constrained", dpi=150)
    by_step, by_visits = figure.subplots(2, 1, sharey=True)
    _plot_agents(by_step, numbers, "knowledge", "by_step", 1)
    _plot_agents(by_visits, numbers, "knowledge", "by_visits", 0)
    agents = numbers["agents"].values()
    levels = {"chance": next(of_seed["knowledge"]["chance"] for agent in agents for of_seed in agent["seeds"])}
    left_out = []
    for axes in (by_step, by_visits):
        axes.set_ylim(-0.03, 1.03)
        axes.set_ylabel("reward's cell decoded\n(fraction of test episodes)")
        panels.draw_levels(axes, levels)
        left_out += panels.name_ends(axes, levels)
    panels.legend(figure, left_out)
    by_step.set_xlabel("steps since the start of the episode")
    by_visits.set_xlabel("visits to the reward so far")
    _title(figure, numbers, "When does the agent know where the reward is?")
    return figure


def following(numbers: Mapping[str, Any]) -> Figure:
    """What an agent does when the reward moves: the steps from visit to visit, and how often it goes to the old place.

    Args:
      numbers: what `experiments.maze_memory` writes.
    """
    figure = Figure(figsize=(_WIDTH, 9.5), layout="constrained", dpi=150)
    before, after, arrivals = figure.subplots(3, 1)
    after.sharey(before)
    for axes, name in ((before, "before"), (after, "after"), (arrivals, "arrivals_at_old")):
        _plot_agents(axes, numbers, "following", name, 1)
    before.set_ylabel("steps since the visit before,\nor since the start")
    before.set_xlabel("visit to the reward, since the start")
    after.set_ylabel("steps since the visit before,\nor since the move")
    after.set_xlabel("visit to the reward, since the move")
    arrivals.set_ylabel("arrivals at the old place\n(mean of a search)")
    arrivals.set_xlabel("search for the new place")
    left_out = []
    for axes in (before, after, arrivals):
        axes.set_ylim(bottom=0)
        left_out += panels.name_ends(axes)
    panels.legend(figure, left_out)
    middle = numbers["task"]["episode_length"] // 2
    _title(figure, numbers, f"The reward moves after {middle} steps: does the agent follow?")
    return figure


def _plot_agents(axes: Axes, numbers: Mapping[str, Any], part: str, name: str, start: int) -> None:
    """Draws one quantity of every agent; `start` is where its horizontal axis starts."""
    looks = style.styles(list(numbers["agents"]))
    for i, (model, agent) in enumerate(numbers["agents"].items()):
        seeds = [of_seed[part][name] for of_seed in agent["seeds"]]
        _plot(axes, seeds, start, looks[model], phase=i / len(looks))
    panels.finish(axes)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _plot(axes: Axes, seeds: Sequence[Sequence[float | None]], start: int, look: style.Style, *, phase: float) -> None:
    """Each seed as a thin line, and the mean as far as all seeds go."""
    if len(seeds) > 1:
        for values in seeds:
            x = np.arange(start, start + len(values))
            axes.plot(x, np.array(values, float), color=look.color, linewidth=0.5, alpha=0.5)
    length = min(map(len, seeds))
    mean = np.mean([np.array(values[:length], float) for values in seeds], axis=0)
    axes.plot(np.arange(start, start + length), mean, **panels.line_of(look), markevery=panels.marks(phase))


def _title(figure: Figure, numbers: Mapping[str, Any], title: str) -> None:
    task, counts = numbers["task"], {len(agent["seeds"]) for agent in numbers["agents"].values()}
    seeds = " to ".join(map(str, sorted({min(counts), max(counts)})))
    shown = "1 seed" if counts == {1} else f"{seeds} seeds, the mean and each seed"
    figure.suptitle(
        f"{title}\nmaze of size {task['size']}, episodes of {task['episode_length']} steps; {shown}", size=10.5
    )
