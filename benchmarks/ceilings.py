"""What a machine can do at best, measured, and what a workload asks of it at least, counted.

Axes: `L` layers of the memory, `H` heads, `T` time steps, `B` episodes.
"""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.workload import OUTPUT_SIZE, Workload

_NUM_REPEATS = 7


class Ceilings(NamedTuple):
    """The best rates of the default device.

    Attributes:
      bytes_per_second: read and written by a pass over a large array.
      flops_per_second: of a product of two large square matrices, at JAX's default precision.
    """

    bytes_per_second: float
    flops_per_second: float


def measure(dtype: str, *, num_bytes: int | None = None, matrix_size: int | None = None) -> Ceilings:
    """Measures the ceilings on the default device.

    Args:
      dtype: of the arrays.
      num_bytes: size of the array that is passed over, too large for any cache; `None` chooses for the device.
      matrix_size: number of rows of the matrices; `None` chooses for the device.

    Returns:
      The rates, from the medians of several runs.
    """
    is_cpu = jax.default_backend() == "cpu"
    num_bytes = num_bytes or (2**27 if is_cpu else 2**31)
    matrix_size = matrix_size or (1024 if is_cpu else 8192)
    with jax.enable_x64(dtype == "float64"):
        array = jnp.zeros(num_bytes // jnp.dtype(dtype).itemsize, dtype)
        num_bytes = 2 * array.nbytes
        # In place, for the first touch of fresh memory is slow on a CPU; and a bare copy would be compiled away.
        copy_seconds = _median_seconds(jax.jit(lambda x: x + 1, donate_argnums=0), array)
        product_seconds = _median_seconds(jax.jit(lambda x: x @ x), jnp.eye(matrix_size, dtype=dtype))
    return Ceilings(num_bytes / copy_seconds, 2 * matrix_size**3 / product_seconds)


def _median_seconds(function: Callable[[jax.Array], jax.Array], array: jax.Array) -> float:
    """The median time of applying the function, again and again, after once that does not count."""
    array = jax.block_until_ready(function(array))
    seconds = []
    for _ in range(_NUM_REPEATS):
        start = time.perf_counter()
        array = jax.block_until_ready(function(array))
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def least_bytes(workload: Workload) -> int:
    """The bytes that the memories' weights must move in one run, if all else stayed in caches.

    Forward, every step takes the weights in and gives them out: they are passed over 2 times. Backward, the weights
    and their cotangents go in and out: 4 times more.
    """
    num_passes = 2 if workload.run == "forward" else 6
    item_bytes = jnp.dtype(workload.parameter_dtype).itemsize
    return num_passes * workload.spec.num_weights * item_bytes * workload.num_steps * workload.batch_size


def least_flops(workload: Workload) -> int:
    """The floating-point operations of all matrix products of one run, nothing computed twice.

    Forward, the products of the equations; a multiplication and an addition are 2. Backward, each product has two
    more of the same size.
    """
    size, num_heads, num_layers = workload.size, workload.num_heads, workload.num_layers
    controller = 3 * size * 4 * size  # Embedding, read and state to four gates.
    interface = size * (3 * num_heads * size + size) + size
    # Through the memory go the write keys, before and after the write, and the read keys; the write itself is as large.
    memory = 4 * num_heads * workload.spec.num_weights
    # The local rule makes a target for each layer; the inner gradient goes back through all layers but the lowest.
    writer = num_heads * size**2 * (num_layers if workload.writer == "mnm_p" else num_layers - 1)
    output = 2 * size * OUTPUT_SIZE
    forward = 2 * (controller + interface + memory + writer + output) * workload.num_steps * workload.batch_size
    return forward if workload.run == "forward" else 3 * forward
