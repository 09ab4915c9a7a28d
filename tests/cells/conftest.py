"""Fixtures around the fixture `cell` of a test module: variables for it, and one episode in several ways."""

import functools

import jax
import jax.numpy as jnp
import pytest

pytest.register_assert_rewrite("carried_suite", "reference_suite")

from carried_suite import INPUT_SIZE, T, normal  # noqa: E402

import mnm_jax as mnm  # noqa: E402


@pytest.fixture(scope="module")
def inputs():
    return normal(0, T, INPUT_SIZE)


@pytest.fixture(scope="module")
def variables(cell, inputs):
    return jax.jit(cell.init)(jax.random.key(1), None, inputs[0])


@pytest.fixture(scope="module")
def unroll(cell):
    return jax.jit(functools.partial(mnm.unroll, cell))


@pytest.fixture(scope="module")
def whole(unroll, variables, inputs):
    return unroll(variables, inputs)


@pytest.fixture(scope="module")
def halves(cell, unroll, variables, inputs):
    """The two halves of the episode, the second going on from the carry of the first."""
    first = unroll(variables, inputs[: T // 2], cell.apply(variables, method="initial_carry"))
    return first, unroll(variables, inputs[T // 2 :], first.carry)


@pytest.fixture(scope="module")
def gradients(cell, variables, inputs):
    """For the chunked and the plain unroll: the gradients by variables and inputs, and the outputs."""

    def loss(variables, inputs, reversible):
        outputs = mnm.unroll(cell, variables, inputs, reversible=reversible).outputs
        return jnp.sum(jnp.sin(outputs)), outputs

    gradient = jax.jit(jax.grad(loss, (0, 1), has_aux=True), static_argnums=2)
    return {reversible: gradient(variables, inputs, reversible) for reversible in (True, False)}
