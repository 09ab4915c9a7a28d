"""What training minimises: task losses and the meta-objective, as means over the steps that count.

Every function works on ONE episode. Axes: `T` time steps.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mnm_jax import _checks


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """The mean over the entries that count; 0 if there are none.

    Args:
      values: any shape; entries that do not count may be anything, non-finite too, and get a gradient of 0.
      mask: booleans of the same shape, true where an entry counts.

    Returns:
      `[]`.

    Raises:
      AssertionError: if the mask is of another shape, or not boolean.
    """
    _checks.check_mask("mask", mask, jnp.shape(values))
    # The entries are replaced, not multiplied by zero, which would let a non-finite one through.
    return jnp.sum(jnp.where(mask, values, 0)) / jnp.maximum(jnp.sum(mask), 1)


def cross_entropy(logits: jax.Array, targets: jax.Array, mask: jax.Array) -> jax.Array:
    """The mean cross-entropy over the answer steps, in nats.

    Args:
      logits: `[T, num_classes]`; where no answer is due they may be anything, non-finite too, and get a gradient of 0.
      targets: `[T]`, integers below `num_classes` where an answer is due, and whatever they like elsewhere. If they are
        traced, a target that is no class makes the result NaN.
      mask: `[T]`, booleans, true at the steps where an answer is due.

    Returns:
      `[]`.

    Raises:
      AssertionError: if a shape or type does not fit.
      ValueError: if a target is no class.
    """
    _checks.check_array("logits", logits, (None, None))
    num_steps, num_classes = logits.shape
    _checks.check_index("targets", targets, (num_steps,))
    _checks.check_mask("mask", mask, (num_steps,))
    if _checks.is_concrete(targets) and _checks.is_concrete(mask):
        _checks.check_index("targets", np.asarray(targets)[np.asarray(mask)], (None,), num_classes)
    # Before the logarithm, whose gradient at a non-finite logit is not finite even if nothing comes back to it.
    logits = jnp.where(mask[:, None], logits, 0)
    entropies = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
    return masked_mean(entropies * _one_if(_is_index(targets, num_classes), logits.dtype), mask)


def meta_objective(error_after: jax.Array, length: int | jax.Array | None = None) -> jax.Array:
    """The meta-objective: what was written must be what is read back (paper, section 3.4).

    `L_meta = mean_t mean_i mean_j (f(k^w_i; phi_t) - v^w_i)_j^2`, the mean over time over valid steps only. Its minimum
    is also reached by writing what the memory already holds, so look at `error_before` beside it.

    Args:
      error_after: `[T]`, from the trace of `unroll`.
      length: how many of the `T` steps count; `None` for all. If it is traced and not of 0 to `T`, the result is NaN.

    Returns:
      `[]`.

    Raises:
      AssertionError: if `error_after` is not of shape `[T]`, or `length` no single whole number.
      ValueError: if `length` is known and not of 0 to `T`.
    """
    _checks.check_array("error_after", error_after, (None,))
    num_steps = error_after.shape[0]
    if length is None:
        return jnp.mean(error_after)
    _checks.check_length("length", length, num_steps)
    mean = masked_mean(error_after, jnp.arange(num_steps) < length)
    if _checks.is_concrete(length):
        return mean
    return mean * _one_if(_is_index(jnp.asarray(length), num_steps + 1), mean.dtype)


def discounted_returns(rewards: jax.Array, discount: float) -> jax.Array:
    """What is still to come: `R_t = sum_{s >= t} discount^(s - t) rewards_s`, with nothing after the last step.

    Args:
      rewards: `[T]`, of each step.
      discount: gamma.

    Returns:
      `[T]`.

    Raises:
      AssertionError: if `rewards` is not of shape `[T]`, or `discount` no single number.
    """
    _checks.check_array("rewards", rewards, (None,))
    _checks.check_number("discount", discount)
    gamma = jnp.asarray(discount, rewards.dtype)

    def body(later: jax.Array, reward: jax.Array) -> tuple[jax.Array, jax.Array]:
        total = reward + gamma * later
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
      actions: `[T]`, what was done, integers below `num_actions`. If they are traced, one that is no action makes the
        result NaN.
      rewards: `[T]`, what it brought.
      discount: gamma.
      value_weight: of the squared error of the values.
      concentration_weight: of the sum of squared probabilities.

    Returns:
      `[]`.

    Raises:
      AssertionError: if a shape or type does not fit.
      ValueError: if an action is none.
    """
    _checks.check_array("rewards", rewards, (None,))
    num_steps = rewards.shape[0]
    _checks.check_array("logits", logits, (num_steps, None))
    _checks.check_array("values", values, (num_steps,))
    num_actions = logits.shape[1]
    _checks.check_index("actions", actions, (num_steps,), num_actions)
    _checks.check_number("value_weight", value_weight)
    _checks.check_number("concentration_weight", concentration_weight)
    log_policy = jax.nn.log_softmax(logits) * _one_if(_is_index(actions, num_actions), logits.dtype)[:, None]
    errors = discounted_returns(rewards, discount) - values
    chosen = jnp.take_along_axis(log_policy, actions[:, None], axis=1)[:, 0]
    concentration = jnp.sum(jnp.exp(2 * log_policy), axis=-1)
    steps = -chosen * jax.lax.stop_gradient(errors) + value_weight * errors**2 + concentration_weight * concentration
    return jnp.mean(steps)


def _is_index(indices: jax.Array, size: int) -> jax.Array:
    """Which integers are of 0 to below `size`."""
    return (indices >= 0) & (indices < size)


def _one_if(valid: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """1 or NaN. A factor, so that the gradient is NaN as well."""
    return jnp.where(valid, jnp.ones((), dtype), jnp.full((), jnp.nan, dtype))
