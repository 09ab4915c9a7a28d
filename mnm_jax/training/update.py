"""Training as three pure functions of ONE seed, to be vmapped over seeds and jit-compiled by the loop.

Axes: `B` episodes.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from mnm_jax import _checks, objectives
from mnm_jax.unroll import unroll

PyTree = Any
Metrics = dict[str, jax.Array]


class Task(Protocol):
    """What a task must offer to be trained on: a hashable value whose methods are pure and work on ONE episode."""

    def sample(self, rng: jax.Array) -> Any:
        """Draws an episode, a pytree of fixed shapes with a field `inputs: [T, ...]`."""
        ...

    def loss(self, outputs: jax.Array, example: Any) -> jax.Array:
        """The task's loss for the outputs `[T, output_size]` of an episode: `[]`."""
        ...

    def metrics(self, outputs: jax.Array, example: Any) -> Metrics:
        """Whatever is worth knowing of an episode, by name, each `[]`."""
        ...


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
      num_updates: how many updates in all.
      batch_size: episodes per update, `B`.
      learning_rate: of Adam.
      schedule: of the learning rate: `'constant'`, or `'cosine'`, which ends at zero after `num_updates`.
      clip_norm: the largest global norm of the gradient; what is above is scaled down to it.
      meta_weight: weight of the meta-objective in the loss, lambda. Of no effect for a cell without a written memory.
      evaluate_every: updates between two evaluations.
      evaluation_episodes: how many held-out episodes an evaluation takes, the same ones every time.
      evaluation_seed: seed of the held-out episodes.
    """

    num_updates: int
    batch_size: int = 32
    learning_rate: float = 3e-3
    schedule: str = "constant"
    clip_norm: float = 1.0
    meta_weight: float = 0.03
    evaluate_every: int = 50
    evaluation_episodes: int = 256
    evaluation_seed: int = 1_000_000

    def __post_init__(self) -> None:
        _checks.check_choice("schedule", self.schedule, ("constant", "cosine"))
        _checks.check_positive(
            num_updates=self.num_updates,
            batch_size=self.batch_size,
            evaluate_every=self.evaluate_every,
            evaluation_episodes=self.evaluation_episodes,
        )
        for name in ("learning_rate", "clip_norm", "meta_weight"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} must be finite and not negative, got {value!r}")


class TrainState(NamedTuple):
    """All that training goes on from.

    Attributes:
      params: the learned parameters.
      opt_state: the optimiser's state.
      rng: the random key of the seed; the data of update `i` come from `fold_in(rng, i)`.
      update: `[]`, how many updates were made.
    """

    params: PyTree
    opt_state: PyTree
    rng: jax.Array
    update: jax.Array


class Functions(NamedTuple):
    """Training as pure functions of one seed.

    Attributes:
      init: `init(rng) -> state`.
      train_chunk: `train_chunk(state, n) -> (state, metrics)`: `n` updates (may be traced), and the means of what they
        measured.
      evaluate: `evaluate(params, examples) -> metrics`, the means over episodes that `sample_batch` drew.
    """

    init: Callable[[jax.Array], TrainState]
    train_chunk: Callable[[TrainState, jax.Array], tuple[TrainState, Metrics]]
    evaluate: Callable[[PyTree, PyTree], Metrics]


@functools.partial(jax.jit, static_argnums=(0, 2))
def sample_batch(task: Task, rng: jax.Array, num_episodes: int) -> PyTree:
    """Draws episodes: what `task.sample` gives, with a leading axis of `num_episodes`."""
    return jax.vmap(task.sample)(jax.random.split(rng, num_episodes))


def held_out(task: Task, settings: Settings) -> PyTree:
    """The held-out episodes: the same for every model and seed."""
    return sample_batch(task, jax.random.key(settings.evaluation_seed), settings.evaluation_episodes)


def make_functions(task: Task, cell: nn.Module, settings: Settings) -> Functions:
    """Puts task, cell and settings together.

    Args:
      task: what to learn.
      cell: what learns it.
      settings: how.

    Returns:
      The `Functions`.
    """
    learning_rate = settings.learning_rate
    if settings.schedule == "cosine":
        learning_rate = optax.cosine_decay_schedule(learning_rate, settings.num_updates)
    optimizer = optax.chain(optax.clip_by_global_norm(settings.clip_norm), optax.adam(learning_rate))

    def run_episode(params: PyTree, example: Any) -> tuple[jax.Array, Metrics]:
        outputs, trace = unroll(cell, {"params": params}, example.inputs)[1:]
        loss = task.loss(outputs, example)
        metrics = {"loss": loss, **task.metrics(outputs, example)}
        if trace:
            metrics["error_before"] = objectives.meta_objective(trace.error_before)
            metrics["error_after"] = objectives.meta_objective(trace.error_after)
            loss = loss + settings.meta_weight * metrics["error_after"]
        return loss, metrics

    def run_batch(params: PyTree, examples: PyTree) -> tuple[jax.Array, Metrics]:
        losses, metrics = jax.vmap(run_episode, in_axes=(None, 0))(params, examples)
        return jnp.mean(losses), jax.tree.map(jnp.mean, metrics)

    def init(rng: jax.Array) -> TrainState:
        rng_params, rng_data = jax.random.split(rng)
        example = task.sample(rng_data)
        params = cell.init(rng_params, None, jax.tree.map(lambda x: x[0], example.inputs))["params"]
        return TrainState(params, optimizer.init(params), rng_data, jnp.zeros((), jnp.int32))

    def update(state: TrainState) -> tuple[TrainState, Metrics]:
        examples = sample_batch(task, jax.random.fold_in(state.rng, state.update), settings.batch_size)
        grads, metrics = jax.grad(run_batch, has_aux=True)(state.params, examples)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        metrics["gradient_norm"] = optax.tree.norm(grads)
        params = optax.apply_updates(state.params, updates)
        return TrainState(params, opt_state, state.rng, state.update + 1), metrics

    def train_chunk(state: TrainState, n: jax.Array) -> tuple[TrainState, Metrics]:
        chex.assert_rank(n, 0, custom_message="argument 'n'")

        def body(_: jax.Array, carry: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
            state, sums = carry
            state, metrics = update(state)
            return state, jax.tree.map(jnp.add, sums, metrics)

        # A loop of traced length: chunks of any length share one compiled program.
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(update, state)[1])
        state, sums = jax.lax.fori_loop(0, n, body, (state, zeros))
        return state, jax.tree.map(lambda total: total / n, sums)

    def evaluate(params: PyTree, examples: PyTree) -> Metrics:
        return run_batch(params, examples)[1]

    return Functions(init, train_chunk, evaluate)
