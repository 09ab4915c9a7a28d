"""A proof that a cell is its paper's equations, as a class of tests: against a NumPy rewrite, in double precision.

A test module defines a fixture `cell` of scope module and takes the tests by

    class TestReference(ReferenceSuite):
        step = staticmethod(numpy_step)     # See `numpy_reference.unroll`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpy_reference
import pytest

import mnm_jax as mnm

T, INPUT_SIZE = 20, 3
DIFFERENCE = 1e-5


def to_double(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def numpy_loss(outputs):
    return np.sin(outputs).sum()


class ReferenceSuite:
    """Tests of a cell against `numpy_reference.unroll`.

    Attributes:
      step: what the cell does between controller and output, in NumPy.
      begin: from the carry at the start of an episode to the one to start from.
    """

    step = None
    begin = staticmethod(lambda carry: carry)

    def run(self, params, carry, inputs):
        return numpy_reference.unroll(self.step, params, carry._asdict(), inputs)

    @pytest.fixture(scope="class")
    @classmethod
    def case(cls, cell):
        """Parameters at which every gate and every weight is anywhere, a state, and inputs; all in double precision."""
        inputs = np.random.default_rng(0).normal(size=(T, INPUT_SIZE))
        variables = jax.jit(cell.init)(jax.random.key(1), None, jnp.asarray(inputs[0], jnp.float32))
        random = np.random.default_rng(1)
        params = jax.tree.map(lambda leaf: leaf + random.normal(size=leaf.shape), to_double(variables["params"]))
        with jax.enable_x64(True):
            carry = cell.apply({"params": params}, method="initial_carry")
        return params, cls.begin(jax.device_get(carry)), inputs

    @pytest.fixture(scope="class")
    @classmethod
    def result(cls, cell, case):
        """What the library computes: loss, run, and the gradient by parameters and inputs."""

        def loss(params, carry, inputs):
            run = mnm.unroll(cell, {"params": params}, inputs, carry)
            return jnp.sum(jnp.sin(run.outputs)), run

        with jax.enable_x64(True):
            (value, run), gradient = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(*case)
            return jax.device_get((value, run, gradient))

    def test_values_equal_the_rewrite_over_all_steps(self, case, result):
        state, outputs = self.run(*case)
        _, run, _ = result
        np.testing.assert_allclose(run.outputs, outputs, rtol=1e-9, atol=1e-10)
        assert set(state) == set(run.carry._fields)
        for name, value in state.items():
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10), getattr(run.carry, name), value
            )

    def test_everything_is_in_the_type_of_the_parameters(self, result):
        _, run, gradient = result
        assert {leaf.dtype for leaf in jax.tree.leaves((run, gradient))} == {np.dtype("float64")}

    def test_gradient_equals_finite_differences_of_the_rewrite(self, case, result):
        """Along a random direction for each parameter, each part of the state and the inputs."""
        leaves, structure = jax.tree.flatten(case)
        gradients = jax.tree.leaves(result[2])
        random = np.random.default_rng(2)
        for i, (leaf, gradient) in enumerate(zip(leaves, gradients, strict=True)):
            direction = random.normal(size=leaf.shape)
            losses = []
            for sign in (1, -1):
                moved = [*leaves[:i], leaf + sign * DIFFERENCE * direction, *leaves[i + 1 :]]
                losses.append(numpy_loss(self.run(*jax.tree.unflatten(structure, moved))[1]))
            difference = (losses[0] - losses[1]) / (2 * DIFFERENCE)
            np.testing.assert_allclose(np.vdot(gradient, direction), difference, rtol=1e-5, atol=1e-7)
