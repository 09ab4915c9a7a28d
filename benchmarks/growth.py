"""Why a local rule is unsteady in long episodes: how memory and gradient grow with the steps, before any training.

    python -m benchmarks.growth OUTPUT.png [--lengths=10,25,50,100,200] [--rates=0.12,0.5,0.88] [--width=32] [--seeds=3]
    python -m benchmarks.growth OUTPUT.png --redraw

An untrained agent with each of the rules below reads what a random walk in the maze of size 9 sees. Measured are, after
each number of steps, the length of the memory's weights, and the norm of the gradient of the last output, the sum of
its numbers with alternating signs, in all parameters; means over seeds, of the gradient the geometric one. The rate is
that at the start of training, set by its bias. Draws the figure, and writes `OUTPUT.json` beside it, from which
`--redraw` draws it again. The suffix is the format: png, pdf, svg.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags, logging
from matplotlib.figure import Figure

import mnm_jax as mnm
from mnm_jax import models
from mnm_jax.analysis import panels, style
from mnm_jax.policies import Policy
from mnm_jax.tasks import MazeTask

PyTree = Any

_NUM_EPISODES = 4

RULES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "MNM-p": ("mnm_p", {}),
    "MNM-g": ("mnm_g", {}),
    "normalised": ("mnm_p", {"normalized_rule": True}),
    "bounded targets": ("mnm_p", {"bounded_targets": True}),
    "bounded targets, rate up to 0.5, read normalised": (
        "mnm_p",
        {"bounded_targets": True, "rate_scale": 0.5, "read_normalization": "rms"},
    ),
}


def random_walks(task: MazeTask, num_episodes: int) -> jax.Array:
    """What random walks see: `[num_episodes, T, 17]`."""

    def idle(inputs: PyTree) -> tuple[()]:
        del inputs
        return ()

    def step(carry: PyTree, inputs: PyTree) -> tuple[PyTree, jax.Array]:
        del inputs
        return carry, jnp.zeros(task.output_size)

    rngs = jax.random.split(jax.random.key(0), num_episodes)
    seen: jax.Array = jax.vmap(lambda rng: task.act(rng, Policy(idle, step)).inputs)(rngs)
    return seen


@functools.partial(jax.jit, static_argnums=0)
def growth(cell: nn.Module, rng: jax.Array, inputs: jax.Array, bias: jax.Array, length: jax.Array) -> jax.Array:
    """The norm of the memory after so many steps and that of the gradient of the last output, `[2]`, of one seed.

    Args:
      cell: the agent.
      rng: what its parameters are drawn from.
      inputs: `[B, T, 17]`.
      bias: of the rate.
      length: how many of the steps count.
    """
    variables = cell.init(rng, None, inputs[0, 0])
    signs = (-1.0) ** jnp.arange(cell.output_size)

    def last_output(params: PyTree) -> tuple[jax.Array, jax.Array]:
        lengths = jnp.full(len(inputs), length)
        run = mnm.unroll_batch(cell, {**variables, "params": params}, inputs, lengths=lengths)
        norms = jnp.linalg.norm(run.trace.memory_norm, axis=-1)
        return jnp.mean(run.outputs[:, length - 1] @ signs), jnp.mean(norms[:, length - 1])

    params = jax.tree.map(lambda leaf: leaf, variables["params"])
    params["interface"]["rate"]["bias"] = jnp.full_like(params["interface"]["rate"]["bias"], bias)
    gradient, norm = jax.grad(last_output, has_aux=True)(params)
    return jnp.stack([norm, optax.tree.norm(gradient)])


def measure(name: str, task: MazeTask, width: int, seeds: int, rates: Sequence[float], lengths: Sequence[int]) -> Any:
    """What is drawn of a rule: by the rate, the norm of the memory and that of the gradient for each length."""
    model, options = RULES[name]
    settings = models.ModelSettings(width, width, **options)
    cell = models.build(model, settings, output_size=task.output_size, vocabulary_size=None, num_steps=task.num_steps)
    inputs, rngs = random_walks(task, _NUM_EPISODES), jax.random.split(jax.random.key(1), seeds)
    of_seeds = jax.jit(jax.vmap(functools.partial(growth, cell), in_axes=(0, None, None, None)))
    results = {}
    for rate in rates:
        bias = np.log(rate / (1 - rate))
        measured = np.array([of_seeds(rngs, inputs, bias, length) for length in lengths])  # [lengths, seeds, 2].
        with np.errstate(over="ignore"):
            gradients = np.exp(np.log(measured[..., 1].astype(float)).mean(axis=1))
        results[f"{rate:g}"] = {"memory": measured[..., 0].mean(axis=1).tolist(), "gradient": gradients.tolist()}
        print(name, rate, results[f"{rate:g}"], flush=True)
    return results


def draw(numbers: Mapping[str, Any]) -> Figure:
    """Draws memory and gradient over the steps, a row for each rate, with a line for each rule."""
    rates, lengths = numbers["rates"], numbers["lengths"]
    figure = Figure((8, 2.1 * len(rates) + 1.9), layout="constrained", dpi=150)
    grid = figure.subplots(len(rates), 2, sharex=True, sharey="col", squeeze=False)
    # The known ones first, in their order; a file may hold others, measured when there were such.
    names = list(dict.fromkeys([*(name for name in RULES if name in numbers["rules"]), *numbers["rules"]]))
    for row, rate in zip(grid, rates, strict=True):
        for axes, quantity in zip(row, ("memory", "gradient"), strict=True):
            for name, look in zip(names, style.series(names), strict=True):
                values = np.array(numbers["rules"][name][f"{rate:g}"][quantity], float)
                # Where a line ends early, the gradient is beyond the largest number.
                axes.plot(lengths, np.where(np.isfinite(values), values, np.nan), **panels.line_of(look))
            axes.set(xscale="log", yscale="log")
            axes.set_xticks(lengths, [str(length) for length in lengths])
            axes.minorticks_off()
            panels.finish(axes)
        row[0].set_ylabel(f"rate at the start:\n{rate:g} of the largest")
    grid[0][0].set_title("memory's weights (norm)", size=9.5)
    grid[0][1].set_title("gradient of the last output (norm)", size=9.5)
    for axes in grid[-1]:
        axes.set_xlabel("steps (logarithmic)")
    left_out = []
    for axes in grid.flat:  # When all are filled, for they share their limits.
        left_out += panels.name_ends(axes)
    panels.plain_ticks(grid[0][0].yaxis)
    seeds = f"{numbers['seeds']} seed{'s' * (numbers['seeds'] > 1)}"
    title = "How memory and gradient grow with the steps of an episode, before training"
    figure.suptitle(f"{title}\nrandom walks in the maze of size 9, widths of {numbers['width']}, {seeds}", size=10.5)
    panels.legend(figure, [*grid[0][0].get_lines(), *left_out])
    return figure


def _define_flags() -> None:
    flags.DEFINE_list("lengths", ["10", "25", "50", "100", "200"], "Steps of an episode.")
    flags.DEFINE_list("rates", ["0.12", "0.5", "0.88"], "Rates at the start, as shares of the largest rate.")
    flags.DEFINE_integer("width", 32, "Width of controller and memory.", lower_bound=1)
    flags.DEFINE_integer("seeds", 3, "Seeds of the agents.", lower_bound=1)
    flags.DEFINE_bool("redraw", False, "Draws what OUTPUT.json holds, and measures nothing.")


def main(argv: Sequence[str]) -> None:
    """Measures, draws and writes."""
    values = flags.FLAGS
    if len(argv) != 2:
        raise app.UsageError("wants one argument, the file of the figure")
    logging.set_verbosity(logging.WARNING)
    path = Path(argv[1])
    if not values.redraw:
        lengths, rates = list(map(int, values.lengths)), list(map(float, values.rates))
        task = MazeTask(size=9, episode_length=max(lengths))
        results = {name: measure(name, task, values.width, values.seeds, rates, lengths) for name in RULES}
        numbers = {"width": values.width, "seeds": values.seeds, "lengths": lengths, "rates": rates, "rules": results}
        path.with_suffix(".json").write_text(json.dumps(numbers, indent=1) + "\n")
    draw(json.loads(path.with_suffix(".json").read_text())).savefig(path)


if __name__ == "__main__":
    _define_flags()
    app.run(main)
