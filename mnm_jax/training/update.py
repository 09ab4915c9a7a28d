"""Training as pure functions of ONE seed, to be vmapped over seeds, spread over devices and compiled.

Axes: `B` episodes.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from mnm_jax import _checks, objectives
from mnm_jax.policies import Policy, policy
from mnm_jax.unrolling import Unrolled, unroll

PyTree = Any
Metrics = dict[str, jax.Array]


class Task(Protocol):
    """What a task must offer to be trained on: a hashable value whose methods are pure and work on ONE episode.

    Its episodes are drawn by `sample`. A task whose episodes come from data of several shapes is a `BucketedTask`; one
    whose episodes depend on what the model does in them is an `InteractiveTask`.

    Attributes:
      headline: the name of the metric that says how good a model is; the larger, the better.
    """

    headline: ClassVar[str]

    @property
    def output_size(self) -> int:
        """Width of a model's output."""
        ...

    @property
    def vocabulary_size(self) -> int | None:
        """Number of symbols, if the inputs are symbols."""
        ...

    @property
    def num_steps(self) -> int:
        """The longest episode, `T`."""
        ...

    def sample(self, rng: jax.Array) -> Any:
        """Draws an episode, a NamedTuple of fixed shapes with a field `inputs: [T, ...]`.

        If it has a field `length: []`, the steps from there on are padding: the model does not read them, its outputs
        there are zero, and the meta-objective is a mean over the others.
        """
        ...

    def loss(self, outputs: jax.Array, example: Any) -> jax.Array:
        """The task's loss for the outputs `[T, output_size]` of an episode: `[]`."""
        ...

    def metrics(self, outputs: jax.Array, example: Any) -> Metrics:
        """Whatever is worth knowing of an episode, by name, each `[]`."""
        ...


class BucketedTask(Task, Protocol):
    """What a task must offer besides, if its episodes come from data: buckets, each with episodes of one shape.

    The episodes of an update are all from one bucket. Training compiles a program for each.
    """

    @property
    def buckets(self) -> tuple[PyTree, ...]:
        """The data, pytrees of arrays. They are handed to compiled functions as arguments."""
        ...

    def draw_buckets(self, updates: Sequence[int]) -> np.ndarray:
        """Draws a bucket for each update, on the host: `[len(updates)]`, indices of `buckets`.

        What is drawn for an update depends on its number alone, so that it makes no difference where a training was
        cut. All seeds share the draws, for they share the shape.
        """
        ...

    def sample(self, rng: jax.Array, bucket: PyTree) -> Any:
        """Draws an episode of a bucket; otherwise as `Task.sample`."""
        ...

    def held_out(self, seed: int, num_episodes: int) -> Sequence[PyTree]:
        """Draws held-out episodes, on the host: a batch for each shape, at least `num_episodes` in all."""
        ...


class InteractiveTask(Protocol):
    """A task in whose episodes the inputs follow from the model's outputs, as those of an agent in an environment do.

    An episode is acted first, without a gradient, and then unrolled, like that of any other task, on the inputs that
    were recorded. So whatever was drawn at random is drawn once, and the gradient cannot meet another episode than the
    one that was acted.

    All that a `Task` has it has too, but `sample`.
    """

    def act(self, rng: jax.Array, policy: Policy) -> Any:
        """Lets a model act an episode; returns what `Task.sample` returns, of `T` steps."""
        ...


@dataclasses.dataclass(frozen=True)
class TrainingSettings:
    """How to train.

    Attributes:
      num_updates: how many updates in all.
      batch_size: episodes per update, `B`.
      learning_rate: of Adam.
      adam_epsilon: what Adam adds to the root of the second moment.
      schedule: of the learning rate: `'constant'`, or `'cosine'`, which ends at zero after `num_updates`.
      clip_norm: the largest global norm of the gradient; what is above is scaled down to it.
      meta_weight: weight of the meta-objective in the loss, lambda. Of no effect for a cell without a written memory.
      idle_updates: the first so many updates compute everything and change nothing.
      embedding_dropout: share of the numbers in the cell's embedding that an update puts at zero, drawn anew for each
        update, the others being scaled up. As in Gal and Ghahramani ("A Theoretically Grounded Application of Dropout
        in Recurrent Neural Networks", NeurIPS 2016) the mask belongs to the words and not to the steps; but it takes
        single features of a word, not whole words, and is the same for all episodes of an update. Evaluations are
        without. Not for an `InteractiveTask`.
      evaluate_every: updates between two evaluations.
      evaluation_episodes: how many held-out episodes an evaluation takes, the same ones every time.
      evaluation_seed: seed of the held-out episodes.
    """

    num_updates: int
    batch_size: int = 32
    learning_rate: float = 3e-3
    adam_epsilon: float = 1e-8
    schedule: str = "constant"
    clip_norm: float = 1.0
    meta_weight: float = 0.03
    idle_updates: int = 0
    embedding_dropout: float = 0.0
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
        if self.idle_updates < 0:
            raise ValueError(f"idle_updates must not be negative, got {self.idle_updates!r}")
        for name in ("learning_rate", "adam_epsilon", "clip_norm", "meta_weight"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                raise ValueError(f"{name} must be finite and not negative, got {value!r}")
        if not 0 <= self.embedding_dropout < 1:
            raise ValueError(f"embedding_dropout must be at least 0 and below 1, got {self.embedding_dropout!r}")


class Best(NamedTuple):
    """The best evaluation so far, by the task's headline metric.

    Attributes:
      value: `[]`, the metric; minus infinity before the first evaluation.
      update: `[]`, how many updates had been made.
      params: the parameters then.
    """

    value: jax.Array
    update: jax.Array
    params: PyTree


class TrainState(NamedTuple):
    """All that training goes on from, and hence all that a checkpoint holds.

    Attributes:
      params: the learned parameters.
      opt_state: the optimiser's state.
      rng: `[2]`, the data of the seed's random key. The position in the data is `update`: the episodes of update `i`
        come from `fold_in(rng, i)`.
      update: `[]`, how many updates were made.
      sums: what the updates since the last evaluation measured, summed, and under `num_applied` and `num_skipped` how
        many of them there were and how many were left out because loss or gradient was not finite.
      best: the best evaluation so far.
    """

    params: PyTree
    opt_state: PyTree
    rng: jax.Array
    update: jax.Array
    sums: Metrics
    best: Best


class Functions(NamedTuple):
    """Training as pure functions of one seed.

    Attributes:
      init: `init(rng) -> state`.
      train_chunk: `train_chunk(state, n, bucket) -> (state, metrics, bad_update)`: `n` updates (may be traced) on
        episodes of a bucket, which is `None` for a task without buckets; the means of what was measured since the last
        evaluation; and the first of these `n` updates whose loss or gradient was not finite, -1 if there was none.
        Where a training is cut into chunks makes no difference to it.
      evaluate: `evaluate(params, batches) -> metrics`, the means over all episodes of some batches, which may differ in
        shape and in size.
      record_evaluation: `record_evaluation(state, metrics) -> state`: keeps the parameters if this evaluation is the
        best so far, and begins to measure anew.
    """

    init: Callable[[jax.Array], TrainState]
    train_chunk: Callable[[TrainState, jax.Array, PyTree], tuple[TrainState, Metrics, jax.Array]]
    evaluate: Callable[[PyTree, Sequence[PyTree]], Metrics]
    record_evaluation: Callable[[TrainState, Metrics], TrainState]


@functools.partial(jax.jit, static_argnums=(0, 2))
def sample_batch(task: Task, rng: jax.Array, num_episodes: int) -> PyTree:
    """Draws episodes: what `task.sample` gives, with a leading axis of `num_episodes`."""
    return jax.vmap(task.sample)(jax.random.split(rng, num_episodes))


def held_out(task: Task, settings: TrainingSettings) -> list[PyTree]:
    """The held-out episodes, a batch for each shape: the same for every model and seed.

    Those of an interactive task are yet to be acted: they are the data of their random keys, `[N, 2]`.
    """
    if hasattr(task, "buckets"):
        return list(task.held_out(settings.evaluation_seed, settings.evaluation_episodes))
    if hasattr(task, "act"):
        rngs = jax.random.split(jax.random.key(settings.evaluation_seed), settings.evaluation_episodes)
        return [jax.random.key_data(rngs)]
    return [sample_batch(task, jax.random.key(settings.evaluation_seed), settings.evaluation_episodes)]


def unroll_example(cell: nn.Module, variables: PyTree, example: Any) -> Unrolled:
    """Runs an episode of a task as training does: without its padding, with room for just its shape.

    Args:
      cell: any; one with a table has a method `with_room(num_steps)`, the same cell with another size of it.
      variables: the cell's variables.
      example: what `Task.sample` gave.

    Returns:
      What `unroll` gives.
    """
    cell = _with_room(cell, jax.tree.leaves(example.inputs)[0].shape[0])
    return unroll(cell, variables, example.inputs, length=getattr(example, "length", None))


def _with_room(cell: nn.Module, num_steps: int) -> nn.Module:
    # A table costs its full size at each step.
    return cell.with_room(num_steps) if hasattr(cell, "with_room") else cell


def check_dropout(task: Task, settings: TrainingSettings) -> None:
    """Checks that the task can be trained on with dropout, if there is any.

    Raises:
      ValueError: if a model acts the task's episodes itself: the gradient would be that of another policy than the one
        that acted.
    """
    if settings.embedding_dropout and hasattr(task, "act"):
        raise ValueError(
            f"embedding_dropout must be 0 for a task whose episodes the model acts itself, got "
            f"{settings.embedding_dropout!r}"
        )


def _drop_features(params: PyTree, rng: jax.Array, rate: float) -> PyTree:
    """The parameters with a share of the embedding's numbers at zero, and the others scaled up."""
    if "embedding" not in params:
        raise ValueError("embedding_dropout wants a cell with parameters named 'embedding', as `cells.Embedding` has")

    def drop(kernel: jax.Array) -> jax.Array:
        return jnp.where(jax.random.bernoulli(rng, 1 - rate, kernel.shape), kernel / (1 - rate), 0)

    return {**params, "embedding": jax.tree.map(drop, params["embedding"])}


def make_functions(task: Task, cell: nn.Module, settings: TrainingSettings, axis_name: str | None = None) -> Functions:
    """Puts task, cell and settings together.

    Args:
      task: what to learn.
      cell: what learns it.
      settings: how.
      axis_name: of the devices that share the episodes of an update, if `train_chunk` is mapped over some. Each takes
        an equal part of the same `B` episodes.

    Returns:
      The `Functions`.

    Raises:
      ValueError: if there is dropout on the embedding in an interactive task.
    """
    learning_rate = settings.learning_rate
    if settings.schedule == "cosine":
        learning_rate = optax.cosine_decay_schedule(learning_rate, settings.num_updates)
    optimizer = optax.chain(
        optax.clip_by_global_norm(settings.clip_norm), optax.adam(learning_rate, eps=settings.adam_epsilon)
    )
    is_interactive = hasattr(task, "act")
    check_dropout(task, settings)

    def sample(params: PyTree, rng: jax.Array, bucket: PyTree) -> Any:
        if is_interactive:
            return task.act(rng, policy(_with_room(cell, task.num_steps), {"params": params}))
        return task.sample(rng) if bucket is None else task.sample(rng, bucket)

    def run_episode(params: PyTree, example: Any) -> tuple[jax.Array, Metrics]:
        outputs, trace = unroll_example(cell, {"params": params}, example)[1:]
        loss = task.loss(outputs, example)
        metrics = {"loss": loss, **task.metrics(outputs, example)}
        if trace:
            length = getattr(example, "length", None)
            metrics["error_before"] = objectives.meta_objective(trace.error_before, length)
            metrics["error_after"] = objectives.meta_objective(trace.error_after, length)
            loss = loss + settings.meta_weight * metrics["error_after"]
        return loss, metrics

    def run_batch(params: PyTree, examples: PyTree) -> tuple[jax.Array, Metrics]:
        losses, metrics = jax.vmap(run_episode, in_axes=(None, 0))(params, examples)
        return jnp.mean(losses), jax.tree.map(jnp.mean, metrics)

    def gradient(params: PyTree, rng: jax.Array, bucket: PyTree) -> tuple[PyTree, jax.Array, Metrics]:
        rngs = jax.random.split(rng, settings.batch_size)
        if axis_name is not None:
            share = settings.batch_size // jax.lax.axis_size(axis_name)
            rngs = jax.lax.dynamic_slice_in_dim(rngs, share * jax.lax.axis_index(axis_name), share)
        examples = jax.vmap(sample, in_axes=(None, 0, None))(params, rngs, bucket)

        def run_dropped(params: PyTree) -> tuple[jax.Array, Metrics]:
            if settings.embedding_dropout:
                # The keys of the episodes are those of the numbers below `batch_size`.
                rng_dropout = jax.random.fold_in(rng, settings.batch_size)
                params = _drop_features(params, rng_dropout, settings.embedding_dropout)
            return run_batch(params, examples)

        (loss, metrics), grads = jax.value_and_grad(run_dropped, has_aux=True)(params)
        return (grads, loss, metrics) if axis_name is None else jax.lax.pmean((grads, loss, metrics), axis_name)

    def init(rng: jax.Array) -> TrainState:
        rng_params, rng_data = jax.random.split(rng)
        # Any bucket would do that has episodes.
        bucket = task.buckets[task.draw_buckets([0])[0]] if hasattr(task, "buckets") else None
        if is_interactive:
            # The inputs of a first step have a shape before there are parameters.
            idler = Policy(lambda inputs: (), lambda carry, inputs: (carry, jnp.zeros(task.output_size)))
            inputs = jax.eval_shape(lambda rng: task.act(rng, idler), rng_data).inputs
        else:
            inputs = jax.eval_shape(sample, None, rng_data, bucket).inputs
        first_inputs = jax.tree.map(lambda x: jnp.zeros(x.shape[1:], x.dtype), inputs)
        params = cell.init(rng_params, None, first_inputs)["params"]
        draw = jax.vmap(sample, in_axes=(None, 0, None))
        examples = jax.eval_shape(draw, params, jax.random.split(rng_data, 1), bucket)
        measured = {**jax.eval_shape(run_batch, params, examples)[1], "gradient_norm": jnp.zeros(())}
        start = jnp.zeros((), jnp.int32)
        return TrainState(
            params,
            optimizer.init(params),
            jax.random.key_data(rng_data),
            update=start,
            sums={name: jnp.zeros(x.shape, x.dtype) for name, x in measured.items()}
            | {"num_applied": jnp.zeros(()), "num_skipped": jnp.zeros(())},
            best=Best(jnp.array(-jnp.inf, float), start, params),
        )

    def update(state: TrainState, bucket: PyTree) -> tuple[TrainState, jax.Array]:
        rng = jax.random.fold_in(jax.random.wrap_key_data(state.rng), state.update)
        grads, loss, measured = gradient(state.params, rng, bucket)
        measured["gradient_norm"] = optax.tree.norm(grads)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)

        # One bad update must not make every later one bad: it is left out, and the loop decides whether to go on.
        is_finite = jnp.isfinite(loss) & jnp.isfinite(measured["gradient_norm"])
        is_applied = is_finite & (state.update >= settings.idle_updates)
        params, opt_state = jax.tree.map(
            lambda new, old: jnp.where(is_applied, new, old), (params, opt_state), (state.params, state.opt_state)
        )
        measured |= {"num_applied": jnp.ones(()), "num_skipped": jnp.zeros(())}
        sums = {name: total + jnp.where(is_finite, measured[name], 0) for name, total in state.sums.items()}
        sums["num_skipped"] += ~is_finite
        state = state._replace(params=params, opt_state=opt_state, update=state.update + 1, sums=sums)
        return state, is_finite

    def train_chunk(state: TrainState, n: jax.Array, bucket: PyTree) -> tuple[TrainState, Metrics, jax.Array]:
        chex.assert_rank(n, 0, custom_message="argument 'n'")

        def body(_: jax.Array, carry: tuple[TrainState, jax.Array]) -> tuple[TrainState, jax.Array]:
            state, bad_update = carry
            next_state, is_finite = update(state, bucket)
            is_first = ~is_finite & (bad_update < 0)
            return next_state, jnp.where(is_first, state.update, bad_update)

        # A loop of traced length: chunks of any length share one compiled program.
        state, bad_update = jax.lax.fori_loop(0, n, body, (state, jnp.full_like(state.update, -1)))
        counts = ("num_applied", "num_skipped")
        means = {name: x / state.sums["num_applied"] for name, x in state.sums.items() if name not in counts}
        return state, means | {"num_skipped": state.sums["num_skipped"]}, bad_update

    def evaluate(params: PyTree, batches: Sequence[PyTree]) -> Metrics:
        sizes = [jax.tree.leaves(examples)[0].shape[0] for examples in batches]
        shares = [size / sum(sizes) for size in sizes]
        if is_interactive:
            draw = jax.vmap(lambda key_data: sample(params, jax.random.wrap_key_data(key_data), None))
            batches = [draw(key_data) for key_data in batches]
        means = [run_batch(params, examples)[1] for examples in batches]
        return jax.tree.map(lambda *parts: sum(map(operator.mul, shares, parts)), *means)

    def record_evaluation(state: TrainState, metrics: Metrics) -> TrainState:
        value = metrics[task.headline]
        evaluated = Best(value, state.update, state.params)
        best = jax.tree.map(lambda new, old: jnp.where(value > state.best.value, new, old), evaluated, state.best)
        return state._replace(sums=jax.tree.map(jnp.zeros_like, state.sums), best=best)

    return Functions(init, train_chunk, evaluate, record_evaluation)
