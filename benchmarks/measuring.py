"""Takes the time of several workloads in turn, so that whatever else the machine does hits all of them alike."""

import contextlib
import dataclasses
import functools
import multiprocessing
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import jax

from benchmarks import workload as workload_lib
from benchmarks.workload import TORCH, Sample, Workload

Call = Callable[..., Any]

_LOSS_TOLERANCE = 1e-3


class Row(NamedTuple):
    """What was measured of one workload.

    Attributes:
      workload: what ran.
      seconds, processor_seconds: of each run; see `workload.Sample`.
      compile_seconds, temporary_bytes: see `workload.Facts`.
      bytes_per_sample_step: temporary memory of each further step of each episode; `None` where it was not asked for.
      loss: what the workload computed.
    """

    workload: Workload
    seconds: tuple[float, ...]
    processor_seconds: tuple[float, ...]
    compile_seconds: float | None
    temporary_bytes: int | None
    bytes_per_sample_step: float | None
    loss: float

    @property
    def median_seconds(self) -> float:
        """The median of all runs."""
        return statistics.median(self.seconds)

    @property
    def median_processor_seconds(self) -> float:
        """The median of all runs, in the time of the processor."""
        return statistics.median(self.processor_seconds)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The first and the third quartile of the seconds."""
        first, _, third = statistics.quantiles(self.seconds, method="inclusive")
        return first, third

    @property
    def episodes_per_second(self) -> float:
        """Episodes, from the median."""
        return self.workload.batch_size / self.median_seconds

    @property
    def steps_per_second(self) -> float:
        """Time steps of episodes, from the median."""
        return self.workload.num_steps * self.episodes_per_second

    def to_json(self) -> dict[str, Any]:
        """Everything, for a file."""
        first, third = self.quartiles
        return {
            **dataclasses.asdict(self.workload),
            "seconds": self.seconds,
            "processor_seconds": self.processor_seconds,
            "median_seconds": self.median_seconds,
            "median_processor_seconds": self.median_processor_seconds,
            "first_quartile_seconds": first,
            "third_quartile_seconds": third,
            "episodes_per_second": self.episodes_per_second,
            "steps_per_second": self.steps_per_second,
            "compile_seconds": self.compile_seconds,
            "temporary_bytes": self.temporary_bytes,
            "bytes_per_sample_step": self.bytes_per_sample_step,
            "loss": self.loss,
        }


def measure(
    workloads: Sequence[Workload], num_repeats: int, call: Callable[[Workload], Call], *, with_slope: bool = True
) -> list[Row]:
    """Runs workloads that must all give the same loss, in turn, after one run each that does not count.

    Args:
      workloads: what to run; equal but for how it is unrolled.
      num_repeats: how many runs of each count.
      call: for a workload, what calls a function in the process that it shall run in; see `processes`.
      with_slope: whether to compile a second time for `Row.bytes_per_sample_step`.

    Returns:
      A row for each workload.

    Raises:
      RuntimeError: if two workloads give different losses.
    """
    facts = [call(workload)(workload_lib.facts, workload) for workload in workloads]
    slopes = [call(workload)(workload_lib.slope, workload) if with_slope else None for workload in workloads]
    losses = [call(workload)(workload_lib.run, workload).loss for workload in workloads]
    for workload, loss in zip(workloads, losses, strict=True):
        if not abs(loss - losses[0]) <= _LOSS_TOLERANCE * abs(losses[0]):
            raise RuntimeError(f"{workload} gives a loss of {loss}, but {workloads[0]} one of {losses[0]}")
    samples: list[list[Sample]] = [[] for _ in workloads]
    for _ in range(num_repeats):
        for workload, its_samples in zip(workloads, samples, strict=True):
            its_samples.append(call(workload)(workload_lib.run, workload))
    rows = []
    for workload, its_samples, its_facts, slope in zip(workloads, samples, facts, slopes, strict=True):
        seconds, processor_seconds, its_losses = zip(*its_samples, strict=True)
        rows.append(Row(workload, seconds, processor_seconds, *its_facts, slope, its_losses[0]))
    return rows


def call_here(workload: Workload) -> Call:
    """Runs every workload in this process, with as many threads as its library likes."""
    del workload
    return lambda function, *arguments: function(*arguments)


@contextlib.contextmanager
def processes() -> Iterator[Callable[[Workload], Call]]:
    """Two processes of a single thread each, on the same core of the CPU: one runs JAX, the other PyTorch."""
    context = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        jax_pool, torch_pool = (
            stack.enter_context(ProcessPoolExecutor(1, context, initializer=initializer))
            for initializer in (_use_one_thread, _use_one_thread_of_torch)
        )

        def call(workload: Workload) -> Call:
            pool = torch_pool if workload.unroll == TORCH else jax_pool
            return functools.partial(_result, pool)

        yield call


def _result(pool: ProcessPoolExecutor, function: Callable[..., Any], *arguments: Any) -> Any:
    return pool.submit(function, *arguments).result()


def _use_one_thread() -> None:
    # XLA looks at all of this when it makes its first array, which has not happened yet.
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false"
    jax.config.update("jax_platforms", "cpu")
    if hasattr(os, "sched_setaffinity"):  # Not on every system.
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def _use_one_thread_of_torch() -> None:
    _use_one_thread()  # JAX makes the weights there too.
    import torch

    torch.set_num_threads(1)
