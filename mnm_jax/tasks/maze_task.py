"""The maze as a task to be trained on: an agent that lives for one episode, by advantage actor-critic.

Axes: `T` steps of an episode.
"""

import dataclasses
import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from mnm_jax import _checks, objectives
from mnm_jax.policies import Policy
from mnm_jax.tasks import maze

PyTree = Any


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


@dataclasses.dataclass(frozen=True)
class MazeTask:
    """Learning to find the reward again: a `training.InteractiveTask`.

    The agent's output is four logits, of which its actions are drawn, and the value that it expects.

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

    headline: ClassVar[str] = "episode_reward"
    vocabulary_size: ClassVar[None] = None

    def __post_init__(self) -> None:
        maze.Maze(self.size)
        _checks.check_positive(episode_length=self.episode_length)
        if not 0 < self.reward < math.inf:
            raise ValueError(f"reward must be finite and above 0, got {self.reward!r}")
        for name in ("wall_penalty", "value_weight", "concentration_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be finite and not negative, got {getattr(self, name)!r}")
        if not 0 <= self.discount <= 1:
            raise ValueError(f"discount must be of 0 to 1, got {self.discount!r}")

    @property
    def environment(self) -> maze.Maze:
        """The maze."""
        return maze.Maze(self.size)

    @property
    def params(self) -> maze.Params:
        """The parameters of the environment."""
        return maze.Params(self.reward, self.wall_penalty, self.episode_length)

    @property
    def output_size(self) -> int:
        """A logit for each action, and the value."""
        return self.environment.num_actions + 1

    @property
    def num_steps(self) -> int:
        """`T`."""
        return self.episode_length

    def act(self, rng: jax.Array, policy: Policy) -> Lifetime:
        """Lets an agent live for one episode."""
        environment, params = self.environment, self.params
        rng, rng_reset = jax.random.split(rng)
        observation, state = environment.reset(rng_reset, params)

        def body(carry: PyTree, rng: jax.Array) -> tuple[PyTree, PyTree]:
            agent, observation, state = carry
            rng_action, rng_step = jax.random.split(rng)
            agent, output = policy.step(agent, observation)
            action = jax.random.categorical(rng_action, output[: environment.num_actions]).astype(jnp.int32)
            next_observation, next_state, reward, *_ = environment.step_env(rng_step, state, action, params)
            return (agent, next_observation, next_state), (observation, action, reward, state.position)

        start = (policy.start(observation), observation, state)
        (_, _, state), steps = jax.lax.scan(body, start, jax.random.split(rng, self.episode_length))
        observations, actions, rewards, positions = steps
        positions = jnp.concatenate([positions, state.position[None]])
        return Lifetime(observations, actions, rewards, positions, state.reward_position)

    def loss(self, outputs: jax.Array, example: Lifetime) -> jax.Array:
        """Advantage actor-critic, the mean over time. `outputs`: `[T, 5]`."""
        _checks.check_array("outputs", outputs, (*example.rewards.shape, self.output_size))
        return objectives.actor_critic(
            outputs[:, :-1],
            outputs[:, -1],
            example.actions,
            example.rewards,
            discount=self.discount,
            value_weight=self.value_weight,
            concentration_weight=self.concentration_weight,
        )

    def metrics(self, outputs: jax.Array, example: Lifetime) -> dict[str, jax.Array]:
        """What an episode brought.

        Args:
          outputs: `[T, 5]`.
          example: the episode.

        Returns:
          `episode_reward`, the sum of its rewards; `visits`, how often the reward was found; `entropy` of the policy,
          the mean over time, in nats; `value_error`, the root of the mean squared difference between values and
          returns.
        """
        _checks.check_array("outputs", outputs, (*example.rewards.shape, self.output_size))
        log_policy = jax.nn.log_softmax(outputs[:, :-1])
        returns = objectives.discounted_returns(example.rewards, self.discount)
        return {
            "episode_reward": jnp.sum(example.rewards),
            "visits": jnp.sum(example.is_visit).astype(outputs.dtype),
            "entropy": -jnp.mean(jnp.sum(jnp.exp(log_policy) * log_policy, axis=-1)),
            "value_error": jnp.sqrt(jnp.mean((outputs[:, -1] - returns) ** 2)),
        }

    def describe(self) -> str:
        """The maze as an agent finds it at the start, with what only we can see: an `R` for the hidden reward."""
        _, state = self.environment.reset(jax.random.key(0), self.params)
        return (
            f"A maze of size {self.size} with {len(self.environment.free_cells)} free cells, episodes of "
            f"{self.episode_length} steps:\n{self.environment.draw(state)}"
        )
