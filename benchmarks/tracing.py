"""Which operations XLA runs for a workload, by kind, and the time that they take."""

import collections
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

import jax

from benchmarks import workload
from benchmarks.workload import Workload

PARAMETERS, MEMORY, PASSES, SMALL = (
    "products with parameters",
    "products with the memories",
    "passes over the memories (writes, their gradients, copies)",
    "all else (gates, norms, slices)",
)
KINDS = (PARAMETERS, MEMORY, PASSES, SMALL)
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
