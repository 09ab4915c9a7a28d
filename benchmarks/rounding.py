"""How much does a gradient change when the parameters are rounded to bfloat16 once?

    python -m benchmarks.rounding [--num_steps=200] [--size=100] [--num_seeds=16]

Some untrained episodes are chaotic: what is written decides what is written next, and rounding grows from step to step.
Prints, for both writers, the relative change of the whole gradient, in the Euclidean norm, over seeds.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

import mnm_jax as mnm
from benchmarks.workload import NUM_SYMBOLS, OUTPUT_SIZE, WRITERS

_NUM_STEPS = flags.DEFINE_integer("num_steps", 200, "Length of the episodes, T.", lower_bound=2)
_SIZE = flags.DEFINE_integer("size", 100, "Width of controller, keys, values and hidden layers, d.", lower_bound=1)
_NUM_SEEDS = flags.DEFINE_integer("num_seeds", 16, "Seeds, each with parameters and an episode.", lower_bound=1)


def changes(cell: mnm.cells.MNM, num_steps: int, num_seeds: int) -> np.ndarray:
    """The relative change of the gradient by rounding the parameters, `[num_seeds]`."""

    @functools.partial(jax.jit, static_argnums=2)
    def gradient(seed: jax.Array, variables: mnm.contract.Params, round_to: str | None) -> jax.Array:
        inputs = jax.random.randint(jax.random.key(seed), (num_steps,), 0, NUM_SYMBOLS)
        if round_to is not None:
            variables = jax.tree.map(lambda leaf: leaf.astype(round_to).astype(leaf.dtype), variables)

        def loss(variables: mnm.contract.Params) -> jax.Array:
            run = mnm.unroll(cell, variables, inputs)
            return jnp.mean(jnp.square(run.outputs)) + jnp.mean(run.trace.error_after)

        return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(jax.grad(loss)(variables))])

    results = []
    for seed in range(num_seeds):
        variables = cell.init(jax.random.key(seed), None, jnp.int32(0))
        exact, rounded = (gradient(seed, variables, round_to) for round_to in (None, "bfloat16"))
        results.append(float(jnp.linalg.norm(rounded - exact) / jnp.linalg.norm(exact)))
    return np.array(results)


def main(argv: Sequence[str]) -> None:
    """Measures and prints."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}; flags begin with --")
    size = _SIZE.value
    print(f"T = {_NUM_STEPS.value}, d = {size}, {_NUM_SEEDS.value} seeds: relative change of the gradient")
    print("| writer | median | worst |\n| --- | ---: | ---: |")
    for name, writer in WRITERS.items():
        cell = mnm.cells.MNM(
            OUTPUT_SIZE,
            size,
            mnm.memory.Spec(size, size, (size, size)),
            writer,
            vocabulary_size=NUM_SYMBOLS,
        )
        of_seeds = changes(cell, _NUM_STEPS.value, _NUM_SEEDS.value)
        print(f"| {name} | {np.median(of_seeds):.1%} | {of_seeds.max():.1%} |", flush=True)


if __name__ == "__main__":
    app.run(main)
