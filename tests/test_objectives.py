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
    with pytest.raises(AssertionError, match="'values' and 'mask'"):
        objectives.masked_mean(jnp.ones(3), jnp.ones(2))
    with pytest.raises(AssertionError, match="'logits'"):
        objectives.cross_entropy(jnp.ones((3, 2)), jnp.zeros(4, int), jnp.ones(4))
    with pytest.raises(AssertionError, match="'error_after'"):
        objectives.meta_objective(jnp.ones((3, 1)))
