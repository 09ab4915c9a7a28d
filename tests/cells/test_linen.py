"""The cells among linen's own: its loop, its carries, and variables that were restored without their structure."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

import mnm_jax as mnm
from mnm_jax import models

pytestmark = pytest.mark.usefixtures("quick_compilation")

INPUTS = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32)


@pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 4, 5)])
def test_the_controllers_carry_has_the_axes_of_the_batch(shape):
    ours = mnm.cells.LSTMCell(8).initialize_carry(jax.random.key(0), shape)
    theirs = nn.OptimizedLSTMCell(8).initialize_carry(jax.random.key(0), shape)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_linens_loop_runs_the_controller_on_a_batch():
    rnn = nn.RNN(mnm.cells.LSTMCell(8))
    variables = rnn.init(jax.random.key(0), INPUTS)
    outputs = rnn.apply(variables, INPUTS)
    assert outputs.shape == (2, 3, 8)
    alone = [rnn.apply(variables, episode) for episode in INPUTS]
    np.testing.assert_allclose(outputs, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["mnm_p", "lstm", "plastic", "attention", "salu"])
def test_linens_loop_says_what_runs_a_cell_on_one_episode(name):
    settings = models.ModelSettings(4, 4, num_layers=2)
    cell = models.build(name, settings, output_size=2, vocabulary_size=None, num_steps=3)
    with pytest.raises(TypeError, match=rf"cannot run {type(cell).__name__}, .*; use mnm_jax\.unroll.*unroll_batch"):
        nn.RNN(cell).init(jax.random.key(0), INPUTS)


class Scanned(nn.Module):
    """A cell within linen's own scan over time."""

    cell: nn.Module

    def __call__(self, inputs):
        step = nn.scan(lambda cell, carry, x: cell(carry, x), variable_broadcast="params", split_rngs={"params": False})
        return step(self.cell, self.cell.initial_carry(), inputs)


class TestWithinAModule:
    CELL = mnm.cells.MNM(2, 4, mnm.memory.Spec(3, 3, (3,)), mnm.writers.local())

    def test_linens_scan_gives_the_numbers_of_unroll(self):
        variables = jax.jit(Scanned(self.CELL).init)(jax.random.key(0), INPUTS[0])
        scanned = jax.jit(Scanned(self.CELL).apply)(variables, INPUTS[0])
        carry, outputs, trace = mnm.unroll(self.CELL, {"params": variables["params"]["cell"]}, INPUTS[0])
        jax.tree.map(
            lambda ours, theirs: np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6),
            (carry, (outputs, trace)),
            scanned,
        )

    def test_linens_vmap_runs_a_step_of_a_batch(self):
        batched = nn.vmap(
            mnm.cells.MNM, in_axes=(None, 0), variable_axes={"params": None}, split_rngs={"params": False}
        )
        cell = batched(2, 4, mnm.memory.Spec(3, 3, (3,)), mnm.writers.local())

        def run(rng):
            variables = cell.init(rng, None, INPUTS[:, 0])
            return cell.apply(variables, None, INPUTS[:, 0])[1][0]

        assert jax.eval_shape(run, jax.random.key(0)).shape == (2, 2)


def as_lists(tree):
    """Without tuples, named or not."""
    if isinstance(tree, dict):
        return {key: as_lists(child) for key, child in tree.items()}
    return [as_lists(child) for child in tree] if isinstance(tree, tuple) else tree


def as_dictionaries(tree):
    """With text for the positions, and names for the fields."""
    if isinstance(tree, dict):
        return {key: as_dictionaries(child) for key, child in tree.items()}
    if not isinstance(tree, tuple):
        return tree
    return {str(key): as_dictionaries(child) for key, child in zip(getattr(tree, "_fields", range(99)), tree)}  # noqa: B905


@pytest.fixture(scope="module", params=["mnm_p", "mnm_g"])
def model(request):
    settings = models.ModelSettings(4, 4, num_layers=3, num_heads=np.int64(2), use_bias=request.param == "mnm_p")
    cell = models.build(request.param, settings, output_size=2, vocabulary_size=None, num_steps=3)
    return cell, jax.jit(cell.init)(jax.random.key(0), None, INPUTS[0, 0])


class TestRestoredVariables:
    @pytest.mark.parametrize("change", [as_lists, as_dictionaries])
    def test_are_accepted_without_their_structure(self, model, change):
        cell, variables = model
        expected = mnm.unroll(cell, variables, INPUTS[0])
        restored = change(variables)
        assert jax.tree.structure(restored) != jax.tree.structure(variables)
        jax.tree.map(np.testing.assert_array_equal, mnm.unroll(cell, restored, INPUTS[0]), expected)

    def test_are_accepted_as_orbax_gives_them(self, model, tmp_path):
        cell, variables = model
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(tmp_path / "saved", variables)
            checkpointer.wait_until_finished()
            restored = checkpointer.restore(tmp_path / "saved")
        expected = mnm.unroll(cell, variables, INPUTS[0])
        jax.tree.map(np.testing.assert_array_equal, mnm.unroll(cell, restored, INPUTS[0]), expected)

    @pytest.mark.parametrize("fixed", ["writer", "memory"])
    @pytest.mark.parametrize("change", [as_lists, as_dictionaries])
    def test_constants_are_accepted_like_parameters(self, fixed, change):
        writer = mnm.writers.local(backward=mnm.writers.perceptron(is_learned=fixed != "writer"))
        spec = mnm.memory.Spec(3, 3, (3,))
        cell = mnm.cells.MNM(2, 4, spec, writer, learned_initial_memory=fixed != "memory")
        variables = jax.jit(cell.init)(jax.random.key(0), None, INPUTS[0, 0])
        expected = mnm.unroll(cell, variables, INPUTS[0])
        jax.tree.map(np.testing.assert_array_equal, mnm.unroll(cell, change(variables), INPUTS[0]), expected)

    def test_are_refused_if_something_is_missing(self, model):
        cell, variables = model
        restored = as_lists(variables)
        del restored["params"]["initial_memory"][2]
        with pytest.raises(ValueError, match=r"'variables': params/initial_memory has no 2; restore with a target"):
            mnm.unroll(cell, restored, INPUTS[0])


def test_a_number_of_numpys_is_a_size():
    cell = mnm.cells.LSTM(np.int64(2), np.int32(4))
    variables = cell.init(jax.random.key(0), None, jnp.ones(3))
    assert cell.apply(variables, None, jnp.ones(3))[1][0].shape == (2,)
