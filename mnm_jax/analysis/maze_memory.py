"""What an agent's memory does in the maze: when it knows where the reward is, and whether it follows when that moves.

Axes: `S` seeds, `N` episodes, `T` steps, `F` features, `C` cells where the reward may be, `K` visits to the reward.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mnm_jax import _checks
from mnm_jax._trees import select
from mnm_jax.analysis.lifetimes import steps_to_visits
from mnm_jax.policies import policy
from mnm_jax.tasks import MazeTask, maze

PyTree = Any

_RIDGE = 1.0
_FOLLOWS = 1.5


class Remembered(NamedTuple):
    """Episodes, and what the agent had of its memory in them.

    Attributes:
      features: `[N, T, F]`, after each step what the memory returned, the mean over heads; of an agent without a memory
        to read, its hidden state.
      cells: `[N]`, the index of the reward's cell among the free ones.
      rewards: `[N, T]`.
    """

    features: np.ndarray
    cells: np.ndarray
    rewards: np.ndarray


class Knowledge(NamedTuple):
    """How well a linear decoder finds the reward's cell in what an agent remembers.

    Attributes:
      by_step: `[T]`, the share of test episodes in which it is right after so many steps.
      by_visits: `[K]`, its share of the steps before which the reward had been visited `0, 1, ...` times; NaN where
        fewer than a tenth of the test episodes have such a step.
      chance: the share of one who knows nothing.
    """

    by_step: np.ndarray
    by_visits: np.ndarray
    chance: float


class Following(NamedTuple):
    """How an agent takes it that the reward is moved in the middle of an episode.

    Attributes:
      found_before: `[move_at]`, the share of episodes in which the reward had been found after so many steps.
      found_after: `[T - move_at]`, that in which it had been found in its new place so many steps after the move.
      before: `[K]`, the steps of each search before; see `lifetimes.steps_to_visits`.
      after: `[K]`, of each search after the reward was moved; none if it is not found in half of the episodes.
      arrivals_at_old: `[K + 1]`, how often the agent comes to where the reward had been, in each search after the move
        that at least half of the episodes begin, whether it ends or not.
      visits: after so many visits to the new place the agent needs at most half as long again as before the move, the
        mean over its searches but for the first; NaN if it never does.
    """

    found_before: np.ndarray
    found_after: np.ndarray
    before: np.ndarray
    after: np.ndarray
    arrivals_at_old: np.ndarray
    visits: float


@dataclasses.dataclass(frozen=True)
class MovingMaze(maze.Maze):
    """A maze whose reward moves once, to any other free cell but the centre.

    Attributes:
      move_at: before the step of this number, from 0.
    """

    move_at: int = 0

    def step_env(
        self, key: jax.Array, state: maze.State, action: int | jax.Array, params: maze.Params | None = None
    ) -> maze.Transition:
        """See `Maze.step_env`."""
        key, key_move = jax.random.split(key)
        cells = jnp.asarray(self.free_cells, jnp.int32)
        is_taken = jnp.all(cells == state.reward_position, axis=1) | (jnp.arange(len(cells)) == self.center)
        moved = cells[jax.random.categorical(key_move, jnp.where(is_taken, -jnp.inf, 0.0))]
        reward_position = select(state.time == self.move_at, moved, state.reward_position)
        return super().step_env(key, state._replace(reward_position=reward_position), action, params)


class MovedLifetime(NamedTuple):
    """An episode in a `MovingMaze`.

    Attributes:
      rewards: `[T]`.
      positions: `[T + 1, 2]`, of the agent.
      old_position: `[2]`, of the reward before it moved.
    """

    rewards: jax.Array
    positions: jax.Array
    old_position: jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class MovingMazeTask(MazeTask):
    """The maze with a reward that moves.

    Attributes:
      move_at: see `MovingMaze`.
    """

    move_at: int

    @property
    def environment(self) -> MovingMaze:
        """The maze."""
        return MovingMaze(self.size, self.move_at)

    def record(self, inputs: jax.Array, actions: jax.Array, rewards: jax.Array, states: maze.State) -> Any:
        """A `MovedLifetime`."""
        del inputs, actions
        return MovedLifetime(rewards, states.position, states.reward_position[0])


@functools.partial(jax.jit, static_argnums=(0, 1, 4))
def _act(task: MazeTask, cell: nn.Module, variables: PyTree, rng: jax.Array, num_episodes: int) -> Any:
    act = functools.partial(task.act, policy=policy(cell, variables))
    return jax.vmap(act)(jax.random.split(rng, num_episodes))


@functools.partial(jax.jit, static_argnums=0)
def _features(cell: nn.Module, variables: PyTree, inputs: jax.Array) -> jax.Array:
    """What is remembered after each step of an episode `[T, ...]`: `[T, F]`."""
    agent = policy(cell, variables)

    def body(carry: PyTree, inputs: jax.Array) -> tuple[PyTree, jax.Array]:
        carry, (_, trace) = cell.apply(variables, carry, inputs)
        if (read := getattr(trace, "read_values", None)) is not None:
            return carry, read.mean(axis=0)
        return carry, _hidden(carry)

    return jax.lax.scan(body, agent.start(inputs[0]), inputs)[1]


def _hidden(carry: PyTree) -> jax.Array:
    """The activity in the state of an agent without a memory to read.

    Raises:
      ValueError: if the state is of another kind.
    """
    if isinstance(carry, tuple) and len(carry) == 2 and all(isinstance(part, jax.Array) for part in carry):
        _, hidden = carry  # Of an LSTM.
    else:
        hidden = getattr(carry, "hidden", None)
    if isinstance(hidden, jax.Array):
        return hidden
    raise ValueError(f"an agent whose state is a {type(carry).__name__} has nothing to decode that is known")


def remember(task: MazeTask, cell: nn.Module, variables: PyTree, rng: jax.Array, num_episodes: int) -> Remembered:
    """Lets an agent live for episodes, and keeps what it remembers in them.

    Args:
      task: the maze.
      cell: the agent.
      variables: its variables.
      rng: a random key.
      num_episodes: `N`.

    Raises:
      ValueError: if the agent has neither a memory that is read nor a hidden state.
    """
    lives = _act(task, cell, variables, rng, num_episodes)
    features = jax.vmap(functools.partial(_features, cell, variables))(lives.inputs)
    is_cell = np.all(np.asarray(lives.reward_position)[:, None] == task.environment.free_cells, axis=-1)
    return Remembered(np.asarray(features), is_cell.argmax(axis=1), np.asarray(lives.rewards))


def decode(remembered: Remembered, num_cells: int, train_share: float = 0.75) -> Knowledge:
    """Decodes the reward's cell linearly from what is remembered, after each step by a decoder of its own.

    The decoder is the ridge regression of the one-hot cell on the standardised features, fitted on the first episodes
    and tested on the others; its answer is the cell with the largest output.

    Args:
      remembered: the episodes.
      num_cells: of the free cells.
      train_share: of the episodes that the decoders are fitted on.

    Raises:
      ValueError: if there are no episodes to fit on, or none to test on.
    """
    features, cells, rewards = remembered
    num_train = int(train_share * len(cells))
    if not 0 < num_train < len(cells):
        raise ValueError(f"train_share must leave episodes to fit on and to test on, got {train_share!r}")
    targets = np.eye(num_cells)[cells]
    is_right = np.zeros((len(cells) - num_train, features.shape[1]), bool)
    for step in range(features.shape[1]):
        x = features[:, step].astype(float)
        x = (x - x[:num_train].mean(axis=0)) / (x[:num_train].std(axis=0) + 1e-8)
        x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
        penalty = _RIDGE * np.eye(x.shape[1])
        weights = np.linalg.solve(x[:num_train].T @ x[:num_train] + penalty, x[:num_train].T @ targets[:num_train])
        is_right[:, step] = (x[num_train:] @ weights).argmax(axis=1) == cells[num_train:]
    # What is remembered at a step is of what was seen before its action: it cannot know of a visit at its end.
    visits = _visits_before(rewards[num_train:])
    by_visits = []
    for count in range(visits.max() + 1):
        has = visits == count
        by_visits.append(is_right[has].mean() if has.any(axis=1).mean() >= 0.1 else np.nan)
    # The start is where the reward never is.
    return Knowledge(is_right.mean(axis=0), np.array(by_visits), 1 / (num_cells - 1))


def follow(
    task: MazeTask, cell: nn.Module, variables: PyTree, rng: jax.Array, num_episodes: int, move_at: int
) -> Following:
    """Moves the reward in the middle of episodes, and watches the agent.

    Args:
      task: the maze that the agent was trained in.
      cell: the agent.
      variables: its variables.
      rng: a random key.
      num_episodes: `N`.
      move_at: before which step the reward moves.

    Raises:
      ValueError: if that is no step of an episode but the first.
    """
    _checks.check_positive(move_at=move_at)
    if move_at >= task.episode_length:
        raise ValueError(f"move_at must be below episode_length={task.episode_length}, got {move_at!r}")
    fields = {field.name: getattr(task, field.name) for field in dataclasses.fields(task)}
    lives = _act(MovingMazeTask(**fields, move_at=move_at), cell, variables, rng, num_episodes)
    rewards, positions, old = (np.asarray(x) for x in lives)
    before, after = steps_to_visits(rewards[:, :move_at]), steps_to_visits(rewards[:, move_at:])
    searches = _visits_before(rewards[:, move_at:])
    is_at_old = np.all(positions[:, move_at:] == old[:, None], axis=-1)
    comes_to_old = is_at_old[:, 1:] & ~is_at_old[:, :-1] & (rewards[:, move_at:] <= 0)
    arrivals = [
        comes_to_old[searches == k].sum() / max(1, (searches == k).any(axis=1).sum()) for k in range(len(after) + 1)
    ]
    usual = before[1:].mean() if len(before) > 1 else np.nan
    follows = np.flatnonzero(after[1:] <= _FOLLOWS * usual)
    return Following(
        found_before=_found(rewards[:, :move_at]),
        found_after=_found(rewards[:, move_at:]),
        before=before,
        after=after,
        arrivals_at_old=np.array(arrivals),
        visits=float(follows[0] + 1) if len(follows) else np.nan,
    )


def _visits_before(rewards: np.ndarray) -> np.ndarray:
    """`[N, T]`, how often the reward had been visited before each step of episodes `[N, T]`."""
    is_visit = rewards > 0
    visits: np.ndarray = np.cumsum(is_visit, axis=1) - is_visit
    return visits


def _found(rewards: np.ndarray) -> np.ndarray:
    """`[T]`, in which share of episodes `[N, T]` the reward had been found by each step."""
    found: np.ndarray = np.maximum.accumulate(rewards > 0, axis=1).mean(axis=0)
    return found
