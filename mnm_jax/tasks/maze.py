"""A maze with a hidden reward: what is found once in an episode can be found again, by who remembers where it was.

Source: Miconi, Clune and Stanley, "Differentiable plasticity", ICML 2018, section 4.4; Miconi et al., "Backpropamine",
ICLR 2019, section 4.2. The interface is that of gymnax 1.0: explicit state and parameters, pure functions of ONE
environment, `terminated` and `truncated` apart, and spaces.

Axes: `N` free cells. Positions are `[2]`, a row and a column.
"""

import dataclasses
import functools
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mnm_jax import _checks
from mnm_jax.tasks.actor_critic import step_or_restart
from mnm_jax.tasks.spaces import Box, Discrete

# What an action adds to the position: up, down, left, right.
MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))

Info = dict[str, Any]
Transition = tuple[jax.Array, "State", jax.Array, jax.Array, jax.Array, Info]


class Params(NamedTuple):
    """What one may map over, each `[]`.

    Attributes:
      reward: for stepping onto the hidden cell.
      wall_penalty: what a step into a wall costs.
      episode_length: steps of an episode.
    """

    reward: float | jax.Array = 10.0
    wall_penalty: float | jax.Array = 0.0
    episode_length: int | jax.Array = 200


class State(NamedTuple):
    """Where things are.

    Attributes:
      position: `[2]`, of the agent.
      reward_position: `[2]`, the hidden cell, the same for the whole episode.
      time: `[]`, steps since the start of the episode.
      previous_reward: `[]`, what the last step brought, 0 at the start.
      previous_action: `[]`, the last action, 0 at the start.
    """

    position: jax.Array
    reward_position: jax.Array
    time: jax.Array
    previous_reward: jax.Array
    previous_action: jax.Array


@dataclasses.dataclass(frozen=True)
class Maze:
    """A square with a ring of wall, and a pillar wherever row and column are both even, but for the centre.

    The agent starts at the centre. The reward's cell is any free one but the centre. An agent that steps onto it is
    rewarded and at once moved to any other free cell. An episode ends after `Params.episode_length` steps, by
    truncation; nothing terminates it.

    Example:
      >>> maze, params = Maze(9), Params()
      >>> observation, state = maze.reset(key, params)
      >>> observation, state, reward, terminated, truncated, info = maze.step(key, state, action, params)

    Attributes:
      size: of the square with its walls, odd.
    """

    size: int = 9

    name: ClassVar[str] = "Maze"
    num_actions: ClassVar[int] = len(MOVES)
    observation_size: ClassVar[int] = 17
    default_params: ClassVar[Params] = Params()

    def __post_init__(self) -> None:
        if not _checks.is_whole(self.size) or self.size < 5 or self.size % 2 == 0:
            raise ValueError(f"size must be an odd number of at least 5, got {self.size!r}")

    @property
    def walls(self) -> np.ndarray:
        """`[size, size]`, true where nobody can go."""
        return _layout(self.size)[0]

    @property
    def free_cells(self) -> np.ndarray:
        """`[N, 2]`, the positions where one can be, row by row."""
        return _layout(self.size)[1]

    @property
    def center(self) -> int:
        """The index of the centre among the free cells."""
        return int(_layout(self.size)[2][self.size // 2, self.size // 2])

    def action_space(self, params: Params | None = None) -> Discrete:
        """What an agent can do: 0 to 3 for up, down, left and right."""
        del params
        return Discrete(self.num_actions)

    def observation_space(self, params: Params | None = None) -> Box:
        """What an agent can see; see `observe`."""
        params = self.default_params if params is None else params
        low, high = jnp.minimum(0.0, -params.wall_penalty), jnp.maximum(1.0, params.reward)
        return Box(low, high, (self.observation_size,))

    def reset(self, key: jax.Array, params: Params | None = None) -> tuple[jax.Array, State]:
        """Starts an episode.

        Args:
          key: a random key.
          params: of the environment; `None` for `default_params`, here and elsewhere.

        Returns:
          The observation, see `observe`, and the state.

        Raises:
          AssertionError: if there is no random key.
        """
        _checks.check_key("key", key)
        state = State(
            position=self._cell(self.center),
            reward_position=self._draw_other_than(key, self.center),
            time=jnp.zeros((), jnp.int32),
            previous_reward=jnp.zeros((), jnp.float32),
            previous_action=jnp.zeros((), jnp.int32),
        )
        return self.observe(state, params), state

    def step(self, key: jax.Array, state: State, action: int | jax.Array, params: Params | None = None) -> Transition:
        """One step; after the last one of an episode the next begins.

        Args:
          key: a random key.
          state: the state.
          action: `[]`, an integer: 0 to 3 for up, down, left and right. A traced one that is none of these makes the
            reward NaN.
          params: of the environment.

        Returns:
          The observation, the state, the reward `[]`, `terminated`, which is false, `truncated`, and a dictionary with
          the `final_observation`: what there is to see after the step, also where the observation is already that of
          the next episode.

        Raises:
          AssertionError: if the action is not a single integer.
          ValueError: if it is known, and none of the four.
        """
        return step_or_restart(self, key, state, action, params)

    def step_env(
        self, key: jax.Array, state: State, action: int | jax.Array, params: Params | None = None
    ) -> Transition:
        """One step that begins no new episode; otherwise as `step`."""
        params = self.default_params if params is None else params
        _checks.check_key("key", key)
        _checks.check_index("action", action, (), self.num_actions)
        action = jnp.asarray(action, jnp.int32)
        target = state.position + jnp.array(MOVES, jnp.int32)[action]
        is_wall = jnp.asarray(self.walls)[target[0], target[1]]
        position = jnp.where(is_wall, state.position, target)
        is_found = jnp.all(position == state.reward_position)
        reward_index = jnp.asarray(_layout(self.size)[2])[state.reward_position[0], state.reward_position[1]]
        position = jnp.where(is_found, self._draw_other_than(key, reward_index), position)
        reward = jnp.where(is_found, params.reward, 0.0) - jnp.where(is_wall, params.wall_penalty, 0.0)
        reward = jnp.where(self.action_space().contains(action), reward, jnp.nan).astype(jnp.float32)
        state = State(position, state.reward_position, state.time + 1, reward, action)
        truncated = state.time >= params.episode_length
        return self.observe(state, params), state, state.previous_reward, jnp.zeros((), bool), truncated, {}

    def observe(self, state: State, params: Params | None = None) -> jax.Array:
        """What the agent sees.

        Returns:
          `[17]`: the nine cells around it row by row, 1 for a wall; a 0; a 1; the share of the episode that is over;
          the last reward; the last action, one-hot.
        """
        params = self.default_params if params is None else params
        around = jax.lax.dynamic_slice(jnp.asarray(self.walls, jnp.float32), state.position - 1, (3, 3))
        share = jnp.asarray(state.time / params.episode_length, jnp.float32)
        rest = jnp.array([0, 1, 0, 0], jnp.float32).at[2].set(share).at[3].set(state.previous_reward)
        action = jax.nn.one_hot(state.previous_action, self.num_actions, dtype=jnp.float32)
        return jnp.concatenate([around.reshape(-1), rest, action])

    def _cell(self, index: jax.Array | int) -> jax.Array:
        return jnp.asarray(self.free_cells, jnp.int32)[index]

    def _draw_other_than(self, key: jax.Array, index: jax.Array | int) -> jax.Array:
        """A free cell, any but the one of this index with the same probability."""
        drawn = jax.random.randint(key, (), 0, len(self.free_cells) - 1, jnp.int32)
        return self._cell(drawn + (drawn >= index))

    def draw(self, state: State) -> str:
        """The maze as text: walls `#`, the agent `A`, the hidden reward `R`."""
        rows = [["#" if is_wall else "." for is_wall in row] for row in self.walls]
        for mark, (row, column) in (("R", np.asarray(state.reward_position)), ("A", np.asarray(state.position))):
            rows[row][column] = mark
        return "\n".join(map("".join, rows))


@functools.lru_cache
def _layout(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The walls `[size, size]`, the free cells `[N, 2]`, and the index of each, `[size, size]`, -1 for a wall."""
    row, column = np.indices((size, size))
    walls = (np.minimum(row, column) == 0) | (np.maximum(row, column) == size - 1) | ((row | column) % 2 == 0)
    walls[size // 2, size // 2] = False
    indices = np.where(walls, -1, np.cumsum(~walls).reshape(size, size) - 1)
    return walls, np.argwhere(~walls), indices


def reference_levels(maze: Maze, params: Params = Maze.default_params) -> dict[str, float]:
    """What agents can be compared with, exactly, by dynamic programming.

    Args:
      maze: the maze.
      params: of the environment, none of them a tracer.

    Returns:
      The expected reward of an episode by the name of the policy: of walking at random, and of the shortest paths to a
      reward whose cell is known from the start.

    Raises:
      ValueError: if the episode has no step.
    """
    _checks.check_positive(episode_length=params.episode_length)
    goals = np.array([goal for goal in range(len(maze.free_cells)) if goal != maze.center])
    everywhere = np.ones((len(MOVES), len(goals), len(maze.free_cells))) / len(MOVES)
    shortest = np.arange(len(MOVES))[:, None, None] == _shortest_paths(maze.size)[goals]
    return {
        name: float(_expected_rewards(maze, params, goals, policy)[:, maze.center].mean())
        for name, policy in (("random walk", everywhere), ("shortest paths", shortest))
    }


def _expected_rewards(maze: Maze, params: Params, goals: np.ndarray, policy: np.ndarray) -> np.ndarray:
    """The expected reward of an episode, `[goals, N]`, from each free cell, of a policy `[actions, goals, N]`."""
    walls, cells, indices = _layout(maze.size)
    targets = cells + np.array(MOVES)[:, None]  # [actions, N, 2].
    is_wall = walls[targets[..., 0], targets[..., 1]]
    following = np.where(is_wall, np.arange(len(cells)), indices[targets[..., 0], targets[..., 1]])
    is_found = following[:, None] == goals[:, None]  # [actions, goals, N].
    gains = float(params.reward) * is_found - float(params.wall_penalty) * is_wall[:, None]
    values = np.zeros((len(goals), len(cells)))
    for _ in range(int(params.episode_length)):
        # Whoever finds the reward goes on from any other cell.
        elsewhere = (values.sum(axis=1) - values[np.arange(len(goals)), goals]) / (len(cells) - 1)
        later = np.where(is_found, elsewhere[:, None], values[:, following].swapaxes(0, 1))
        values = np.sum(policy * (gains + later), axis=0)
    return values


@functools.lru_cache
def _shortest_paths(size: int) -> np.ndarray:
    """`[N, N]`: for each goal and each cell an action that begins a shortest path to the goal."""
    _, cells, indices = _layout(size)
    actions = np.zeros((len(cells), len(cells)), np.int32)
    for goal in range(len(cells)):
        reached, frontier = {goal}, [goal]
        while frontier:
            following = []
            for cell in frontier:
                for action, move in enumerate(MOVES):
                    before = indices[tuple(cells[cell] - move)]
                    if before >= 0 and before not in reached:
                        actions[goal, before] = action
                        reached.add(before)
                        following.append(before)
            frontier = following
    return actions
