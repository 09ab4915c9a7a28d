"""Training as pure functions of ONE seed, to be vmapped over seeds, spread over devices and compiled.

Axes: `B` episodes.
"""

import dataclasses
import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from mnm_jax.cells.embedding import drop_features
from mnm_jax.training import sums as sums_lib
from mnm_jax.training.episodes import Episodes, check_settings
from mnm_jax.training.settings import TrainingSettings, default_optimizer
from mnm_jax.training.sums import Sums
from mnm_jax.training.task import AnyTask, Metrics

PyTree = Any


class Best(NamedTuple):
    """The best evaluation so far, by the task's headline metric.

    Attributes:
      value: `[]`, the metric; the least float32 before the first evaluation.
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
      constants: the cell's variables in all other collections: drawn from the seed at the start, and never changed.
      opt_state: the optimiser's state.
      rng: the data of the seed's random key. The position in the data is `update`: the episodes of update `i` come from
        `fold_in(rng, i)`.
      update: `[]`, how many updates were made.
      sums: what the updates since the last evaluation measured; see `training.sums`.
      best: the best evaluation so far.
    """

    params: PyTree
    constants: dict[str, PyTree]
    opt_state: PyTree
    rng: jax.Array
    update: jax.Array
    sums: Sums
    best: Best

    @property
    def variables(self) -> dict[str, PyTree]:
        """The cell's variables."""
        return {"params": self.params, **self.constants}

    @property
    def best_variables(self) -> dict[str, PyTree]:
        """The cell's variables at the best evaluation."""
        return {"params": self.best.params, **self.constants}


class Functions(NamedTuple):
    """Training as pure functions of one seed.

    Attributes:
      init: `init(rng) -> state`.
      train_chunk: `train_chunk(state, n, bucket) -> (state, metrics, bad_update)`: `n` updates (may be traced) on
        episodes of a bucket, which is `None` for a task without buckets; the means of what was measured since the last
        evaluation; and the first of these `n` updates whose loss, gradient or step was not finite, -1 if there was
        none. Where a training is cut into chunks makes no difference to it.
      evaluate: `evaluate(variables, batches) -> metrics`, the means over all episodes of some batches, which may differ
        in shape and in size.
      record_evaluation: `record_evaluation(state, metrics) -> state`: keeps the parameters if this evaluation is the
        best so far, and begins to measure anew.
    """

    init: Callable[[jax.Array], TrainState]
    train_chunk: Callable[[TrainState, jax.Array, PyTree], tuple[TrainState, Metrics, jax.Array]]
    evaluate: Callable[[PyTree, Sequence[PyTree]], Metrics]
    record_evaluation: Callable[[TrainState, Metrics], TrainState]


def make_functions(
    task: AnyTask,
    cell: nn.Module,
    settings: TrainingSettings,
    axis_name: str | None = None,
    optimizer: optax.GradientTransformation | None = None,
) -> Functions:
    """Puts task, cell, settings and optimiser together.

    Args:
      task: what to learn.
      cell: what learns it. Its variables in the collection `params` are learned; those in all others stay as they are.
      settings: how.
      axis_name: of the devices that share the episodes, if `train_chunk` and `evaluate` are mapped over some. Each
        takes an equal part of the `B` episodes of an update, and of the candidates for them, and of those of an
        evaluation as nearly as can be.
      optimizer: in place of `default_optimizer(settings)`.

    Returns:
      The `Functions`.

    Raises:
      ValueError: see `check_settings`.
    """
    check_settings(task, settings)
    episodes = Episodes(task, cell, settings.meta_weight)
    updates = _Updates(episodes, settings, optimizer or default_optimizer(settings), axis_name)

    def evaluate_batch(variables: PyTree, examples: PyTree) -> Metrics:
        weights = None
        if axis_name is not None:
            examples, weights = _own_share(examples, axis_name)
        if episodes.is_interactive:
            examples = episodes.draw_batch(variables, jax.random.wrap_key_data(examples), None)
        _, metrics = episodes.measure_batch(variables, examples, weights=weights, is_evaluation=True)
        return metrics if axis_name is None else jax.lax.pmean(metrics, axis_name)

    def evaluate(variables: PyTree, batches: Sequence[PyTree]) -> Metrics:
        sizes = [jax.tree.leaves(examples)[0].shape[0] for examples in batches]
        shares = [size / sum(sizes) for size in sizes]
        means = [evaluate_batch(variables, examples) for examples in batches]
        mean: Metrics = jax.tree.map(lambda *parts: sum(map(operator.mul, shares, parts)), *means)
        return mean

    def record_evaluation(state: TrainState, metrics: Metrics) -> TrainState:
        value = metrics[task.headline].astype(state.best.value.dtype)
        evaluated = Best(value, state.update, state.params)
        best = jax.tree.map(lambda new, old: jnp.where(value > state.best.value, new, old), evaluated, state.best)
        return state._replace(sums=jax.tree.map(jnp.zeros_like, state.sums), best=best)

    return Functions(updates.init, updates.train_chunk, evaluate, record_evaluation)


def init_variables(episodes: Episodes, rng: jax.Array) -> tuple[PyTree, dict[str, PyTree]]:
    """What the cell begins with: its parameters, and its variables in all other collections."""
    variables = dict(episodes.cell.init(rng, None, episodes.first_inputs()))
    return variables.pop("params", {}), variables


def _own_share(examples: PyTree, axis_name: str) -> tuple[PyTree, jax.Array]:
    """This device's part of `N` episodes, `ceil(N / D)` of them, and their weights.

    The mean over all devices of the weighted means is the mean over the `N` episodes. The last devices repeat the last
    episode, with a weight of 0, where there is none left.
    """
    number, num_devices = jax.tree.leaves(examples)[0].shape[0], jax.lax.axis_size(axis_name)
    share = -(-number // num_devices)
    indices = share * jax.lax.axis_index(axis_name) + jnp.arange(share)
    weights = jnp.where(indices < number, jnp.float32(share * num_devices / number), 0)
    own = jnp.minimum(indices, number - 1)
    return jax.tree.map(lambda x: x[own], examples), weights


@dataclasses.dataclass(frozen=True)
class _Updates:
    """How the parameters change: see `make_functions` for the attributes, and `Functions` for the methods."""

    episodes: Episodes
    settings: TrainingSettings
    optimizer: optax.GradientTransformation
    axis_name: str | None

    def init(self, rng: jax.Array) -> TrainState:
        rng_params, rng_data = jax.random.split(rng)
        params, constants = init_variables(self.episodes, rng_params)
        variables, start = {"params": params, **constants}, jnp.zeros((), jnp.int32)
        rngs, bucket = jax.random.split(rng_data, 1), self.episodes.any_bucket()
        examples = jax.eval_shape(self.episodes.draw_batch, variables, rngs, bucket)
        measured = jax.eval_shape(self.episodes.measure_batch, variables, examples)[1]
        return TrainState(
            params,
            constants,
            opt_state=self.optimizer.init(params),
            rng=jax.random.key_data(rng_data),
            update=start,
            sums=sums_lib.start([*measured, *jax.eval_shape(self.gradient_norms, params)]),
            # Not minus infinity, which `jax_debug_infs` takes for a mistake.
            best=Best(jnp.array(jnp.finfo(jnp.float32).min, jnp.float32), start, params),
        )

    def gradient(self, state: TrainState, rng: jax.Array, bucket: PyTree) -> tuple[PyTree, jax.Array, Metrics]:
        """The gradient of an update's episodes, their mean loss, and what they measured."""
        settings, num_drawn = self.settings, self.settings.candidates * self.settings.batch_size
        # The keys of the episodes are those of the numbers below `num_drawn`.
        rngs = jax.random.split(rng, num_drawn)
        rng_dropout, rng_choice = (jax.random.fold_in(rng, num_drawn + i) for i in range(2))
        if settings.candidates > 1:
            # Keys, and not what they drew: that may be on another device, and drawing it again costs next to nothing.
            rngs = rngs[self.choose(state, rng_choice, rngs, bucket)]
        examples = self.episodes.draw_batch(state.variables, self.own_keys(rngs), bucket)

        def run(params: PyTree) -> tuple[jax.Array, Metrics]:
            if settings.embedding_dropout:
                params = drop_features(params, rng_dropout, settings.embedding_dropout)
            return self.episodes.measure_batch({"params": params, **state.constants}, examples)

        (loss, metrics), grads = jax.value_and_grad(run, has_aux=True)(state.params)
        if self.axis_name is not None:
            grads, loss, metrics = jax.lax.pmean((grads, loss, metrics), self.axis_name)
        return grads, loss, metrics | self.gradient_norms(grads)

    def choose(self, state: TrainState, rng: jax.Array, rngs: jax.Array, bucket: PyTree) -> jax.Array:
        """Chooses `B` of the episodes that these keys draw, without replacement, in proportion to their losses."""
        examples = self.episodes.draw_batch(state.variables, self.own_keys(rngs), bucket)
        losses = self.episodes.losses(state.variables, examples)
        if self.axis_name is not None:
            losses = jax.lax.all_gather(losses, self.axis_name, tiled=True)
        # The largest of these are such a choice: Vieira, "Gumbel-max trick and weighted reservoir sampling", 2014.
        scores = jnp.log(jnp.maximum(losses, 0)) + jax.random.gumbel(rng, losses.shape, losses.dtype)
        # Where NaN stands in an order differs between devices. Chosen, it is noticed.
        scores = jnp.where(jnp.isnan(losses), jnp.inf, scores)
        return jax.lax.top_k(scores, self.settings.batch_size)[1]

    def own_keys(self, rngs: jax.Array) -> jax.Array:
        """This device's part of the keys of episodes, which `check_divisible` has seen to be a whole one."""
        if self.axis_name is None:
            return rngs
        share = len(rngs) // jax.lax.axis_size(self.axis_name)
        return jax.lax.dynamic_slice_in_dim(rngs, share * jax.lax.axis_index(self.axis_name), share)

    def gradient_norms(self, grads: PyTree) -> Metrics:
        """The norm of the gradient; of a task that names the parts of its output, those of the cell's parts too."""
        norms = {"gradient_norm": optax.tree.norm(grads)}
        parts = getattr(self.episodes.task, "output_parts", {})
        if not parts:
            return norms
        named = {name: of_part for name, of_part in grads.items() if name != "output"}
        for name, columns in parts.items():
            named[name] = jax.tree.map(lambda leaf, columns=columns: leaf[..., columns], grads.get("output", {}))
        return norms | {f"gradient_norm_{name}": optax.tree.norm(of_part) for name, of_part in named.items()}

    def update(self, state: TrainState, bucket: PyTree) -> tuple[TrainState, jax.Array]:
        """One update, and whether loss, gradient and step were finite."""
        rng = jax.random.fold_in(jax.random.wrap_key_data(state.rng), state.update)
        grads, loss, measured = self.gradient(state, rng, bucket)
        updates, opt_state = self.optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)

        # One bad update must not make every later one bad: it is left out, and the loop decides whether to go on.
        # An optimiser may make of a finite gradient a step that is not.
        norms = measured["gradient_norm"], optax.tree.norm(updates)
        is_finite = jnp.isfinite(jnp.stack([loss, *norms])).all()
        is_applied = is_finite & (state.update >= self.settings.idle_updates)
        params, opt_state = jax.tree.map(
            lambda new, old: jnp.where(is_applied, new, old), (params, opt_state), (state.params, state.opt_state)
        )
        sums = sums_lib.add(state.sums, measured, is_finite=is_finite, is_applied=is_applied)
        state = state._replace(params=params, opt_state=opt_state, update=state.update + 1, sums=sums)
        return state, is_finite

    def train_chunk(self, state: TrainState, n: jax.Array, bucket: PyTree) -> tuple[TrainState, Metrics, jax.Array]:
        chex.assert_rank(n, 0, custom_message="argument 'n'")

        def body(_: jax.Array, carry: tuple[TrainState, jax.Array]) -> tuple[TrainState, jax.Array]:
            state, bad_update = carry
            next_state, is_finite = self.update(state, bucket)
            is_first = ~is_finite & (bad_update < 0)
            return next_state, jnp.where(is_first, state.update, bad_update)

        # A loop of traced length: chunks of any length share one compiled program.
        state, bad_update = jax.lax.fori_loop(0, n, body, (state, jnp.full_like(state.update, -1)))
        return state, sums_lib.means(state.sums), bad_update
