"""Figures of what the memory does in the maze, from the numbers that `experiments.maze_memory` writes.

Axes: `S` seeds, `X` points on the horizontal axis.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
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
    """What an agent does when the reward moves: how soon it finds the new place, and how often it goes to the old one.

    Args:
      numbers: what `experiments.maze_memory` writes.
    """
    figure = Figure(figsize=(_WIDTH, 9.5), layout="constrained", dpi=150)
    rows: list[Any] = [["found_before", "found_after"], ["before", "after"], ["arrivals_at_old", "arrivals_at_old"]]
    all_axes: dict[str, Axes] = figure.subplot_mosaic(rows)
    for left, right in rows[:2]:
        all_axes[right].sharey(all_axes[left])
    for name, axes in all_axes.items():
        _plot_agents(axes, numbers, "following", name, 1)
    for axes in all_axes.values():
        axes.set_ylim(bottom=0)  # When all are drawn, for this fixes the upper limit too.
    all_axes["found_before"].set(ylim=(0, 1.03), ylabel="reward found\n(fraction of episodes)")
    all_axes["found_before"].set_xlabel("steps since the start")
    all_axes["found_after"].set_xlabel("steps since the move")
    all_axes["before"].set_ylabel("steps since the visit before,\nor since the start or the move")
    all_axes["before"].set_xlabel("visit to the reward, since the start")
    all_axes["after"].set_xlabel("visit to the reward, since the move")
    all_axes["arrivals_at_old"].set_ylabel("arrivals at the old place\n(mean of a search)")
    all_axes["arrivals_at_old"].set_xlabel("search for the new place")
    looks = style.styles(list(numbers["agents"]))
    lost = [
        looks[model].label
        for model, agent in numbers["agents"].items()
        if any(not of_seed["following"]["after"] for of_seed in agent["seeds"])
    ]
    if lost:
        # Beside "before", whose curves leave the upper part of a panel free.
        reason = "With some seed half of the episodes\nor more do not find the new place."
        note = f"Without a mean: {', '.join(lost)}.\n{reason}"
        axes = all_axes["after"]
        axes.annotate(note, (0.98, 0.98), xycoords="axes fraction", ha="right", va="top", size=panels.SMALL)
    if not any(np.size(line.get_xdata()) for line in all_axes["after"].get_lines()):
        all_axes["after"].set_xticks([])
    for name in ("found_after", "after", "arrivals_at_old"):
        panels.name_ends(all_axes[name])  # All of them are in the legend too.
    panels.legend(figure, [Line2D([], [], **panels.line_of(look)) for look in looks.values()])
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
    if axes.get_xlim()[1] < start + 1:
        axes.set_xlim(start - 1, start + 1)


def _plot(axes: Axes, seeds: Sequence[Sequence[float | None]], start: int, look: style.Style, *, phase: float) -> None:
    """Each seed as a thin line, and the mean as far as all seeds go."""
    if len(seeds) > 1:
        for values in seeds:
            x = np.arange(start, start + len(values))
            axes.plot(x, np.array(values, float), color=look.color, linewidth=0.5, alpha=0.5)
    length = min(map(len, seeds))
    mean = np.mean([np.array(values[:length], float) for values in seeds], axis=0)
    marks = panels.marks(phase) if length > 1 else None  # A single point is a mark or nothing.
    axes.plot(np.arange(start, start + length), mean, **panels.line_of(look), markevery=marks)


def _title(figure: Figure, numbers: Mapping[str, Any], title: str) -> None:
    task, counts = numbers["task"], {len(agent["seeds"]) for agent in numbers["agents"].values()}
    seeds = " to ".join(map(str, sorted({min(counts), max(counts)})))
    shown = "1 seed" if counts == {1} else f"{seeds} seeds, the mean and each seed"
    figure.suptitle(
        f"{title}\nmaze of size {task['size']}, episodes of {task['episode_length']} steps; {shown}", size=10.5
    )
