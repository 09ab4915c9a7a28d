"""What training minimises: task losses and the meta-objective, as means over the steps that count.

Every function works on ONE episode. Axes: `T` time steps.
"""

import chex
import jax
import jax.numpy as jnp
import optax

from mnm_jax import _checks


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """The mean over the entries that count; 0 if there are none.

    Args:
      values: any shape; entries that do not count may be anything, non-finite too.
      mask: of the same shape, true (or 1) where an entry counts.

    Returns:
      `[]`.

    Raises:
      AssertionError: if the shapes differ.
    """
    chex.assert_equal_shape([values, mask], custom_message="arguments 'values' and 'mask'")
    mask = mask.astype(bool)
    # The entries are replaced, not multiplied by zero, which would let a non-finite one through.
    return jnp.sum(jnp.where(mask, values, 0)) / jnp.maximum(jnp.sum(mask), 1)


def cross_entropy(logits: jax.Array, targets: jax.Array, mask: jax.Array) -> jax.Array:
    """The mean cross-entropy over the answer steps, in nats.

    Args:
      logits: `[T, num_classes]`.
      targets: `[T]`, integers below `num_classes`.
      mask: `[T]`, true at the steps where an answer is due.

    Returns:
      `[]`.

    Raises:
      AssertionError: if a shape does not fit.
    """
    _checks.check_array("logits", logits, (targets.shape[0], None))
    return masked_mean(optax.softmax_cross_entropy_with_integer_labels(logits, targets), mask)


def meta_objective(error_after: jax.Array, length: int | jax.Array | None = None) -> jax.Array:
    """The meta-objective: what was written must be what is read back (paper, section 3.4).

    `L_meta = mean_t mean_i mean_j (f(k^w_i; phi_t) - v^w_i)_j^2`, the mean over time over valid steps only. Its minimum
    is also reached by writing what the memory already holds, so look at `error_before` beside it.

    Args:
      error_after: `[T]`, from the trace of `unroll`.
      length: how many of the `T` steps count; `None` for all.

    Returns:
      `[]`.

    Raises:
      AssertionError: if `error_after` is not of shape `[T]`.
    """
    _checks.check_array("error_after", error_after, (None,))
    num_steps = error_after.shape[0]
    return masked_mean(error_after, jnp.arange(num_steps) < (num_steps if length is None else length))


def discounted_returns(rewards: jax.Array, discount: float) -> jax.Array:
    """What is still to come: `R_t = sum_{s >= t} discount^(s - t) rewards_s`, with nothing after the last step.

    Args:
      rewards: `[T]`, of each step.
      discount: gamma.

    Returns:
      `[T]`.

    Raises:
      AssertionError: if `rewards` is not of shape `[T]`.
    """
    _checks.check_array("rewards", rewards, (None,))

    def body(later: jax.Array, reward: jax.Array) -> tuple[jax.Array, jax.Array]:
        total = reward + discount * later
        return total, total

    return jax.lax.scan(body, jnp.zeros((), rewards.dtype), rewards, reverse=True)[1]


def actor_critic(
    logits: jax.Array,
    values: jax.Array,
    actions: jax.Array,
    rewards: jax.Array,
    *,
    discount: float,
    value_weight: float,
    concentration_weight: float,
) -> jax.Array:
    """The loss of advantage actor-critic over a whole episode (Miconi et al., "Backpropamine", ICLR 2019).

    `mean_t [-log pi(a_t) A_t + value_weight (R_t - v_t)^2 + concentration_weight sum_a pi_t(a)^2]`, with the returns
    `R_t` and the advantages `A_t = R_t - v_t`, through which no gradient flows. The last term keeps the policy from
    settling too soon, as an entropy bonus would.

    The published code takes the values of the first episode of a batch as the baseline of all. Here each episode has
    its own.

    Args:
      logits: `[T, num_actions]`, of the policy.
      values: `[T]`, predictions of the returns.
      actions: `[T]`, what was done.
      rewards: `[T]`, what it brought.
      discount: gamma.
      value_weight: of the squared error of the values.
      concentration_weight: of the sum of squared probabilities.

    Returns:
      `[]`.

    Raises:
      AssertionError: if a shape does not fit.
    """
    _checks.check_array("rewards", rewards, (None,))
    num_steps = rewards.shape[0]
    _checks.check_array("logits", logits, (num_steps, None))
    _checks.check_array("values", values, (num_steps,))
    chex.assert_shape(actions, (num_steps,), custom_message="argument 'actions'")
    log_policy = jax.nn.log_softmax(logits)
    errors = discounted_returns(rewards, discount) - values
    chosen = jnp.take_along_axis(log_policy, actions[:, None], axis=1)[:, 0]
    concentration = jnp.sum(jnp.exp(2 * log_policy), axis=-1)
    steps = -chosen * jax.lax.stop_gradient(errors) + value_weight * errors**2 + concentration_weight * concentration
    return jnp.mean(steps)
