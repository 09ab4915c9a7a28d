"""How much memory does the gradient of an episode take, with and without the memory-saving unroll?

    python -m benchmarks.memory [--models=mnm_p,mnm_g,lstm,salu,attention] [--num_steps=50,100,200,400]
        [--batch_size=32] [--size=100] [--num_layers=3] [--num_heads=1] [--peak]

prints XLA's own figure for the temporary buffers of one gradient. `--peak` also computes the gradient with the
memory-saving unroll, in a process of its own, and prints the peak of the memory that this process had in use. The
inputs are symbols, and the loss is made of the outputs and the errors of the writes, so that nothing can be left out.
"""

import multiprocessing
import resource
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from absl import app, flags, logging

import mnm_jax as mnm
from mnm_jax import models
from mnm_jax.analysis import tables

_MODELS = flags.DEFINE_list("models", ["mnm_p", "mnm_g"], f"Some of {', '.join(models.NAMES)}.")
_NUM_STEPS = flags.DEFINE_list("num_steps", ["50", "100", "200", "400"], "Lengths of the episode, T.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Episodes.", lower_bound=1)
_SIZE = flags.DEFINE_integer("size", 100, "Width of controller, keys, values and hidden layers, d.", lower_bound=1)
_NUM_LAYERS = flags.DEFINE_integer("num_layers", 3, "Layers of the memory, L.", lower_bound=1)
_NUM_HEADS = flags.DEFINE_integer("num_heads", 1, "Heads, H.", lower_bound=1)
_PEAK = flags.DEFINE_bool("peak", False, "Whether to compute the gradient too, for the memory that a process uses.")

flags.register_validator(
    "models",
    lambda names: bool(names) and set(names) <= set(models.NAMES),
    f"takes one or more of {', '.join(models.NAMES)}, separated by commas",
)

_NUM_SYMBOLS = 22  # As many as the demonstration reads.
_OUTPUT_SIZE = 10


def make_cell(model: str, size: int, num_layers: int, num_heads: int, num_steps: int) -> nn.Module:
    """The cell of a model by the name that command lines know, with symbols for inputs."""
    settings = models.Settings(size, size, num_layers, num_heads)
    return models.build(model, settings, output_size=_OUTPUT_SIZE, vocabulary_size=_NUM_SYMBOLS, num_steps=num_steps)


def temporary_bytes(cell: nn.Module, num_steps: int, batch_size: int, *, reversible: bool) -> int:
    """XLA's size of the temporary buffers of one gradient, in bytes."""
    inputs = jax.ShapeDtypeStruct((batch_size, num_steps), jnp.int32)
    variables = jax.eval_shape(cell.init, jax.random.key(0), None, jnp.int32(0))
    compiled = jax.jit(_gradient(cell, reversible=reversible)).lower(variables, inputs).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def peak_bytes(cell: nn.Module, num_steps: int, batch_size: int) -> int:
    """The most memory that this process ever had in use, after computing one gradient, in bytes."""
    inputs = jnp.zeros((batch_size, num_steps), jnp.int32)
    variables = jax.jit(cell.init)(jax.random.key(0), None, inputs[0, 0])
    jax.block_until_ready(jax.jit(_gradient(cell, reversible=True))(variables, inputs))
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _gradient(cell: nn.Module, *, reversible: bool) -> Callable[[Any, jax.Array], Any]:
    def loss(variables: Any, inputs: jax.Array) -> jax.Array:
        run = jax.vmap(lambda episode: mnm.unroll(cell, variables, episode, reversible=reversible))(inputs)
        return jnp.mean(jnp.square(run.outputs)) + (jnp.mean(run.trace.error_after) if run.trace else 0)

    return jax.grad(loss)


def _peak_of_a_process(arguments: Sequence[Any], batch_size: int) -> int:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_peak, arguments, batch_size).result()


def _peak(arguments: Sequence[Any], batch_size: int) -> int:
    return peak_bytes(make_cell(*arguments), arguments[-1], batch_size)


def main(argv: Sequence[str]) -> None:
    """Prints the table."""
    del argv
    logging.set_verbosity(logging.WARNING)
    batch_size, sizes = _BATCH_SIZE.value, (_SIZE.value, _NUM_LAYERS.value, _NUM_HEADS.value)
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}")
    print("batch {}, d={}, L={}, H={}; megabytes (10^6 bytes)\n".format(batch_size, *sizes), flush=True)
    header = ["model", "T", "plain", "saving"] + ["peak of the process"] * _PEAK.value
    lines = []
    for model in _MODELS.value:
        for num_steps in map(int, _NUM_STEPS.value):
            arguments = (model, *sizes, num_steps)
            cell = make_cell(*arguments)
            values = [temporary_bytes(cell, num_steps, batch_size, reversible=saves) for saves in (False, True)]
            if _PEAK.value:
                values.append(_peak_of_a_process(arguments, batch_size))
            lines.append([model, str(num_steps), *(f"{value / 1e6:,.1f}" for value in values)])
    print(tables.to_markdown(header, lines), end="")


if __name__ == "__main__":
    app.run(main)
