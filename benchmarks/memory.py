"""How much memory does the gradient of an episode take, with and without the memory-saving unroll?

    python -m benchmarks.memory [--models=mnm_p,mnm_g,lstm,salu,attention] [--num_steps=50,100,200,400]
        [--batch_size=32] [--size=100] [--num_layers=3] [--num_heads=1] [--peak]

prints XLA's own figure for the temporary buffers of one gradient. `--peak` also computes the gradient with the
memory-saving unroll, in a process of its own, and prints the peak of the memory that this process had in use. The
inputs are symbols, and the loss is made of the outputs and the errors of the writes, so that nothing can be left out.
"""

from collections.abc import Sequence

import jax
from absl import app, flags, logging

from benchmarks import footprint
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
            cell = footprint.make_cell(*arguments)
            values = [
                footprint.temporary_bytes(cell, num_steps, batch_size, reversible=saves) for saves in (False, True)
            ]
            if _PEAK.value:
                values.append(footprint.peak_of_a_process(arguments, batch_size))
            lines.append([model, str(num_steps), *(f"{value / 1e6:,.1f}" for value in values)])
    print(tables.to_markdown(header, lines), end="")


if __name__ == "__main__":
    app.run(main)
