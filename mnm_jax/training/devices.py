"""How the seeds of a run, or the episodes of its updates, are spread over devices.

Outside of the compiled functions, every array of a run has one leading axis, its `S` seeds, whatever the devices: that
is how states are saved, and a run may go on with other devices than it began with. `Placement.spread` and `collect` go
to and fro.

Axes: `S` seeds, `D` devices of all processes together, `P` devices of this process.
"""

import functools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import numpy as np
import optax
from jax.experimental import multihost_utils

from mnm_jax import _checks
from mnm_jax.training.settings import TrainingSettings
from mnm_jax.training.task import AnyTask
from mnm_jax.training.update import TrainState, make_functions

PyTree = Any
Shares = tuple[PyTree, ...]  # One for each device of this process, or for each seed in turn.
Parallel = Literal["none", "in_turn", "data", "seeds"]
PARALLEL = ("none", "in_turn", "data", "seeds")
_AXIS = "devices"


class Placement(NamedTuple):
    """The functions of `make_functions` for all seeds of a run, compiled, on some arrangement of devices.

    Attributes:
      init: `init(seeds) -> state`, on the devices, as all that follow but `spread` and `collect` take and give it.
      train_chunk: `train_chunk(state, n, bucket) -> (state, metrics, bad_updates)`; consumes its state. The bucket is
        what `replicate` made of it; it is left out for a task without buckets.
      evaluate: `evaluate(state, batches) -> metrics`.
      record_evaluation: `record_evaluation(state, metrics) -> state`; consumes its state.
      shapes: `shapes(num_seeds)`, what `collect` makes of a state, as `jax.ShapeDtypeStruct`s.
      spread: from arrays `[S, ...]` to the devices.
      replicate: from arrays to a copy on every device, for `train_chunk`; one serves all seeds of a device.
      collect: from the devices to arrays `[S, ...]` on the host, the same in every process.
    """

    init: Callable[[Sequence[int]], Any]
    train_chunk: Callable[..., tuple[Any, Any, Any]]
    evaluate: Callable[[Any, Sequence[PyTree]], Any]
    record_evaluation: Callable[[Any, Any], Any]
    shapes: Callable[[int], TrainState]
    spread: Callable[[PyTree], Any]
    replicate: Callable[[PyTree], Any]
    collect: Callable[[Any], PyTree]


def check_divisible(parallel: Parallel, settings: TrainingSettings, num_seeds: int) -> None:
    """Checks that seeds or episodes can be shared out evenly.

    Raises:
      ValueError: if not, with the nearest numbers that can; or if there are several processes and nothing to share.
    """
    _checks.check_choice("parallel", parallel, PARALLEL)
    if parallel in ("none", "in_turn") and jax.process_count() > 1:
        raise ValueError(
            f"parallel={parallel!r} uses one device, but there are several processes; want 'data' or 'seeds'"
        )
    num_devices = jax.device_count()
    for name, kind, number in (("batch_size", "data", settings.batch_size), ("num_seeds", "seeds", num_seeds)):
        if parallel == kind and number % num_devices:
            below = number // num_devices * num_devices
            nearest = " or ".join(str(size) for size in (below, below + num_devices) if size)
            raise ValueError(
                f"{name}={number} cannot be shared out evenly over {num_devices} devices; the nearest that can: "
                f"{nearest}"
            )


def place(
    task: AnyTask,
    cell: nn.Module,
    settings: TrainingSettings,
    parallel: Parallel = "none",
    optimizer: optax.GradientTransformation | None = None,
) -> Placement:
    """Compiles training for an arrangement of devices.

    Equal arguments give the very same functions, so that nothing is compiled twice.

    Args:
      task: what to learn.
      cell: what learns it.
      settings: how.
      parallel: `'none'`: all on one device, side by side.
        `'in_turn'`: all on one device, one after the other, each for a chunk of updates, and bit for bit as it would be
        trained alone. On a CPU this is faster where one seed has enough to do.
        `'data'`: by `jax.pmap`, every device has all the seeds and an equal share of the episodes of each update and
        evaluation, and gradients are averaged: the same training as on one device, up to rounding
        (which may tip the choice between candidates).
        `'seeds'`: each device has an equal share of the seeds, and does with it, bit for bit, what it would do alone.
        It is driven by a thread for each, which sees the global settings of JAX, but no `with` around the call.
      optimizer: in place of the one that the settings ask for.

    Returns:
      The `Placement`.

    Raises:
      ValueError: if there is no such arrangement.
    """
    _checks.check_choice("parallel", parallel, PARALLEL)
    return _place(task, cell, settings, parallel, optimizer)


@functools.lru_cache(maxsize=16)  # It would tell a default that is given from one that is not.
def _place(
    task: AnyTask,
    cell: nn.Module,
    settings: TrainingSettings,
    parallel: Parallel,
    optimizer: optax.GradientTransformation | None,
) -> Placement:
    functions = make_functions(task, cell, settings, _AXIS if parallel == "data" else None, optimizer)
    init = jax.jit(jax.vmap(lambda key_data: functions.init(jax.random.wrap_key_data(key_data))))
    train_chunk = jax.vmap(functions.train_chunk, in_axes=(0, None, None))
    evaluate = jax.vmap(lambda state, batches: functions.evaluate(state.variables, batches), in_axes=(0, None))
    record_evaluation = jax.vmap(functions.record_evaluation)

    def shapes(num_seeds: int) -> TrainState:
        state: TrainState = jax.eval_shape(init, _key_data(range(num_seeds)))
        return state

    if parallel == "data":
        parallelize = functools.partial(jax.pmap, axis_name=_AXIS)
        mapped_chunk = parallelize(train_chunk, in_axes=(0, None, 0), donate_argnums=0)
        copy = jax.pmap(lambda x: x)
        return Placement(
            init=lambda seeds: _replicate(init(_key_data(seeds))),
            train_chunk=lambda state, n, bucket=None: mapped_chunk(state, n, bucket),
            evaluate=parallelize(evaluate, in_axes=(0, None)),
            record_evaluation=parallelize(record_evaluation, donate_argnums=0),
            shapes=shapes,
            spread=_replicate,
            replicate=lambda tree: jax.tree.map(copy, _replicate(tree)),
            collect=lambda tree: jax.tree.map(lambda x: np.asarray(x[0]), tree),
        )
    train_chunk, evaluate, record_evaluation = (
        jax.jit(train_chunk, donate_argnums=0),
        jax.jit(evaluate),
        jax.jit(record_evaluation, donate_argnums=0),
    )
    # The same program on each device, and not one program for all of them, which `pmap` would compile otherwise, to
    # slightly other numbers: with this, a seed's numbers do not depend on how many devices there are.
    spread = {"none": lambda tree: (jax.device_put(tree),), "in_turn": _take_apart, "seeds": _share_out}[parallel]
    on_each = _in_turn if parallel == "in_turn" else _at_once
    devices = jax.local_devices() if parallel == "seeds" else (None,)
    no_buckets = (None,) * len(devices)

    def replicate(tree: PyTree) -> Shares:
        return tuple(jax.device_put(tree, device) for device in devices)

    def chunk(states: Shares, n: int, buckets: Shares = no_buckets) -> tuple[Shares, Shares, Shares]:
        of_each = buckets * (len(states) // len(buckets))  # Seeds in turn share what their device has.
        results = on_each(lambda state, bucket: train_chunk(state, n, bucket), states, of_each)
        states, metrics, bad_updates = zip(*results, strict=True)
        return states, metrics, bad_updates

    return Placement(
        init=lambda seeds: on_each(init, spread(_key_data(seeds))),
        train_chunk=chunk,
        evaluate=lambda states, batches: on_each(lambda state: evaluate(state, batches), states),
        record_evaluation=lambda states, metrics: on_each(record_evaluation, states, metrics),
        shapes=shapes,
        spread=spread,
        replicate=replicate,
        collect=_gather if parallel == "seeds" else _concatenate,
    )


def _key_data(seeds: Sequence[int]) -> np.ndarray:
    return np.stack([jax.random.key_data(jax.random.key(seed)) for seed in seeds])


def _replicate(tree: PyTree) -> PyTree:
    """`[S, ...]` -> `[P, S, ...]`."""
    count = jax.local_device_count()
    return jax.tree.map(lambda x: np.broadcast_to(x, (count, *x.shape)), jax.device_get(tree))


def _share_out(tree: PyTree) -> Shares:
    """`[S, ...]` -> for each of this process's devices, `[S / D, ...]`."""
    shares, devices = _split(tree, jax.device_count()), jax.local_devices()
    first = jax.process_index() * len(devices)
    return tuple(jax.device_put(shares[first + i], device) for i, device in enumerate(devices))


def _take_apart(tree: PyTree) -> Shares:
    """`[S, ...]` -> for each seed, `[1, ...]`."""
    return tuple(map(jax.device_put, _split(tree, len(jax.tree.leaves(tree)[0]))))


def _split(tree: PyTree, number: int) -> list[PyTree]:
    """`[S, ...]` -> `number` of `[S / number, ...]`, on the host."""
    leaves, structure = jax.tree.flatten(jax.device_get(tree))
    return [jax.tree.unflatten(structure, parts) for parts in zip(*(np.split(x, number) for x in leaves), strict=True)]


def _in_turn(function: Callable[..., Any], *shares: Shares) -> Shares:
    """Calls a function for every share, each when the one before is done: called at once, they would run at once."""
    return tuple(jax.block_until_ready(function(*arguments)) for arguments in zip(*shares, strict=True))


def _at_once(function: Callable[..., Any], *shares: Shares) -> Shares:
    """Calls a function for every device, at the same time: a first call compiles for each."""
    if len(shares[0]) == 1:
        return (function(*(share for (share,) in shares)),)  # Threads would not know of `with jax.enable_x64()`.
    with ThreadPoolExecutor(len(shares[0])) as pool:
        return tuple(pool.map(function, *shares))


def _concatenate(shares: Shares) -> PyTree:
    """From the shares of this process: `N` of `[n, ...]` -> `[N n, ...]`."""
    return jax.tree.map(lambda *parts: np.concatenate(parts), *jax.device_get(shares))


def _gather(shares: Shares) -> PyTree:
    """For each of this process's devices, `[S / D, ...]` -> `[S, ...]`, the seeds of all processes."""
    tree = _concatenate(shares)
    return multihost_utils.process_allgather(tree, tiled=True) if jax.process_count() > 1 else tree


def max_over_processes(values: Sequence[float]) -> list[float]:
    """The largest of each value over all processes, so that all of them decide alike. With one process, its own."""
    if jax.process_count() == 1:
        return list(values)
    # JAX would round them to 32 bits.
    halves = np.array(values, np.float64).view(np.uint32)
    gathered = np.asarray(multihost_utils.process_allgather(halves))
    return [float(value) for value in np.ascontiguousarray(gathered).view(np.float64).max(axis=0)]
