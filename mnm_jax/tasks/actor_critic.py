"""What tasks have in common in which a model acts, and learns by advantage actor-critic.

Axes: `T` steps of an episode, `A` actions.
"""

import dataclasses
import functools
import math
from typing import Any, ClassVar, Protocol

import jax
import jax.numpy as jnp

from mnm_jax import _checks, objectives
from mnm_jax.policies import Policy

PyTree = Any


class Environment(Protocol):
    """What such a task needs of an environment in the interface of gymnax."""

    @property
    def num_actions(self) -> int:
        """How many there are, `A`."""
        ...

    def reset(self, key: jax.Array, params: Any) -> tuple[jax.Array, Any]:
        """The first observation, and the state."""
        ...

    def step_env(self, key: jax.Array, state: Any, action: int | jax.Array, params: Any) -> tuple[Any, ...]:
        """Observation, state, reward, terminated, truncated and a dictionary, without beginning anew."""
        ...


def step_or_restart(
    environment: Environment, key: jax.Array, state: Any, action: int | jax.Array, params: Any
) -> tuple[Any, ...]:
    """One step of an environment; after the last one of an episode the next begins. See `maze.Maze.step`."""
    _checks.check_key("key", key)
    key_step, key_reset = jax.random.split(key)
    observation, state, reward, terminated, truncated, info = environment.step_env(key_step, state, action, params)
    start = environment.reset(key_reset, params)
    next_observation, state = jax.tree.map(functools.partial(jnp.where, truncated), start, (observation, state))
    return next_observation, state, reward, terminated, truncated, info | {"final_observation": observation}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActorCritic:
    """A task whose episodes a model acts itself, in an environment of `A` actions: a `training.InteractiveTask`.

    The agent's output is a logit for each action, of which its actions are drawn, and the value that it expects. A
    subclass says which `environment` with which `params` it is, and by `record` what is kept of an episode, with fields
    `inputs`, `actions` and `rewards`.

    Attributes:
      episode_length: `T`.
      discount, value_weight, concentration_weight: see `objectives.actor_critic`.
    """

    episode_length: int
    discount: float
    value_weight: float
    concentration_weight: float

    headline: ClassVar[str] = "episode_reward"
    vocabulary_size: ClassVar[None] = None

    def __post_init__(self) -> None:
        _checks.check_positive(episode_length=self.episode_length)
        for name in ("value_weight", "concentration_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be finite and not negative, got {getattr(self, name)!r}")
        if not 0 <= self.discount <= 1:
            raise ValueError(f"discount must be of 0 to 1, got {self.discount!r}")

    @property
    def environment(self) -> Environment:
        """Where the agent acts."""
        raise NotImplementedError

    @property
    def params(self) -> Any:
        """The parameters of the environment."""
        raise NotImplementedError

    def record(self, inputs: jax.Array, actions: jax.Array, rewards: jax.Array, states: PyTree) -> Any:
        """What is kept of an episode.

        Args:
          inputs: `[T, ...]`, what the agent saw before each step.
          actions: `[T]`, what it did.
          rewards: `[T]`, what that brought.
          states: of the environment, before each step and after the last, `[T + 1, ...]`.
        """
        raise NotImplementedError

    @property
    def output_size(self) -> int:
        """A logit for each action, and the value."""
        return self.environment.num_actions + 1

    @property
    def output_parts(self) -> dict[str, slice]:
        """Where the policy's logits stand in an output, and where the value."""
        return {"policy": slice(0, self.output_size - 1), "value": slice(self.output_size - 1, self.output_size)}

    @property
    def num_steps(self) -> int:
        """`T`."""
        return self.episode_length

    def act(self, rng: jax.Array, policy: Policy) -> Any:
        """Lets an agent live for one episode."""
        _checks.check_key("rng", rng)
        environment, params = self.environment, self.params
        rng, rng_reset = jax.random.split(rng)
        observation, state = environment.reset(rng_reset, params)

        def body(carry: PyTree, rng: jax.Array) -> tuple[PyTree, PyTree]:
            agent, observation, state = carry
            rng_action, rng_step = jax.random.split(rng)
            agent, output = policy.step(agent, observation)
            action = jax.random.categorical(rng_action, output[: environment.num_actions]).astype(jnp.int32)
            next_observation, next_state, reward, *_ = environment.step_env(rng_step, state, action, params)
            return (agent, next_observation, next_state), (observation, action, reward, state)

        start = (policy.start(observation), observation, state)
        (_, _, last), steps = jax.lax.scan(body, start, jax.random.split(rng, self.episode_length))
        inputs, actions, rewards, states = steps
        states = jax.tree.map(lambda before, after: jnp.concatenate([before, after[None]]), states, last)
        return self.record(inputs, actions, rewards, states)

    def loss(self, outputs: jax.Array, example: Any) -> jax.Array:
        """Advantage actor-critic, the mean over time. `outputs`: `[T, A + 1]`."""
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

    def metrics(self, outputs: jax.Array, example: Any) -> dict[str, jax.Array]:
        """What an episode brought.

        Args:
          outputs: `[T, A + 1]`.
          example: the episode.

        Returns:
          `episode_reward`, the sum of its rewards; `entropy` of the policy, the mean over time, in nats; `value_error`,
          the root of the mean squared difference between values and returns.
        """
        _checks.check_array("outputs", outputs, (*example.rewards.shape, self.output_size))
        log_policy = jax.nn.log_softmax(outputs[:, :-1])
        returns = objectives.discounted_returns(example.rewards, self.discount)
        return {
            "episode_reward": jnp.sum(example.rewards),
            "entropy": -jnp.mean(jnp.sum(jnp.exp(log_policy) * log_policy, axis=-1)),
            "value_error": jnp.sqrt(jnp.mean((outputs[:, -1] - returns) ** 2)),
        }
