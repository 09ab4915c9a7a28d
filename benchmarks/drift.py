"""How exact is the gradient of a long episode, whose memory is walked back step by step?

    python -m benchmarks.drift OUTPUT.png [--lengths=64,256,1024,4096] [--anchors=64,256,1024] [--size=100]
        [--writers=mnm_p,mnm_g] [--rate_bias=-2]
    python -m benchmarks.drift OUTPUT.png --redraw

compares the gradient in single precision with that of a plain unroll in double precision, once by a plain unroll in
single precision, once reversibly without anchors, and once for each number of steps between anchors; and the reversible
ones with the plain one in single precision, whose forward pass is the same up to how it is compiled. The
error is the largest over all parameters of |g - g'| / |g'|. Draws the figure, and writes `OUTPUT.json` beside it, from
which `--redraw` draws it again without measuring. The suffix is the format: png, pdf, svg.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags, logging
from matplotlib.figure import Figure

import mnm_jax as mnm
from benchmarks.workload import NUM_SYMBOLS, OUTPUT_SIZE, WRITERS
from mnm_jax.analysis import panels, style

PyTree = Any

_LENGTHS = flags.DEFINE_list("lengths", ["64", "256", "1024", "4096"], "Lengths of the episode, T.")
_ANCHORS = flags.DEFINE_list("anchors", ["64", "256", "1024"], "Steps between anchors.")
_SIZE = flags.DEFINE_integer("size", 100, "Width of controller, keys, values and hidden layers, d.", lower_bound=1)
_NUM_LAYERS = flags.DEFINE_integer("num_layers", 3, "Layers of the memory, L.", lower_bound=1)
_WRITERS = flags.DEFINE_list("writers", list(WRITERS), f"Some of {', '.join(WRITERS)}.")
_RATE_BIAS = flags.DEFINE_float("rate_bias", -2.0, "How strongly the memory is written: the bias of the rate.")
_REDRAW = flags.DEFINE_bool("redraw", False, "Draws what OUTPUT.json holds, and measures nothing.")

flags.register_validator(
    "writers",
    lambda names: bool(names) and set(names) <= set(WRITERS),
    f"takes one or more of {', '.join(WRITERS)}, separated by commas",
)

PLAIN, WITHOUT_ANCHORS = "plain", "reversible, no anchors"


def gradient(
    cell: mnm.cells.MNM, variables: PyTree, inputs: np.ndarray, dtype: str, **options: Any
) -> list[np.ndarray]:
    """The gradient of a loss of one episode in every parameter, in the given precision."""
    with jax.enable_x64(dtype == "float64"):

        def loss(variables: PyTree) -> jax.Array:
            run = mnm.unroll(cell, variables, jnp.asarray(inputs), **options)
            return jnp.mean(jnp.square(run.outputs)) + jnp.mean(run.trace.error_after)

        typed = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), variables)
        return [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(jax.jit(jax.grad(loss))(typed))]


def largest_error(actual: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> float:
    """The largest relative error of a parameter's gradient, in the Euclidean norm."""
    pairs = zip(actual, wanted, strict=True)
    return max(float(np.linalg.norm(a - w) / np.linalg.norm(w)) for a, w in pairs if np.any(w))


def measure(cell: mnm.cells.MNM, num_steps: int, anchors: Sequence[int]) -> dict[str, dict[str, float]]:
    """The errors of every way to unroll an episode of `num_steps`.

    Returns:
      By the name of the way: against the plain unroll `in_double` precision and `in_single` precision.
    """
    variables = jax.device_get(jax.jit(cell.init)(jax.random.key(0), None, jnp.int32(0)))
    inputs = np.random.default_rng(0).integers(NUM_SYMBOLS, size=num_steps).astype(np.int32)
    exact = gradient(cell, variables, inputs, "float64", reversible=False)
    ways = {PLAIN: {"reversible": False}, WITHOUT_ANCHORS: {"anchor_every": num_steps}}
    ways |= {f"an anchor every {k} steps": {"anchor_every": k} for k in anchors if k < num_steps}
    gradients = {way: gradient(cell, variables, inputs, "float32", **options) for way, options in ways.items()}
    return {
        way: {"in_double": largest_error(values, exact), "in_single": largest_error(values, gradients[PLAIN])}
        for way, values in gradients.items()
    }


def draw(results: Mapping[str, Mapping[int, Mapping[str, Mapping[str, float]]]], title: str) -> Figure:
    """Draws the errors over the length, a column for each writer, with logarithmic axes.

    Args:
      results: by writer and length, what `measure` made.
      title: of the figure.
    """
    figure = Figure((4 * len(results), 6.6), layout="constrained")
    all_axes = figure.subplots(2, len(results), sharex=True, sharey="row", squeeze=False)
    rows = {"in_double": "error against float64, plain", "in_single": "error against float32, plain"}
    ways = list(dict.fromkeys(way for by_length in results.values() for ways in by_length.values() for way in ways))
    looks = dict(zip(ways, style.series(ways), strict=True))
    for panel_row, (reference, label) in zip(all_axes, rows.items(), strict=True):
        panel_row[0].set_ylabel(label)
        for axes, (writer, by_length) in zip(panel_row, results.items(), strict=True):
            axes.set(xscale="log", yscale="log")
            for i, (way, look) in enumerate(looks.items()):
                if way == PLAIN and reference == "in_single":
                    continue
                aside = 1.06 ** (i - len(looks) // 2)  # Those that are equal shall not hide each other.
                points = [(length * aside, ways[way][reference]) for length, ways in by_length.items() if way in ways]
                axes.plot(*zip(*points, strict=True), **panels.line_of(look))
            axes.set_xticks(list(by_length), [f"{length:,}" for length in by_length])
            axes.minorticks_off()
            panels.finish(axes)
            if reference == "in_double":
                axes.set_title(style.styles([writer])[writer].label)
            else:
                axes.set_xlabel("time steps, T (logarithmic)")
    left_out = []
    for axes in all_axes.flat:  # When all are filled, for they share their limits.
        left_out += panels.name_ends(axes)
    figure.suptitle(f"{title}; ways side by side at each T", size=10.5)
    panels.legend(figure, [*all_axes[0][0].get_lines(), *left_out])
    return figure


def measure_all() -> dict[str, dict[int, dict[str, dict[str, float]]]]:
    """Measures what the flags say: by writer and length, what `measure` makes."""
    size = _SIZE.value
    spec = mnm.memory.Spec(size, size, (size,) * (_NUM_LAYERS.value - 1))
    results: dict[str, dict[int, dict[str, dict[str, float]]]] = {}
    for name in _WRITERS.value:
        results[name] = {}
        cell = mnm.cells.MNM(
            OUTPUT_SIZE, size, spec, WRITERS[name], vocabulary_size=NUM_SYMBOLS, rate_bias=_RATE_BIAS.value
        )
        for length in map(int, _LENGTHS.value):
            results[name][length] = measure(cell, length, list(map(int, _ANCHORS.value)))
            for way, errors in results[name][length].items():
                print(f"{name} T={length}, {way}: {errors['in_double']:.1e}, {errors['in_single']:.1e}", flush=True)
    return results


def main(argv: Sequence[str]) -> None:
    """Measures, draws and writes."""
    if len(argv) != 2:
        raise app.UsageError("wants one argument, the file of the figure")
    logging.set_verbosity(logging.WARNING)
    path, size = Path(argv[1]), _SIZE.value
    if not _REDRAW.value:
        path.with_suffix(".json").write_text(json.dumps(measure_all(), indent=1) + "\n")
    results = {
        writer: {int(length): ways for length, ways in by_length.items()}
        for writer, by_length in json.loads(path.with_suffix(".json").read_text()).items()
    }
    title = f"The gradient in single precision: d={size}, L={_NUM_LAYERS.value}, rate bias {_RATE_BIAS.value:g}"
    draw(results, title).savefig(path, dpi=150)


if __name__ == "__main__":
    app.run(main)
