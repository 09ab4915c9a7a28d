"""Bandits: which of some arms pays more often has to be found out while one plays.

Source: Wang et al., "Learning to reinforcement learn", 2016 (arXiv:1611.05763), section 3.1.1, bandits with independent
arms: in each episode every arm pays with a probability of its own, uniform in [0, 1]. Duan et al., "RL^2", 2016
(arXiv:1611.02779), section 3.1, play the same with more arms. The interface is that of gymnax 1.0, as in `tasks.maze`.

Axes: `A` arms, `T` plays of an episode.
"""

import dataclasses
import functools
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mnm_jax import _checks
from mnm_jax.tasks.actor_critic import ActorCritic, step_or_restart
from mnm_jax.tasks.spaces import Box, Discrete

Info = dict[str, Any]
Transition = tuple[jax.Array, "State", jax.Array, jax.Array, jax.Array, Info]


class Params(NamedTuple):
    """What one may map over.

    Attributes:
      episode_length: `[]`, plays of an episode.
    """

    episode_length: int | jax.Array = 100


class State(NamedTuple):
    """Where things are.

    Attributes:
      probabilities: `[A]`, with which the arms pay, the same for the whole episode.
      time: `[]`, plays since the start of the episode.
      previous_reward: `[]`, what the last play brought, 0 at the start.
      previous_action: `[]`, the last arm, -1 at the start.
    """

    probabilities: jax.Array
    time: jax.Array
    previous_reward: jax.Array
    previous_action: jax.Array


@dataclasses.dataclass(frozen=True)
class Bandit:
    """Arms that pay 1 or 0. An episode ends after `Params.episode_length` plays, by truncation.

    Example:
      >>> bandit, params = Bandit(), Params()
      >>> observation, state = bandit.reset(key, params)
      >>> observation, state, reward, terminated, truncated, info = bandit.step(key, state, action, params)

    Attributes:
      num_arms: `A`.
    """

    num_arms: int = 2

    name: ClassVar[str] = "Bandit"
    default_params: ClassVar[Params] = Params()

    def __post_init__(self) -> None:
        if not _checks.is_whole(self.num_arms) or self.num_arms < 2:
            raise ValueError(f"num_arms must be a whole number of at least 2, got {self.num_arms!r}")

    @property
    def num_actions(self) -> int:
        """An action for each arm."""
        return self.num_arms

    @property
    def observation_size(self) -> int:
        """See `observe`."""
        return self.num_arms + 2

    def action_space(self, params: Params | None = None) -> Discrete:
        """What an agent can do: play one of the arms."""
        del params
        return Discrete(self.num_arms)

    def observation_space(self, params: Params | None = None) -> Box:
        """What an agent can see; see `observe`."""
        del params
        return Box(0.0, 1.0, (self.observation_size,))

    def reset(self, key: jax.Array, params: Params | None = None) -> tuple[jax.Array, State]:
        """Starts an episode with new arms: the observation, and the state."""
        state = State(
            probabilities=jax.random.uniform(key, (self.num_arms,), jnp.float32),
            time=jnp.zeros((), jnp.int32),
            previous_reward=jnp.zeros((), jnp.float32),
            previous_action=jnp.full((), -1, jnp.int32),
        )
        return self.observe(state, params), state

    def step(self, key: jax.Array, state: State, action: int | jax.Array, params: Params | None = None) -> Transition:
        """One play; after the last one of an episode the next begins. See `maze.Maze.step`."""
        return step_or_restart(self, key, state, action, params)

    def step_env(
        self, key: jax.Array, state: State, action: int | jax.Array, params: Params | None = None
    ) -> Transition:
        """One play that begins no new episode; otherwise as `step`.

        A traced action that is no arm makes the reward NaN.

        Raises:
          AssertionError: if the action is not a single integer.
          ValueError: if it is known, and no arm.
        """
        params = self.default_params if params is None else params
        _checks.check_index("action", action, (), self.num_arms)
        action = jnp.asarray(action, jnp.int32)
        reward = jax.random.bernoulli(key, state.probabilities[action]).astype(jnp.float32)
        reward = jnp.where(self.action_space().contains(action), reward, jnp.nan).astype(jnp.float32)
        state = State(state.probabilities, state.time + 1, reward, action)
        truncated = state.time >= params.episode_length
        return self.observe(state, params), state, reward, jnp.zeros((), bool), truncated, {}

    def observe(self, state: State, params: Params | None = None) -> jax.Array:
        """What the agent sees, as published: `[A + 2]`, the last arm, one-hot, or zeros; the last reward; the time.

        The time is the share of the episode that is over.
        """
        params = self.default_params if params is None else params
        arm = jax.nn.one_hot(state.previous_action, self.num_arms, dtype=jnp.float32)
        share = jnp.asarray(state.time / params.episode_length, jnp.float32)
        return jnp.concatenate([arm, state.previous_reward[None], share[None]])


class Plays(NamedTuple):
    """An episode as it was played.

    Attributes:
      inputs: `[T, A + 2]`, what the agent saw before each play.
      actions: `[T]`, the arms.
      rewards: `[T]`, what they paid.
      probabilities: `[A]`, with which they pay.
    """

    inputs: jax.Array
    actions: jax.Array
    rewards: jax.Array
    probabilities: jax.Array

    @property
    def regrets(self) -> jax.Array:
        """`[T]`, by how much the best arm pays more in the mean than the one that was played."""
        return jnp.max(self.probabilities) - self.probabilities[self.actions]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BanditTask(ActorCritic):
    """Learning to find the better arm.

    Discount and weight of the value are the published ones. The published entropy bonus, whose weight falls from 1 to
    0 in training, has the sum of squared probabilities in its place, as in the maze.

    Attributes:
      num_arms: `A`.
      episode_length: `T`.
      discount, value_weight, concentration_weight: see `objectives.actor_critic`.
    """

    num_arms: int = 2
    episode_length: int = 100
    discount: float = 0.8
    value_weight: float = 0.05
    concentration_weight: float = 0.03

    def __post_init__(self) -> None:
        super().__post_init__()
        Bandit(self.num_arms)

    @property
    def environment(self) -> Bandit:
        """The arms."""
        return Bandit(self.num_arms)

    @property
    def params(self) -> Params:
        """The parameters of the environment."""
        return Params(self.episode_length)

    def record(self, inputs: jax.Array, actions: jax.Array, rewards: jax.Array, states: State) -> Plays:
        """What is kept of an episode; see `ActorCritic.record`."""
        return Plays(inputs, actions, rewards, states.probabilities[0])

    def metrics(self, outputs: jax.Array, example: Plays) -> dict[str, jax.Array]:
        """Those of `ActorCritic.metrics`, and `regret`, how much more the best arm would have paid in the mean."""
        return super().metrics(outputs, example) | {"regret": jnp.sum(example.regrets)}

    def describe(self) -> str:
        """The game in a sentence."""
        return (
            f"A bandit with {self.num_arms} arms, each of which pays 1 with a probability of its own, new in each "
            f"episode of {self.episode_length} plays."
        )


def reference_levels(bandit: Bandit, params: Params = Bandit.default_params) -> dict[str, float]:
    """What agents can be compared with, exactly.

    Args:
      bandit: the arms.
      params: of the environment, none of them a tracer.

    Returns:
      The expected reward of an episode by the name of the policy: of playing at random; of the best arm, known from the
      start; and, for two arms, of the Bayes-optimal policy, which nothing that does not know the arms can surpass.

    Raises:
      ValueError: if the episode has no play.
    """
    _checks.check_positive(episode_length=params.episode_length)
    num_plays = int(params.episode_length)
    # The largest of `A` uniform numbers is `A / (A + 1)` in the mean.
    levels = {"random": num_plays / 2, "best arm known": num_plays * bandit.num_arms / (bandit.num_arms + 1)}
    if bandit.num_arms == 2:
        levels["Bayes-optimal"] = bayes_optimal_reward(num_plays)
    return levels


@functools.lru_cache
def bayes_optimal_reward(num_plays: int) -> float:
    """The largest expected reward of an episode of `T` plays with two arms, by dynamic programming.

    After `n` plays of an arm, `w` of which paid, it pays with probability `(w + 1) / (n + 2)`. The value of what is
    known is computed backwards over the plays, for all counts of the two arms.
    """
    values = np.zeros((1, 1, 1))
    for played in reversed(range(num_plays)):
        # Axes: plays of the first arm, its wins, wins of the second one. What cannot be is never looked at.
        size = played + 1
        plays, wins, other_wins = np.ogrid[:size, :size, :size]
        chance, other_chance = (wins + 1) / (plays + 2), (other_wins + 1) / (played - plays + 2)
        if played == num_plays - 1:
            first, second = chance, other_chance
        else:
            later = values
            first = chance * (1 + later[1:, 1:, :-1]) + (1 - chance) * later[1:, :-1, :-1]
            second = other_chance * (1 + later[:-1, :-1, 1:]) + (1 - other_chance) * later[:-1, :-1, :-1]
        values = np.maximum(first, second)
    return float(values[0, 0, 0])
