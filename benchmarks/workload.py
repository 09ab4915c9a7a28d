"""What the benchmarks of speed run: one batch of episodes through an MNM, as a program of JAX or of PyTorch.

The loss is made of the outputs and the errors after the writes, and the mean error before the writes comes out beside
it, as in a training; so nothing that a training computes is left out. The inputs are symbols.

Axes: `B` episodes, `T` time steps.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

import mnm_jax as mnm

NUM_SYMBOLS = 22  # As many as the demonstration reads.
OUTPUT_SIZE = 10

WRITERS = {"mnm_p": mnm.writers.local(), "mnm_g": mnm.writers.gradient()}
UNROLLS = ("reversible", "plain", "checkpointed")
TORCH = "torch"  # In the place of an unroll: the plain PyTorch version.
RUNS = ("forward", "gradient")
DTYPES = ("float32", "float64", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Workload:
    """One thing to measure.

    Attributes:
      writer: `'mnm_p'` or `'mnm_g'`.
      unroll: one of `UNROLLS`, or `TORCH`.
      run: `'forward'`, the loss alone, or `'gradient'`, the loss and its gradient in every parameter.
      num_steps: `T`.
      batch_size: `B`.
      size: width of the controller, the keys, the values and the memory's hidden layers, `d`.
      num_layers: layers of the memory, `L`.
      num_heads: `H`.
      dtype: of all parameters and of everything computed; with `'bfloat16'`, of the matrix products alone, and
        everything else in single precision.
    """

    writer: str
    unroll: str
    run: str
    num_steps: int
    batch_size: int
    size: int
    num_layers: int
    num_heads: int
    dtype: str = "float32"

    @property
    def spec(self) -> mnm.memory.Spec:
        """The architecture of the memory."""
        return mnm.memory.Spec(self.size, self.size, (self.size,) * (self.num_layers - 1))

    @property
    def cell(self) -> mnm.cells.MNM:
        """The cell, in its default options."""
        return mnm.cells.MNM(
            OUTPUT_SIZE,
            self.size,
            self.spec,
            WRITERS[self.writer],
            num_heads=self.num_heads,
            vocabulary_size=NUM_SYMBOLS,
            dtype=jnp.bfloat16 if self.dtype == "bfloat16" else None,
        )

    @property
    def parameter_dtype(self) -> str:
        """The type of the parameters and of the memory."""
        return "float32" if self.dtype == "bfloat16" else self.dtype


class Facts(NamedTuple):
    """What is known of a program before it runs.

    Attributes:
      compile_seconds: tracing and compiling; `None` where nothing is compiled.
      temporary_bytes: XLA's size of the temporary buffers; `None` where nothing is compiled.
    """

    compile_seconds: float | None
    temporary_bytes: int | None


class Sample(NamedTuple):
    """One run of a program.

    Attributes:
      seconds: from the call until everything is computed.
      processor_seconds: what all threads of the process spent on it, whatever else the machine did meanwhile.
      loss: what came out, to see that programs that are compared compute the same.
    """

    seconds: float
    processor_seconds: float
    loss: float


class _Watch:
    """Measures from when it is made."""

    def __init__(self) -> None:
        self._starts = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        """The seconds since, and the seconds that the process spent."""
        return time.perf_counter() - self._starts[0], time.process_time() - self._starts[1]


class Program(Protocol):
    """A workload, ready to run."""

    facts: Facts

    def run(self) -> Sample:
        """Runs it once."""
        ...


@functools.cache
def program(workload: Workload) -> Program:
    """The program for a workload, made once in each process."""
    return _TorchProgram(workload) if workload.unroll == TORCH else _JaxProgram(workload)


def facts(workload: Workload) -> Facts:
    """What is known of a workload's program; makes it if need be."""
    return program(workload).facts


def run(workload: Workload) -> Sample:
    """Runs a workload's program once; makes it if need be."""
    return program(workload).run()


def slope(workload: Workload) -> float | None:
    """How much temporary memory each further step of each episode takes, in bytes: from `T` to `2 T`."""
    if workload.unroll == TORCH:
        return None
    twice = dataclasses.replace(workload, num_steps=2 * workload.num_steps)
    difference = compiled(twice).memory_analysis().temp_size_in_bytes - facts(workload).temporary_bytes
    return difference / (workload.num_steps * workload.batch_size)


class _JaxProgram:
    """A workload compiled by XLA."""

    def __init__(self, workload: Workload) -> None:
        values = arguments(workload)
        start = time.perf_counter()
        self._compiled = compiled(workload)
        self.facts = Facts(time.perf_counter() - start, self._compiled.memory_analysis().temp_size_in_bytes)
        self._is_double = workload.dtype == "float64"
        with jax.enable_x64(self._is_double):
            self._arguments = jax.block_until_ready(jax.tree.map(jnp.asarray, values))

    def run(self) -> Sample:
        """Runs it once, until the gradient is there."""
        with jax.enable_x64(self._is_double):
            watch = _Watch()
            results = jax.block_until_ready(self._compiled(*self._arguments))
            seconds = watch.read()
        return Sample(*seconds, float(jax.tree.leaves(results)[0]))


class _TorchProgram:
    """A workload in eager PyTorch, on the CPU."""

    facts = Facts(None, None)

    def __init__(self, workload: Workload) -> None:
        # Without `--torch`, PyTorch need not be installed.
        import torch

        from benchmarks import torch_reference

        variables, inputs = arguments(workload)
        self._torch = torch
        self._is_gradient = workload.run == "gradient"
        self._parameters = torch_reference.parameters_of(variables)
        self._unroll = functools.partial(
            torch_reference.unroll,
            self._parameters,
            torch.from_numpy(inputs),
            writer=workload.writer,
            num_heads=workload.num_heads,
        )

    def run(self) -> Sample:
        """Runs it once; eager operations on a CPU are done when they return."""
        watch = _Watch()
        with self._torch.set_grad_enabled(self._is_gradient):
            run = self._unroll()
            loss = run.outputs.square().mean() + run.error_after.mean()
            run.error_before.detach().mean()
            if self._is_gradient:
                self._torch.autograd.grad(loss, jax.tree.leaves(self._parameters))
        return Sample(*watch.read(), loss.item())


def arguments(workload: Workload) -> tuple[Mapping[str, Any], np.ndarray]:
    """The cell's variables and the inputs `[B, T]`, the same numbers in every process and for every library."""
    variables = jax.tree.map(lambda leaf: np.asarray(leaf, workload.parameter_dtype), _initial_variables(workload.cell))
    inputs = np.random.default_rng(0).integers(NUM_SYMBOLS, size=(workload.batch_size, workload.num_steps))
    return variables, inputs.astype(np.int32)


def compiled(workload: Workload) -> jax.stages.Compiled:
    """A workload of JAX, compiled for the default device."""
    variables, inputs = arguments(workload)
    with jax.enable_x64(workload.dtype == "float64"):
        return jax.jit(_function(workload)).lower(variables, inputs).compile()


@functools.cache
def _initial_variables(cell: mnm.cells.MNM) -> Mapping[str, Any]:
    """The start of training, in single precision: in double precision, other random numbers would be drawn."""
    return jax.jit(cell.init)(jax.random.key(0), None, jnp.int32(0))


def _function(workload: Workload) -> Callable[[Mapping[str, Any], jax.Array], Any]:
    """From the variables and the inputs to the loss and the mean error before, or to these and the gradient."""
    cell = workload.cell

    def loss(variables: Mapping[str, Any], inputs: jax.Array) -> tuple[jax.Array, jax.Array]:
        if workload.unroll == "checkpointed":
            unroll = functools.partial(_unroll_checkpointed, cell, variables)
        else:
            unroll = functools.partial(mnm.unroll, cell, variables, reversible=workload.unroll == "reversible")
        outputs, trace = jax.vmap(lambda episode: unroll(episode)[1:])(inputs)
        return jnp.mean(jnp.square(outputs)) + jnp.mean(trace.error_after), jnp.mean(trace.error_before)

    return loss if workload.run == "forward" else jax.value_and_grad(loss, has_aux=True)


def _unroll_checkpointed(
    cell: mnm.cells.MNM, variables: Mapping[str, Any], inputs: jax.Array
) -> tuple[mnm.cells.MNMCarry, jax.Array, mnm.cells.Trace]:
    """A plain scan with `jax.checkpoint` on the step, in the place of `mnm.unroll`: what one would write without it."""

    @functools.partial(jax.checkpoint, prevent_cse=False)  # A scan's body needs no such protection.
    def step(carry: mnm.cells.MNMCarry, inputs: jax.Array) -> tuple[mnm.cells.MNMCarry, Any]:
        return cell.apply(variables, carry, inputs)

    dtype = jax.tree.leaves(variables)[0].dtype
    carry = jax.tree.map(lambda leaf: leaf.astype(dtype), cell.apply(variables, method="initial_carry"))
    carry, (outputs, trace) = jax.lax.scan(step, carry, inputs)
    return carry, outputs, trace
