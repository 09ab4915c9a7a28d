"""Means over what counts, and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnm_jax import objectives


def test_masked_mean_counts_the_marked_entries_only():
    values = jnp.array([[1.0, jnp.nan], [3.0, jnp.inf]])
    mask = jnp.array([[True, False], [True, False]])
    assert objectives.masked_mean(values, mask) == 2
    assert objectives.masked_mean(values, jnp.zeros_like(mask)) == 0
    # Nor does the gradient see the others.
    grads = jax.grad(objectives.masked_mean)(values, mask)
    np.testing.assert_array_equal(grads, [[0.5, 0], [0.5, 0]])


def test_cross_entropy_agrees_with_numpy():
    logits = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    targets, mask = np.array([2, 0, 1, 1]), np.array([True, False, True, True])
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = -np.mean([log_probabilities[t, targets[t]] for t in (0, 2, 3)])
    np.testing.assert_allclose(objectives.cross_entropy(logits, targets, mask), expected, rtol=1e-6)


def test_meta_objective_is_a_mean_over_valid_steps():
    errors = jnp.array([1.0, 2.0, 6.0])
    assert objectives.meta_objective(errors) == 3
    assert objectives.meta_objective(errors, length=2) == 1.5
    assert jax.jit(objectives.meta_objective)(errors, jnp.int32(1)) == 1


def test_errors_name_the_argument():
    with pytest.raises(AssertionError, match="'mask'"):
        objectives.masked_mean(jnp.ones(3), jnp.ones(2, bool))
    with pytest.raises(AssertionError, match="'mask': wants booleans"):
        objectives.masked_mean(jnp.ones(3), jnp.array([0.5, 1.0, 0.0]))
    arguments = {"logits": jnp.ones((3, 2)), "targets": jnp.zeros(3, int), "mask": jnp.ones(3, bool)}
    wrong = {
        "logits": [jnp.ones(3), jnp.ones((3, 2), int)],
        "targets": [jnp.zeros(4, int), jnp.zeros(3), jnp.zeros((3, 1), int)],
        "mask": [jnp.ones(4, bool), jnp.ones(3)],
    }
    for name, values in wrong.items():
        for value in values:
            with pytest.raises(AssertionError, match=f"'{name}'"):
                objectives.cross_entropy(**arguments | {name: value})
    with pytest.raises(AssertionError, match="'error_after'"):
        objectives.meta_objective(jnp.ones((3, 1)))
    for length in (jnp.array([True, True, False]), 1.5, True, jnp.float32(2)):
        with pytest.raises(AssertionError, match=r"'length': wants .*one whole number"):
            objectives.meta_objective(jnp.ones(3), length)
    for length in (-1, 4):
        with pytest.raises(ValueError, match="'length': wants a whole number of 0 to 3"):
            objectives.meta_objective(jnp.ones(3), length)


@pytest.mark.parametrize("value", [jnp.nan, jnp.inf, -jnp.inf])
def test_what_does_not_count_has_no_part_in_value_and_gradient(value):
    rng = np.random.default_rng(0)
    logits, targets, mask = (
        jnp.array(rng.normal(size=(3, 4)), float),
        jnp.array([2, 1, 0]),
        jnp.array([True, False, True]),
    )
    loss = jax.value_and_grad(objectives.cross_entropy)
    expected, expected_gradient = loss(logits[::2], targets[::2], mask[::2])
    got, gradient = loss(logits.at[1].set(value), targets.at[1].set(-100), mask)
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    np.testing.assert_allclose(gradient[::2], expected_gradient, rtol=1e-6)
    np.testing.assert_array_equal(gradient[1], 0)

    got, gradient = jax.value_and_grad(objectives.meta_objective)(jnp.array([1.0, 3.0, value]), 2)
    assert got == 2
    np.testing.assert_array_equal(gradient, [0.5, 0.5, 0])


def test_a_target_or_an_action_beyond_the_last_is_refused_or_not_a_number():
    logits, targets, mask = jnp.zeros((2, 3)), jnp.array([1, 0]), jnp.array([True, True])
    traced_loss = jax.jit(jax.value_and_grad(objectives.cross_entropy))
    weights = {"discount": 0.9, "value_weight": 0.1, "concentration_weight": 0.03}

    def reinforce(logits, actions):
        return objectives.actor_critic(logits, jnp.zeros(2), actions, jnp.ones(2), **weights)

    traced_reinforce = jax.jit(jax.value_and_grad(reinforce))
    assert all(np.isfinite(x).all() for x in (*traced_loss(logits, targets, mask), *traced_reinforce(logits, targets)))
    for wrong in (-1, 3):
        indices = targets.at[1].set(wrong)
        with pytest.raises(ValueError, match=f"'targets': wants integers of 0 to 2, got {wrong}"):
            objectives.cross_entropy(logits, indices, mask)
        with pytest.raises(ValueError, match=f"'actions': wants integers of 0 to 2, got {wrong}"):
            reinforce(logits, indices)
        for value, gradient in (traced_loss(logits, indices, mask), traced_reinforce(logits, indices)):
            assert np.isnan(value)
            assert np.isnan(gradient[1]).all()


def test_returns_add_up_what_is_still_to_come():
    returns = objectives.discounted_returns(jnp.array([1.0, 0.0, 2.0]), 0.5)
    np.testing.assert_allclose(returns, [1.5, 1.0, 2.0])


def actor_critic_by_hand(logits, values, actions, rewards, discount, value_weight, concentration_weight):
    """A plain loop over the steps, and its gradients with respect to logits and values."""
    num_steps = len(rewards)
    loss, to_logits, to_values = 0.0, np.zeros_like(logits), np.zeros_like(values)
    for t in range(num_steps):
        policy = np.exp(logits[t]) / np.exp(logits[t]).sum()
        advantage = sum(discount ** (s - t) * rewards[s] for s in range(t, num_steps)) - values[t]
        loss += -np.log(policy[actions[t]]) * advantage + value_weight * advantage**2
        loss += concentration_weight * np.sum(policy**2)
        chosen = np.eye(len(policy))[actions[t]]
        to_logits[t] = -advantage * (chosen - policy)
        to_logits[t] += concentration_weight * 2 * policy * (policy - np.sum(policy**2))
        to_values[t] = -2 * value_weight * advantage
    return loss / num_steps, to_logits / num_steps, to_values / num_steps


def test_actor_critic_and_its_gradient_are_those_computed_by_hand():
    rng = np.random.default_rng(0)
    logits, values, rewards = rng.normal(size=(5, 4)), rng.normal(size=5), 10.0 * rng.integers(0, 2, 5)
    actions = rng.integers(0, 4, 5)
    weights = {"discount": 0.9, "value_weight": 0.1, "concentration_weight": 0.03}

    def loss(logits, values):
        return objectives.actor_critic(logits, values, jnp.array(actions), jnp.array(rewards, float), **weights)

    value, gradients = jax.value_and_grad(loss, argnums=(0, 1))(jnp.array(logits, float), jnp.array(values, float))
    expected, *expected_gradients = actor_critic_by_hand(logits, values, actions, rewards, *weights.values())
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(gradient, wanted, rtol=1e-4, atol=1e-6)


def test_actor_critic_names_the_argument_of_a_wrong_shape():
    arguments = {
        "logits": jnp.zeros((3, 4)),
        "values": jnp.zeros(3),
        "actions": jnp.zeros(3, int),
        "rewards": jnp.zeros(3),
    }
    weights = {"discount": 0.9, "value_weight": 0.1, "concentration_weight": 0.03}
    for name in arguments:
        with pytest.raises(AssertionError, match=f"'{name}'"):
            objectives.actor_critic(**arguments | {name: jnp.zeros((2, 4, 1))}, **weights)
    with pytest.raises(AssertionError, match="'actions': wants integers"):
        objectives.actor_critic(**arguments | {"actions": jnp.zeros(3)}, **weights)
    for name in weights:
        with pytest.raises(AssertionError, match=f"'{name}': wants a single number"):
            objectives.actor_critic(**arguments, **weights | {name: jnp.ones(3)})
