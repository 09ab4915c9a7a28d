"""What agents remember of the reward's place, on agents of which it is known."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mnm_jax as mnm
from experiments import maze as program
from mnm_jax import models
from mnm_jax.analysis import maze_memory, maze_memory_figures
from mnm_jax.analysis.maze_memory import MovingMaze, Remembered
from mnm_jax.tasks import MazeTask
from mnm_jax.tasks.maze import Params

pytestmark = pytest.mark.usefixtures("quick_compilation")

TASK = MazeTask(size=5, episode_length=12)


def test_a_decoder_knows_what_was_remembered_and_nothing_before():
    """From step 3 on the features are the one-hot cell; the action of step 4 finds the reward."""
    rng = np.random.default_rng(0)
    cells = rng.integers(0, 8, 400)
    features = rng.normal(size=(400, 6, 8))
    features[:, 3:] = np.eye(8)[cells][:, None]
    rewards = np.zeros((400, 6))
    rewards[:, 4] = 10
    knowledge = maze_memory.decode(Remembered(features, cells, rewards), num_cells=9)
    np.testing.assert_array_equal(knowledge.by_step[3:], 1)
    assert (knowledge.by_step[:3] < 0.3).all()
    assert knowledge.chance == 1 / 8
    assert knowledge.by_visits[1] == 1
    np.testing.assert_allclose(knowledge.by_visits[0], knowledge.by_step[:5].mean())
    with pytest.raises(ValueError, match="train_share must leave episodes"):
        maze_memory.decode(Remembered(features, cells, rewards), 9, train_share=1.0)


@pytest.mark.parametrize(("name", "width"), [("mnm_p", 3), ("lstm", 4), ("plastic", 4)])
def test_features_are_what_the_memory_returned_or_the_hidden_state(name, width):
    settings = models.ModelSettings(4, 3, num_layers=2)
    cell = models.build(name, settings, output_size=5, vocabulary_size=None, num_steps=TASK.num_steps)
    variables = cell.init(jax.random.key(0), None, jnp.zeros(17))
    remembered = maze_memory.remember(TASK, cell, variables, jax.random.key(1), 3)
    assert remembered.features.shape == (3, 12, width)
    assert remembered.rewards.shape == (3, 12)
    assert (remembered.cells != TASK.environment.center).all()
    life = TASK.act(jax.random.split(jax.random.key(1), 3)[0], mnm.policy(cell, variables))
    run = mnm.unroll(cell, variables, life.inputs)
    last = {"mnm_p": lambda: run.carry.read, "lstm": lambda: run.carry[1], "plastic": lambda: run.carry.hidden}[name]()
    np.testing.assert_allclose(remembered.features[0, -1], last, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(TASK.environment.free_cells[remembered.cells[0]], life.reward_position)


def test_the_reward_moves_once_to_another_cell():
    environment, params = MovingMaze(5, move_at=2), Params(episode_length=9)
    _, start = environment.reset(jax.random.key(0), params)

    def body(state, key):
        # Up and down between the centre and the cell above.
        state = environment.step_env(key, state, state.time % 2, params)[1]
        return state, state.reward_position

    run = jax.jit(jax.vmap(lambda key: jax.lax.scan(body, start, jax.random.split(key, 9))[1]))
    positions = np.asarray(run(jax.random.split(jax.random.key(1), 300)))
    old, center = np.asarray(start.reward_position), environment.free_cells[environment.center]
    assert (positions[:, :2] == old).all()
    assert (positions[:, 2:] == positions[:, 2:3]).all()
    assert not (positions[:, 2] == old).all(axis=-1).any()
    assert not (positions[:, 2] == center).all(axis=-1).any()
    assert len(np.unique(positions[:, 2], axis=0)) == 7


class Walker(nn.Module):
    """Walks at random."""

    @nn.nowrap
    def initial_carry(self):
        return jnp.zeros(1)

    @nn.compact
    def __call__(self, carry, inputs):
        return self.initial_carry(), (self.param("logits", nn.initializers.zeros, (5,), jnp.float32), ())


def test_one_who_remembers_nothing_searches_as_long_after_the_move_as_ever():
    task = MazeTask(size=5, episode_length=240)
    variables = Walker().init(jax.random.key(0), None, jnp.zeros(17))
    following = maze_memory.follow(task, Walker(), variables, jax.random.key(1), 400, move_at=120)
    assert len(following.before) >= 4
    usual = following.before[1:4].mean()
    assert 10 < usual < 20
    assert abs(following.after[:4].mean() - usual) < 0.2 * usual
    # It comes to the old place about as often as to the new one; nothing moves it away from there.
    assert len(following.arrivals_at_old) == len(following.after) + 1
    assert 0.6 < following.arrivals_at_old[:4].mean() < 2
    assert following.visits == 1
    assert len(following.found_before) == len(following.found_after) == 120
    np.testing.assert_allclose(following.found_before[::20], following.found_after[::20], atol=0.15)
    assert (np.diff(following.found_after) >= 0).all()
    for move_at in (0, 240):
        with pytest.raises(ValueError, match="move_at"):
            maze_memory.follow(task, Walker(), variables, jax.random.key(1), 2, move_at)


def test_one_who_never_finds_the_new_place_has_no_search_to_show_but_is_seen_at_the_old_one(monkeypatch):
    """It goes up and down beside the centre: the reward is there at first, and is moved away."""
    rewards, positions = np.zeros((4, 8)), np.zeros((4, 9, 2))
    rewards[:, 1] = 10
    positions[:, [2, 4, 6, 8]] = 1
    lives = maze_memory.MovedLifetime(rewards, positions, np.ones((4, 2)))
    monkeypatch.setattr(maze_memory, "_act", lambda *_: lives)
    following = maze_memory.follow(TASK, None, None, None, 4, move_at=4)
    np.testing.assert_array_equal(following.found_before, [0, 1, 1, 1])
    np.testing.assert_array_equal(following.found_after, np.zeros(4))
    np.testing.assert_array_equal(following.before, [2])
    assert len(following.after) == 0
    np.testing.assert_array_equal(following.arrivals_at_old, [2])
    assert np.isnan(following.visits)


def test_an_episode_is_shown_step_by_step():
    cell = models.build("rnn", models.ModelSettings(4, 3), output_size=5, vocabulary_size=None, num_steps=12)
    variables = cell.init(jax.random.key(0), None, jnp.zeros(17))
    life = jax.device_get(TASK.act(jax.random.key(2), mnm.policy(cell, variables)))
    pictures = list(program.frames(TASK, life))
    assert len(pictures) == 13
    assert pictures[0].splitlines() == [*pictures[0].splitlines()[:5], "step 0 of 12"]
    for picture, position in zip(pictures, life.positions, strict=True):
        rows = picture.splitlines()
        assert rows[position[0]][position[1]] == "A"
        assert sum(row.count("A") for row in rows[:5]) == 1
    action = ("up", "down", "left", "right")[life.actions[-1]]
    last = f"step 12 of 12: {action}, visits {int(life.is_visit.sum())}, reward {life.rewards.sum():g}"
    assert pictures[-1].splitlines()[-1] == last


def numbers_of(**agents):
    """What `experiments.maze_memory` writes, of agents with so many seeds each."""
    knowledge = {"by_step": [0.1, 0.5, 0.9], "by_visits": [0.2, None, 0.9], "chance": 0.125}
    following = {
        "found_before": [0.2, 0.9, 1.0],
        "found_after": [0.1, 0.3, 0.6],
        "before": [5.0, 2],
        "after": [40.0, 4, 2],
        "arrivals_at_old": [2.0, 1, 0, 0],
        "visits": 2.0,
    }
    seed = {"knowledge": knowledge, "following": following}
    of_agents = {name: {"update": 3, "seeds": [seed] * num_seeds} for name, num_seeds in agents.items()}
    return {"task": {"size": 5, "episode_length": 6}, "episodes": 8, "agents": of_agents}, following


def test_what_agents_know_and_whether_they_follow_is_drawn():
    numbers, following = numbers_of(mnm_p=2, lstm=1)
    about = "\nmaze of size 5, episodes of 6 steps; 1 to 2 seeds"
    knowledge = maze_memory_figures.knowledge(numbers)
    assert knowledge.get_suptitle().startswith(f"When does the agent know where the reward is?{about}")
    drawn = maze_memory_figures.following(numbers)
    assert drawn.get_suptitle().startswith(f"The reward moves after 3 steps: does the agent follow?{about}")
    found_before, found_after, before, after, arrivals = drawn.axes
    for axes in (*knowledge.axes, found_after, after, arrivals):
        assert {"MNM-p", "LSTM"} <= {text.get_text() for text in axes.texts}
    assert {text.get_text() for text in drawn.legends[0].get_texts()} == {"MNM-p", "LSTM"}
    assert all(axes.get_xlabel() for axes in (*knowledge.axes, *drawn.axes))
    assert all(axes.get_ylabel() for axes in (*knowledge.axes, found_before, before, arrivals))
    for name, axes in zip(
        ("found_before", "found_after", "before", "after", "arrivals_at_old"), drawn.axes, strict=True
    ):
        # The mean of both seeds of MNM-p is the thick line, and all of it is within the panel.
        (line,) = [line for line in axes.get_lines() if line.get_label() == "MNM-p"]
        np.testing.assert_array_equal(line.get_ydata(), following[name])
        assert axes.get_ylim()[0] == 0
        assert axes.get_ylim()[1] >= max(following[name])
    assert before.get_ylim() == after.get_ylim()
    alone, _ = numbers_of(lstm=1)
    assert maze_memory_figures.following(alone).get_suptitle().endswith("of 6 steps; 1 seed")


def test_an_agent_that_does_not_find_the_new_place_has_a_panel_that_says_so():
    numbers, following = numbers_of(mnm_p=1)
    following |= {"after": [], "arrivals_at_old": [3.0]}
    *_, after, arrivals = maze_memory_figures.following(numbers).axes
    assert [text.get_text().splitlines()[0] for text in after.texts] == ["Without a mean: MNM-p."]
    (line,) = arrivals.get_lines()
    assert line.get_markevery() is None  # A line of one point is not seen.
    assert arrivals.get_xlim() == (0, 2)
