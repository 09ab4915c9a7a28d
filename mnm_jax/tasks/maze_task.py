"""The maze as a task to be trained on: an agent that lives for one episode, by advantage actor-critic.

Axes: `T` steps of an episode.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mnm_jax.tasks import maze
from mnm_jax.tasks.actor_critic import ActorCritic


class Lifetime(NamedTuple):
    """An episode as it was acted.

    Attributes:
      inputs: `[T, 17]`, what the agent saw before each step.
      actions: `[T]`, what it did.
      rewards: `[T]`, what that brought.
      positions: `[T + 1, 2]`, where the agent was before each step and after the last; if a step found the reward, the
        next position is where the agent was moved to.
      reward_position: `[2]`, the hidden cell.
    """

    inputs: jax.Array
    actions: jax.Array
    rewards: jax.Array
    positions: jax.Array
    reward_position: jax.Array

    @property
    def is_visit(self) -> jax.Array:
        """`[T]`, whether the step found the reward."""
        return self.rewards > 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class MazeTask(ActorCritic):
    """Learning to find the reward again.

    Attributes:
      size: of the maze, see `maze.Maze`.
      episode_length: `T`.
      reward, wall_penalty: see `maze.Params`.
      discount, value_weight, concentration_weight: see `objectives.actor_critic`.
    """

    size: int = 9
    episode_length: int = 200
    reward: float = 10.0
    wall_penalty: float = 0.0
    discount: float = 0.9
    value_weight: float = 0.1
    concentration_weight: float = 0.03

    def __post_init__(self) -> None:
        super().__post_init__()
        maze.Maze(self.size)
        if not 0 < self.reward < math.inf:
            raise ValueError(f"reward must be finite and above 0, got {self.reward!r}")
        if not 0 <= self.wall_penalty < math.inf:
            raise ValueError(f"wall_penalty must be finite and not negative, got {self.wall_penalty!r}")

    @property
    def environment(self) -> maze.Maze:
        """The maze."""
        return maze.Maze(self.size)

    @property
    def params(self) -> maze.Params:
        """The parameters of the environment."""
        return maze.Params(self.reward, self.wall_penalty, self.episode_length)

    def record(self, inputs: jax.Array, actions: jax.Array, rewards: jax.Array, states: maze.State) -> Lifetime:
        """What is kept of an episode; see `ActorCritic.record`."""
        return Lifetime(inputs, actions, rewards, states.position, states.reward_position[0])

    def metrics(self, outputs: jax.Array, example: Lifetime) -> dict[str, jax.Array]:
        """Those of `ActorCritic.metrics`, and `visits`, how often the reward was found."""
        return super().metrics(outputs, example) | {"visits": jnp.sum(example.is_visit).astype(outputs.dtype)}

    def describe(self) -> str:
        """The maze as an agent finds it at the start, with what only we can see: an `R` for the hidden reward."""
        _, state = self.environment.reset(jax.random.key(0), self.params)
        return (
            f"A maze of size {self.size} with {len(self.environment.free_cells)} free cells, episodes of "
            f"{self.episode_length} steps:\n{self.environment.draw(state)}"
        )
