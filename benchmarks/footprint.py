"""How much memory the gradient of a batch of episodes takes, of any model."""

import multiprocessing
import resource
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

import mnm_jax as mnm
from mnm_jax import models

_NUM_SYMBOLS = 22  # As many as the demonstration reads.
_OUTPUT_SIZE = 10


def make_cell(model: str, size: int, num_layers: int, num_heads: int, num_steps: int) -> nn.Module:
    """The cell of a model by the name that command lines know, with symbols for inputs."""
    settings = models.ModelSettings(size, size, num_layers, num_heads)
    return models.build(model, settings, output_size=_OUTPUT_SIZE, vocabulary_size=_NUM_SYMBOLS, num_steps=num_steps)


def temporary_bytes(cell: nn.Module, num_steps: int, batch_size: int, *, reversible: bool) -> int:
    """XLA's size of the temporary buffers of one gradient, in bytes."""
    inputs = jax.ShapeDtypeStruct((batch_size, num_steps), jnp.int32)
    variables = jax.eval_shape(cell.init, jax.random.key(0), None, jnp.int32(0))
    compiled = jax.jit(gradient(cell, reversible=reversible)).lower(variables, inputs).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def peak_bytes(cell: nn.Module, num_steps: int, batch_size: int) -> int:
    """The most memory that this process ever had in use, after computing one gradient, in bytes."""
    inputs = jnp.zeros((batch_size, num_steps), jnp.int32)
    variables = jax.jit(cell.init)(jax.random.key(0), None, inputs[0, 0])
    jax.block_until_ready(jax.jit(gradient(cell, reversible=True))(variables, inputs))
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def gradient(cell: nn.Module, *, reversible: bool) -> Callable[[Any, jax.Array], Any]:
    """The gradient of a loss by the variables, as a function of them and of the inputs `[B, T]`."""

    def loss(variables: Any, inputs: jax.Array) -> jax.Array:
        run = jax.vmap(lambda episode: mnm.unroll(cell, variables, episode, reversible=reversible))(inputs)
        return jnp.mean(jnp.square(run.outputs)) + (jnp.mean(run.trace.error_after) if run.trace else 0)

    return jax.grad(loss)


def peak_of_a_process(arguments: Sequence[Any], batch_size: int) -> int:
    """`peak_bytes` of a fresh process, for the cell that `make_cell` makes of the arguments."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_peak, arguments, batch_size).result()


def _peak(arguments: Sequence[Any], batch_size: int) -> int:
    return peak_bytes(make_cell(*arguments), arguments[-1], batch_size)
