"""How much memory does the gradient of an episode take, unrolled reversibly and plainly?

    python -m benchmarks.memory [--num_steps=50,100,200,400] [--batch_size=32] [--size=100] [--num_layers=3]

prints XLA's own figure for the temporary buffers of one gradient, for both writers. The inputs are symbols, and the
loss is made of the outputs and the errors of the writes, so that nothing can be left out.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from absl import app, flags, logging

import mnm_jax as mnm

_NUM_STEPS = flags.DEFINE_list("num_steps", ["50", "100", "200", "400"], "Lengths of the episode, T.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Episodes.", lower_bound=1)
_SIZE = flags.DEFINE_integer("size", 100, "Width of controller, keys, values and hidden layers, d.", lower_bound=1)
_NUM_LAYERS = flags.DEFINE_integer("num_layers", 3, "Layers of the memory, L.", lower_bound=1)
_NUM_HEADS = flags.DEFINE_integer("num_heads", 1, "Heads, H.", lower_bound=1)

_NUM_SYMBOLS = 22  # As many as the demonstration reads.
WRITERS = {"MNM-p": mnm.writers.local(), "MNM-g": mnm.writers.gradient()}


def temporary_bytes(cell: mnm.cells.MNM, num_steps: int, batch_size: int, *, reversible: bool) -> int:
    """XLA's size of the temporary buffers of one gradient, in bytes."""
    inputs = jnp.zeros((batch_size, num_steps), jnp.int32)
    variables = jax.eval_shape(cell.init, jax.random.key(0), None, inputs[0, 0])

    def loss(variables: dict, inputs: jax.Array) -> jax.Array:
        run = jax.vmap(lambda episode: mnm.unroll(cell, variables, episode, reversible=reversible))(inputs)
        return jnp.mean(jnp.square(run.outputs)) + jnp.mean(run.trace.error_after)

    return jax.jit(jax.grad(loss)).lower(variables, inputs).compile().memory_analysis().temp_size_in_bytes


def main(argv: Sequence[str]) -> None:
    """Prints the table."""
    del argv
    logging.set_verbosity(logging.WARNING)
    size, num_layers = _SIZE.value, _NUM_LAYERS.value
    spec = mnm.memory.Spec(size, size, (size,) * (num_layers - 1))
    print(f"{jax.devices()[0].device_kind}, jax {jax.__version__}")
    print(f"batch {_BATCH_SIZE.value}, d={size}, L={num_layers}, H={_NUM_HEADS.value}; megabytes (10^6 bytes)")
    print("| writer | T | plain | reversible |\n| --- | ---: | ---: | ---: |")
    for name, writer in WRITERS.items():
        cell = mnm.cells.MNM(10, size, spec, writer, num_heads=_NUM_HEADS.value, vocabulary_size=_NUM_SYMBOLS)
        for num_steps in map(int, _NUM_STEPS.value):
            plain, reversible = (
                temporary_bytes(cell, num_steps, _BATCH_SIZE.value, reversible=flag) / 1e6 for flag in (False, True)
            )
            print(f"| {name} | {num_steps} | {plain:.1f} | {reversible:.1f} |", flush=True)


if __name__ == "__main__":
    app.run(main)
