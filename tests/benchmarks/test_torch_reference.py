"""The plain PyTorch version computes what the library computes, so timing one against the other means something."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from writer_suite import draw_variables

import mnm_jax as mnm

torch = pytest.importorskip("torch")

from benchmarks import torch_reference  # noqa: E402  (It imports torch.)

WRITERS = {"mnm_p": mnm.writers.local(), "mnm_g": mnm.writers.gradient()}
NUM_STEPS, SIZE, BATCH_SIZE = 5, 4, 2


def assert_close(actual, expected, tolerance):
    """Equal up to `tolerance`, relative to the largest entry of each leaf."""

    def check(path, actual, expected):
        # Gradients that are rounding errors of zero have no relative error.
        scale = max(np.abs(expected).max(), 1e-3)
        error = np.abs(np.asarray(actual) - expected).max() / scale
        assert error < tolerance, f"{jax.tree_util.keystr(path)}: {error}"

    jax.tree_util.tree_map_with_path(check, actual, expected)


def run_ours(cell, variables, inputs):
    def loss(variables):
        run = jax.vmap(lambda episode: mnm.unroll(cell, variables, episode))(inputs)
        results = run.outputs, run.trace.error_before, run.trace.error_after
        return jnp.mean(jnp.sin(run.outputs)) + jnp.mean(results[1]) + 2 * jnp.mean(results[2]), results

    grads, results = jax.jit(jax.grad(loss, has_aux=True))(variables)
    return results, grads["params"]


def run_theirs(variables, inputs, writer, num_heads):
    parameters = torch_reference.parameters_of(variables)
    run = torch_reference.unroll(parameters, torch.tensor(np.asarray(inputs)), writer=writer, num_heads=num_heads)
    loss = run.outputs.sin().mean() + run.error_before.mean() + 2 * run.error_after.mean()
    leaves, structure = jax.tree.flatten(parameters)
    grads = jax.tree.unflatten(structure, torch.autograd.grad(loss, leaves))
    return jax.tree.map(lambda tensor: tensor.detach().numpy(), (tuple(run), grads))


def make_cell(writer, num_layers, num_heads, **options):
    spec = mnm.memory.Spec(SIZE, SIZE, (SIZE,) * (num_layers - 1), use_bias=options.pop("use_bias", False))
    return mnm.cells.MNM(3, SIZE, spec, WRITERS[writer], num_heads=num_heads, **options)


def draw(cell):
    """Random weights and inputs, [B, T, 3] or [B, T] symbols."""
    random = np.random.default_rng(1)
    if cell.vocabulary_size is None:
        inputs = jnp.asarray(random.normal(size=(BATCH_SIZE, NUM_STEPS, 3)))
    else:
        inputs = jnp.asarray(random.integers(cell.vocabulary_size, size=(BATCH_SIZE, NUM_STEPS)))
    return draw_variables(cell, inputs[0, 0]), inputs


def check(writer, num_layers, num_heads, tolerance, **options):
    cell = make_cell(writer, num_layers, num_heads, **options)
    variables, inputs = draw(cell)
    ours, theirs = run_ours(cell, variables, inputs), run_theirs(variables, inputs, writer, num_heads)
    assert_close(theirs, jax.tree.map(np.asarray, ours), tolerance)


for_both_writers = pytest.mark.parametrize("writer", WRITERS)


@pytest.mark.usefixtures("float64", "quick_compilation")
@for_both_writers
@pytest.mark.parametrize(("num_layers", "num_heads"), [(3, 2), (1, 1)])
def test_outputs_errors_and_gradients_are_the_same(writer, num_layers, num_heads):
    check(writer, num_layers, num_heads, 1e-10)


@pytest.mark.usefixtures("float64", "quick_compilation")
@for_both_writers
def test_memories_with_biases_and_symbols(writer):
    check(writer, 2, 2, 1e-10, use_bias=True, vocabulary_size=4)


@for_both_writers
def test_single_precision(writer):
    check(writer, 3, 1, 1e-5)


@pytest.mark.usefixtures("float64", "quick_compilation")
@for_both_writers
def test_without_an_outer_gradient(writer):
    variables, inputs = draw(make_cell(writer, num_layers=2, num_heads=1))
    parameters = torch_reference.parameters_of(variables)
    inputs = torch.tensor(np.asarray(inputs))
    with torch.no_grad():
        run = torch_reference.unroll(parameters, inputs, writer=writer)
    assert not any(tensor.requires_grad for tensor in run)
    for actual, expected in zip(run, torch_reference.unroll(parameters, inputs, writer=writer), strict=True):
        np.testing.assert_allclose(actual, expected.detach(), rtol=1e-12)
