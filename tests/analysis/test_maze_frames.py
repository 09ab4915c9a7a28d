"""Pictures of an agent in the maze."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from mnm_jax.analysis import maze, style
from mnm_jax.tasks.maze import Maze

# From the centre up and left onto the reward at (1, 1); from there to (3, 3), and one step to the left.
POSITIONS = np.array([[2, 2], [1, 2], [3, 3], [3, 2]])
REWARDS = np.array([0.0, 10.0, 0.0])
GOAL = np.array([1, 1])


def draw(time):
    axes = Figure().subplots()
    maze.draw_frame(axes, Maze(5), POSITIONS, GOAL, REWARDS, time)
    return axes


@pytest.mark.parametrize(
    ("time", "title", "path"),
    [
        (0, "step 0   visits 0   reward 0", [(2, 2)]),
        (1, "step 1   visits 0   reward 0", [(2, 2), (1, 2)]),
        (2, "step 2   visits 1   reward 10", [(3, 3)]),
        (3, "step 3   visits 1   reward 10", [(3, 3), (3, 2)]),
    ],
)
def test_a_frame_shows_the_path_since_the_agent_was_moved(time, title, path):
    axes = draw(time)
    assert axes.get_title() == title
    columns, rows = axes.lines[0].get_data()
    assert list(zip(rows, columns, strict=True)) == path
    # The star is there at the step that found the reward.
    assert len(axes.lines) == (2 if time == 2 else 1)
    palette = {look.color for look in style.KNOWN.values()}
    assert {line.get_color() for line in axes.lines} <= palette
    assert {to_hex(patch.get_facecolor()).upper() for patch in axes.patches} <= palette


def test_arguments_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="time must be of 0 to 3, got 4"):
        draw(4)
    for name, arguments in (("positions", (POSITIONS[1:], GOAL)), ("reward_position", (POSITIONS, GOAL[:1]))):
        with pytest.raises(AssertionError, match=f"'{name}'"):
            maze.draw_frame(Figure().subplots(), Maze(5), *arguments, REWARDS, 0)


def test_a_film_has_a_picture_for_each_step_and_the_start(tmp_path):
    maze.save_gif(tmp_path / "film.gif", Maze(5), POSITIONS, GOAL, REWARDS)
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == 4
