"""Where does the time of a gradient go: products, passes over the memories, or the many small operations?

    python -m benchmarks.profile [--writers=mnm_p,mnm_g] [--num_steps=100] [--batch=32] [--size=100] [--num_layers=3]
        [--num_heads=1] [--run=gradient]

prints, for each kind of operation that XLA runs, how many of it there are in a time step, the time they take, and their
share. The last lines compare it with the floor: what `benchmarks.ceilings` counts at the rates that it measures, and
one episode alone, which is no more than starting the same operations. Tracing slows small operations.
"""

import collections
import dataclasses
import re
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
from absl import app, flags, logging

from benchmarks import ceilings, workload
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

PARAMETERS, MEMORY, PASSES, SMALL = (
    "products with parameters",
    "products with the memories",
    "passes over the memories (writes, their gradients, copies)",
    "all else (gates, norms, slices)",
)
_REPEATS = 7
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (\S+?)(?:\{[\d,]*\})? ([\w\-]+)\((.*)$", re.MULTILINE)
_FRAMES = ("while", "call", "conditional")  # Their time is that of what they run.


def kinds_of_instructions(text: str, workload: Workload) -> dict[str, str]:
    """Which kind each instruction of a compiled program is, by its name.

    Args:
      text: the program, in XLA's own notation.
      workload: what it runs; tells memories from parameters, by their shape.
    """
    shapes, kinds = {}, {}
    for name, shape, _, _ in _INSTRUCTION.findall(text):
        shapes[name] = shape
    # Of all episodes, or of as many as are unrolled at a time.
    memories = re.compile(rf"f32\[\d+,{workload.size},{workload.size}\]")
    computations = {part.split(" ", 1)[0].lstrip("%"): part for part in re.split(r"\n\n(?=%|ENTRY)", text)}
    for name, shape, opcode, rest in _INSTRUCTION.findall(text):
        called = re.search(r"calls=%?([\w.\-]+)", rest)
        is_product = opcode == "dot" or (called and " dot(" in computations.get(called.group(1), ""))
        operands = re.findall(r"%([\w.\-]+)", rest.split("), ")[0])
        has_memories = any(memories.fullmatch(shapes.get(other, "")) for other in (name, *operands))
        if is_product:
            kinds[name] = MEMORY if has_memories else PARAMETERS
        else:
            kinds[name] = PASSES if memories.fullmatch(shape) else SMALL
    return kinds


def trace(task: Workload) -> tuple[Mapping[str, float], Mapping[str, int]]:
    """Traces one run of a workload.

    Returns:
      The seconds that each kind of operation took, and how many of it were run.
    """
    program = workload.program(task)
    program.run()
    kinds = kinds_of_instructions(workload.compiled(task).as_text(), task)
    seconds, counts = collections.Counter(), collections.Counter()
    with tempfile.TemporaryDirectory() as directory:
        with jax.profiler.trace(directory):
            program.run()
        (path,) = Path(directory).rglob("*.xplane.pb")
        for plane in jax.profiler.ProfileData.from_file(str(path)).planes:
            for event in (event for line in plane.lines for event in line.events):
                name = dict(event.stats).get("hlo_op")
                if name is not None and not name.startswith(_FRAMES):
                    kind = kinds.get(name, SMALL)
                    seconds[kind] += event.duration_ns / 1e9
                    counts[kind] += 1
    return seconds, counts


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
        seconds, counts = trace(task)
        total = sum(seconds.values())
        rows = [
            [kind, f"{counts[kind] / task.num_steps:.0f}", f"{1e3 * seconds[kind]:.0f}", f"{seconds[kind] / total:.0%}"]
            for kind in (PARAMETERS, MEMORY, PASSES, SMALL)
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
