"""The maze, against a plain rewrite of its rules."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnm_jax.tasks import maze
from mnm_jax.tasks.maze import Maze, Params

pytestmark = pytest.mark.usefixtures("quick_compilation")

PARAMS = Params(reward=3.0, wall_penalty=0.25, episode_length=40)


@pytest.mark.parametrize(("size", "count"), [(5, 9), (7, 21), (9, 41), (11, 65), (13, 97)])
def test_there_are_as_many_free_cells_as_published(size, count):
    environment = Maze(size)
    assert len(environment.free_cells) == count
    assert environment.free_cells[environment.center].tolist() == [size // 2, size // 2]


def test_the_maze_is_drawn_with_walls_agent_and_reward():
    _, state = Maze(7).reset(jax.random.key(0))
    state = state._replace(reward_position=jnp.array([1, 5]))
    expected = ["#######", "#....R#", "#.#.#.#", "#..A..#", "#.#.#.#", "#.....#", "#######"]
    assert Maze(7).draw(state).splitlines() == expected


@pytest.mark.parametrize("size", [3, 6, 0, 5.0, True])
def test_impossible_sizes_are_refused(size):
    with pytest.raises(ValueError, match="size must be an odd number"):
        Maze(size)


def rollout(environment, params, rng, actions):
    """Every transition of an episode, with the state before it and after it."""

    def body(state, step):
        rng, action = step
        observation, next_state, reward, terminated, truncated, _ = environment.step_env(rng, state, action, params)
        return next_state, (state, observation, next_state, reward, terminated, truncated)

    rng, rng_reset = jax.random.split(rng)
    start = environment.reset(rng_reset, params)
    return start, jax.lax.scan(body, start[1], (jax.random.split(rng, len(actions)), actions))[1]


@pytest.mark.parametrize("size", [5, 9])
def test_ten_thousand_random_steps_follow_the_rules(size):
    environment, num_episodes, num_steps = Maze(size), 125, 40
    actions = np.random.default_rng(0).integers(0, 4, (num_episodes, num_steps))
    run = jax.jit(jax.vmap(lambda rng, actions: rollout(environment, PARAMS, rng, actions)))
    (first, _), steps = jax.device_get(run(jax.random.split(jax.random.key(1), num_episodes), jnp.array(actions)))
    before, observations, after, rewards, terminated, truncated = steps

    def is_wall(row, column):
        if row in (0, size - 1) or column in (0, size - 1):
            return True
        return row % 2 == 0 and column % 2 == 0 and (row, column) != (size // 2, size // 2)

    def see(position, time, reward, action):
        row, column = position
        around = [is_wall(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        return [*around, 0, 1, time / 40, reward, *(float(action == i) for i in range(4))]

    num_found = 0
    for episode in range(num_episodes):
        position = (size // 2, size // 2)
        goal = tuple(before.reward_position[episode, 0])
        assert goal != position
        assert not is_wall(*goal)
        np.testing.assert_allclose(first[episode], see(position, 0, 0, 0))
        for t, action in enumerate(actions[episode]):
            assert tuple(before.position[episode, t]) == position
            move = {0: (-1, 0), 1: (1, 0), 2: (0, -1), 3: (0, 1)}[int(action)]
            target = (position[0] + move[0], position[1] + move[1])
            reward = 0.0
            if is_wall(*target):
                reward -= 0.25
            else:
                position = target
            if position == goal:
                reward += 3.0
                num_found += 1
                # Anywhere else that is free: adopted from there on.
                position = tuple(int(x) for x in after.position[episode, t])
                assert position != goal
                assert not is_wall(*position)
            assert tuple(after.position[episode, t]) == position
            assert tuple(after.reward_position[episode, t]) == goal
            assert rewards[episode, t] == reward
            assert not terminated[episode, t]
            assert truncated[episode, t] == (t == 39)
            np.testing.assert_allclose(observations[episode, t], see(position, t + 1, reward, action), rtol=1e-6)
    assert num_found > 50


def test_rewards_and_moved_agents_are_anywhere_with_the_same_probability():
    environment = Maze(5)
    rngs = jax.random.split(jax.random.key(2), 4000)
    _, states = jax.vmap(environment.reset)(rngs)

    def find(rng):
        state = states._replace(position=jnp.array([1, 2]), reward_position=jnp.array([1, 1]), time=jnp.int32(0))
        state = state._replace(previous_reward=0.0, previous_action=jnp.int32(0))
        return environment.step_env(rng, state, 2)[1].position

    for positions, excluded in ((states.reward_position, (2, 2)), (jax.vmap(find)(rngs), (1, 1))):
        cells, counts = np.unique(np.asarray(positions), axis=0, return_counts=True)
        others = [tuple(cell) for cell in environment.free_cells if tuple(cell) != excluded]
        assert [tuple(cell) for cell in cells] == others
        # Chi-square with 7 degrees of freedom: above 24.3 with probability 0.001.
        assert np.sum((counts - 500) ** 2 / 500) < 24.3


def test_the_step_after_the_last_is_the_first_of_the_next_episode():
    environment, params = Maze(5), Params(episode_length=2)
    step = jax.jit(environment.step)
    _, state = environment.reset(jax.random.key(0), params)
    observation, state, _, terminated, truncated, info = step(jax.random.key(1), state, 0, params)
    assert (bool(terminated), bool(truncated), int(state.time)) == (False, False, 1)
    np.testing.assert_array_equal(info["final_observation"], observation)
    observation, state, _, terminated, truncated, info = step(jax.random.key(2), state, 0, params)
    assert (bool(terminated), bool(truncated), int(state.time)) == (False, True, 0)
    assert info["final_observation"][11] == 1
    assert observation[11] == 0
    assert state.position.tolist() == [2, 2]


def test_one_may_map_over_parameters_and_types_do_not_change():
    environment = Maze(5)
    observation, state = environment.reset(jax.random.key(0))
    assert observation.shape == (environment.observation_size,)
    # Left of the centre is a free cell; the reward is there.
    state = state._replace(reward_position=jnp.array([2, 1], jnp.int32))
    params = Params(reward=jnp.array([1.0, 5.0]), wall_penalty=jnp.zeros(2), episode_length=jnp.array([7, 9]))
    _, states, rewards, *_ = jax.vmap(lambda params: environment.step(jax.random.key(1), state, 2, params))(params)
    assert rewards.tolist() == [1, 5]
    assert jax.tree.map(lambda x: x.dtype, states) == jax.tree.map(lambda x: x.dtype, state)


@pytest.mark.parametrize(
    ("size", "length", "random", "shortest"),
    [(5, 60, 35.3, 294.6), (9, 200, 14.37, 416.2), (11, 200, 7.72, 324.2), (13, 200, 5.38, 269.6)],
)
def test_reference_levels_are_those_computed_elsewhere(size, length, random, shortest):
    levels = maze.reference_levels(Maze(size), Params(episode_length=length))
    assert levels["random walk"] == pytest.approx(random, abs=0.05)
    assert levels["shortest paths"] == pytest.approx(shortest, abs=0.1)


def test_the_level_of_a_random_walk_is_what_one_earns():
    environment, num_episodes = Maze(5), 2000
    actions = jax.random.randint(jax.random.key(2), (num_episodes, 12), 0, 4)
    run = jax.jit(jax.vmap(lambda rng, actions: rollout(environment, PARAMS, rng, actions)[1][3]))
    rewards = np.asarray(run(jax.random.split(jax.random.key(3), num_episodes), actions)).sum(axis=1)
    level = maze.reference_levels(environment, PARAMS._replace(episode_length=12))["random walk"]
    assert abs(rewards.mean() - level) < 4 * rewards.std() / num_episodes**0.5


def test_what_is_no_action_is_refused_or_brings_no_number():
    environment, key = Maze(np.int64(5)), jax.random.key(0)
    _, state = environment.reset(key)
    for action in (jnp.zeros(4, int), 1.5, jnp.float32(1), True):
        with pytest.raises(AssertionError, match="argument 'action': wants a single integer"):
            environment.step(key, state, action)
    for action in (-1, 4):
        with pytest.raises(ValueError, match=f"argument 'action': wants integers of 0 to 3, got {action}"):
            environment.step(key, state, action)
    rewards = jax.jit(jax.vmap(lambda action: environment.step(key, state, action)[2]))(jnp.arange(-1, 5))
    np.testing.assert_array_equal(np.isnan(rewards), [True, False, False, False, False, True])
    with pytest.raises(ValueError, match="episode_length"):
        maze.reference_levels(environment, Params(episode_length=0))


def test_an_agent_written_for_gymnax_finds_what_it_asks_for():
    environment, params, key = Maze(5), Params(reward=3.0, wall_penalty=0.5), jax.random.key(0)
    assert environment.name == "Maze"
    actions, observations = environment.action_space(params), environment.observation_space(params)
    assert (actions.n, actions.shape, environment.num_actions) == (4, (), 4)
    assert observations.shape == (environment.observation_size,)
    assert (float(observations.low), float(observations.high)) == (-0.5, 3)
    sampled = jax.vmap(actions.sample)(jax.random.split(key, 50))
    assert sampled.dtype == actions.dtype
    assert set(sampled.tolist()) == {0, 1, 2, 3}
    assert [bool(actions.contains(x)) for x in (-1, 0, 3, 4)] == [False, True, True, False]
    sampled = observations.sample(key)
    assert (sampled.shape, sampled.dtype) == (observations.shape, observations.dtype)
    assert observations.contains(sampled)
    assert not observations.contains(sampled + 10)

    def episode(key):
        """As PureJaxRL collects its transitions: `None`, or the parameters, in the place of the parameters."""
        observation, state = environment.reset(key, params)

        def body(carry, key):
            action = environment.action_space(None).sample(key)
            observation, state, reward, *_ = environment.step(key, carry[1], action, params)
            return (observation, state), (observation, reward)

        return jax.lax.scan(body, (observation, state), jax.random.split(key, 40))[1]

    seen, rewards = jax.jit(jax.vmap(episode))(jax.random.split(key, 20))
    assert observations.contains(seen)
    assert {-0.5, 0, 3} <= set(np.unique(rewards).tolist())
    default = environment.reset(key, None), environment.reset(key, environment.default_params)
    jax.tree.map(np.testing.assert_array_equal, *default)
