"""An agent's episode in the maze, as a picture and as a film.

Axes: `T` steps.
"""

from pathlib import Path

import chex
import numpy as np
from matplotlib.animation import FuncAnimation, PillowWriter
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

from mnm_jax.analysis import style
from mnm_jax.tasks.maze import Maze

_FRAMES_PER_SECOND = 8
_INCHES, _DOTS_PER_INCH = 2.6, 90
# Colours of models, none of which is in the picture: they are told apart by any eye.
_AGENT, _REWARD, _PATH = (style.KNOWN[model].color for model in ("mnm_p", "mnm_g", "attention"))


def draw_frame(
    axes: Axes, maze: Maze, positions: np.ndarray, reward_position: np.ndarray, rewards: np.ndarray, time: int
) -> None:
    """Draws the maze after some steps: the agent, its path since it was last moved, and the hidden reward.

    Args:
      axes: where to draw; cleared before.
      maze: the maze.
      positions: `[T + 1, 2]`, where the agent is before each step and after the last.
      reward_position: `[2]`, rows and columns as everywhere.
      rewards: `[T]`, what each step brought.
      time: how many steps were made, 0 to `T`.

    Raises:
      AssertionError: if a shape does not fit.
      ValueError: if the time is none of the episode.
    """
    num_steps = len(rewards)
    chex.assert_shape(rewards, (num_steps,), custom_message="argument 'rewards'")
    chex.assert_shape(positions, (num_steps + 1, 2), custom_message="argument 'positions'")
    chex.assert_shape(reward_position, (2,), custom_message="argument 'reward_position'")
    if not 0 <= time <= num_steps:
        raise ValueError(f"time must be of 0 to {num_steps}, got {time!r}")
    visits = np.flatnonzero(rewards[:time] > 0)
    # A step onto the reward ends elsewhere: its path leads to the reward.
    start = visits[-1] + 1 if len(visits) else 0
    path = positions[start : time + 1]

    axes.clear()
    axes.imshow(maze.walls, cmap="Greys", vmin=0, vmax=1.3, interpolation="none")
    row, column = reward_position
    axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, color=_REWARD, alpha=0.35, linewidth=0))
    axes.text(column, row, "?", color=_REWARD, ha="center", va="center", weight="bold")
    axes.plot(path[:, 1], path[:, 0], color=_PATH, linewidth=2.5, solid_capstyle="round", solid_joinstyle="round")
    just_found = len(visits) > 0 and visits[-1] == time - 1
    if just_found:
        axes.plot(column, row, marker="*", color=_REWARD, markersize=16)
    axes.add_patch(Circle(path[-1][::-1], 0.32, color=_AGENT))
    axes.set_title(f"step {time}   visits {len(visits)}   reward {rewards[:time].sum():g}", size=8)
    axes.set_xticks([])
    axes.set_yticks([])


def save_gif(
    path: str | Path, maze: Maze, positions: np.ndarray, reward_position: np.ndarray, rewards: np.ndarray
) -> None:
    """Films an episode: `T + 1` pictures, see `draw_frame`, at eight steps per second.

    Args:
      path: the file to write.
      maze: the maze.
      positions: `[T + 1, 2]`, see `draw_frame`.
      reward_position: `[2]`.
      rewards: `[T]`.

    Raises:
      AssertionError: if a shape does not fit.
    """
    figure = Figure(figsize=(_INCHES, _INCHES), dpi=_DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots()

    def draw(time: int) -> None:
        draw_frame(axes, maze, positions, reward_position, rewards, time)

    film = FuncAnimation(figure, draw, frames=len(rewards) + 1)
    film.save(path, writer=PillowWriter(fps=_FRAMES_PER_SECOND))
