"""Where does the time of a gradient go: products, passes over the memories, or the many small operations?

    python -m benchmarks.profile [--writers=mnm_p,mnm_g] [--num_steps=100] [--batch=32] [--size=100] [--num_layers=3]
        [--num_heads=1] [--run=gradient]

prints, for each kind of operation that XLA runs, how many of it there are in a time step, the time they take, and their
share. The last lines compare it with the floor: what `benchmarks.ceilings` counts at the rates that it measures, and
one episode alone, which is no more than starting the same operations. Tracing slows small operations.
"""

import dataclasses
import statistics
from collections.abc import Sequence

import jax
from absl import app, flags, logging

from benchmarks import ceilings, tracing, workload
from benchmarks.workload import Workload
from mnm_jax.analysis import tables

_WRITERS = flags.DEFINE_list("writers", list(workload.WRITERS), f"Some of {', '.join(workload.WRITERS)}.")
_NUM_STEPS = flags.DEFINE_integer("num_steps", 100, "Length of the episodes, T.", lower_bound=1)
_BATCH = flags.DEFINE_integer("batch", 32, "Episodes.", lower_bound=1)
_SIZE = flags.DEFINE_integer("size", 100, "Width of controller, keys, values and hidden layers, d.", lower_bound=1)
_NUM_LAYERS = flags.DEFINE_integer("num_layers", 3, "Layers of the memory, L.", lower_bound=1)
_NUM_HEADS = flags.DEFINE_integer("num_heads", 1, "Heads, H.", lower_bound=1)
_RUN = flags.DEFINE_enum("run", "gradient", workload.RUNS, "The loss alone, or with its gradient.")

flags.register_validator(
    "writers",
    lambda names: bool(names) and set(names) <= set(workload.WRITERS),
    f"takes one or more of {', '.join(workload.WRITERS)}, separated by commas",
)

_REPEATS = 7


def median_seconds(task: Workload) -> float:
    """The median time of a workload."""
    program = workload.program(task)
    program.run()
    return statistics.median(program.run().seconds for _ in range(_REPEATS))


def main(argv: Sequence[str]) -> None:
    """Prints the tables."""
    del argv
    logging.set_verbosity(logging.WARNING)
    measured = ceilings.measure("float32")
    sizes = (_NUM_STEPS.value, _BATCH.value, _SIZE.value, _NUM_LAYERS.value, _NUM_HEADS.value)
    print("{}, jax {}; T={}, B={}, d={}, L={}, H={}".format(jax.devices()[0].device_kind, jax.__version__, *sizes))
    for writer in _WRITERS.value:
        task = Workload(writer, "reversible", _RUN.value, *sizes)
        seconds, counts = tracing.trace(task)
        total = sum(seconds.values())
        rows = [
            [kind, f"{counts[kind] / task.num_steps:.0f}", f"{1e3 * seconds[kind]:.0f}", f"{seconds[kind] / total:.0%}"]
            for kind in tracing.KINDS
        ]
        print(f"\n{writer}, {task.run}, traced:\n")
        print(tables.to_markdown(["operations", "in a step", "ms", "share"], rows), flush=True)
        floors = {
            "measured, not traced": median_seconds(task),
            "all products at the measured rate": ceilings.least_flops(task) / measured.flops_per_second,
            "the memories moved at the measured rate": ceilings.least_bytes(task) / measured.bytes_per_second,
            "one episode alone": median_seconds(dataclasses.replace(task, batch_size=1)),
        }
        rows = [[name, f"{1e3 * value:.0f}"] for name, value in floors.items()]
        print(tables.to_markdown(["", "ms"], rows), end="", flush=True)


if __name__ == "__main__":
    app.run(main)
