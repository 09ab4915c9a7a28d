"""The episodes of a task: how they are drawn, how a cell runs them, and what they cost."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mnm_jax import objectives
from mnm_jax.policies import Policy, policy
from mnm_jax.training.settings import TrainingSettings
from mnm_jax.training.task import AnyTask, Metrics, Task, is_bucketed, is_interactive, is_portable
from mnm_jax.unrolling import Unrolled, unroll, unroll_batch

PyTree = Any


@functools.partial(jax.jit, static_argnums=(0, 2))
def sample_batch(task: Task, rng: jax.Array, num_episodes: int) -> PyTree:
    """Draws episodes: what `task.sample` gives, with a leading axis of `num_episodes`."""
    return jax.vmap(task.sample)(jax.random.split(rng, num_episodes))


def held_out(task: AnyTask, settings: TrainingSettings) -> list[PyTree]:
    """The held-out episodes, a batch for each shape: the same for every model and seed.

    Those of an interactive task are yet to be acted: they are the data of their random keys, `[N, ...]`.
    """
    if is_bucketed(task):
        return list(task.held_out(settings.evaluation_seed, settings.evaluation_episodes))
    if is_interactive(task):
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
    cell = room_for(cell, jax.tree.leaves(example.inputs)[0].shape[0])
    return unroll(cell, variables, example.inputs, length=getattr(example, "length", None))


def room_for(cell: nn.Module, num_steps: int) -> nn.Module:
    """The cell with room for just so many steps, if it has a table: that costs its full size at each step."""
    return cell.with_room(num_steps) if hasattr(cell, "with_room") else cell


def check_settings(task: AnyTask, settings: TrainingSettings) -> None:
    """Checks that the task can be trained on as the settings say.

    Raises:
      ValueError: if a model acts the task's episodes itself, and there is dropout, with which the gradient would be
        that of another policy than the one that acted, or a choice of episodes, which would favour bad luck.
    """
    if not is_interactive(task):
        return
    for name, neutral in (("embedding_dropout", 0), ("candidates", 1)):
        if (value := getattr(settings, name)) != neutral:
            raise ValueError(f"{name} must be {neutral} for a task whose episodes the model acts itself, got {value!r}")


@dataclasses.dataclass(frozen=True)
class Episodes:
    """The episodes of a task, run by a cell.

    Attributes:
      task: what to learn.
      cell: what learns it.
      meta_weight: weight of the meta-objective in the loss, lambda.
    """

    task: AnyTask
    cell: nn.Module
    meta_weight: float

    @property
    def is_interactive(self) -> bool:
        """Whether the model acts the episodes itself."""
        return is_interactive(self.task)

    def draw(self, variables: PyTree, rng: jax.Array, bucket: PyTree) -> Any:
        """Draws an episode, or lets the model act one. `bucket` is `None` for a task without buckets."""
        if is_interactive(self.task):
            return self.task.act(rng, policy(room_for(self.cell, self.task.num_steps), variables))
        return self.task.sample(rng, bucket) if is_bucketed(self.task) else self.task.sample(rng)

    def draw_batch(self, variables: PyTree, rngs: jax.Array, bucket: PyTree) -> Any:
        """Draws an episode for each key."""
        return jax.vmap(self.draw, in_axes=(None, 0, None))(variables, rngs, bucket)

    def losses(self, variables: PyTree, examples: PyTree) -> jax.Array:
        """Runs episodes of one shape: the task's loss of each, `[N]`."""
        return jax.vmap(self.task.loss)(self._run(variables, examples).outputs, examples)

    def any_bucket(self) -> PyTree:
        """A bucket that has episodes; `None` for a task without buckets."""
        return self.task.buckets[self.task.draw_buckets([0])[0]] if is_bucketed(self.task) else None

    def first_inputs(self) -> PyTree:
        """Inputs of one step, all zeros, by which a cell can tell its parameters' shapes."""
        rng, task = jax.random.key(0), self.task
        if is_portable(task):
            return task.first_inputs()
        if is_interactive(task):
            # The inputs of a first step have a shape before there are parameters.
            idler = Policy(lambda inputs: (), lambda carry, inputs: (carry, jnp.zeros(task.output_size, "float32")))
            inputs = jax.eval_shape(lambda rng: task.act(rng, idler), rng).inputs
        else:
            inputs = jax.eval_shape(self.draw, None, rng, self.any_bucket()).inputs
        return jax.tree.map(lambda x: jnp.zeros(x.shape[1:], x.dtype), inputs)

    def measure(self, outputs: jax.Array, trace: PyTree, example: Any) -> tuple[jax.Array, Metrics]:
        """The loss of an episode that was run, and whatever is worth knowing of it.

        To the task's loss and metrics comes what the cell's trace has of this: `error_before` and `error_after`, `[T]`,
        the latter as the meta-objective; `auxiliary_loss`, `[T]`, which has its weight in it; and `extras`, arrays
        `[T, ...]` by name. All of them count as means over the steps that are no padding.

        Raises:
          ValueError: if an extra has the name of another metric.
        """
        length = getattr(example, "length", None)
        loss = self.task.loss(outputs, example)
        metrics = {"loss": loss, **self.task.metrics(outputs, example)}
        for name in ("error_before", "error_after"):
            if (errors := _field(trace, name)) is not None:
                metrics[name] = objectives.meta_objective(errors, length)
        if "error_after" in metrics:
            loss = loss + self.meta_weight * metrics["error_after"]
        if (auxiliary := _field(trace, "auxiliary_loss")) is not None:
            metrics["auxiliary_loss"] = _mean_over_steps(auxiliary, length)
            loss = loss + metrics["auxiliary_loss"]
        for name, values in (_field(trace, "extras") or {}).items():
            if name in metrics:
                raise ValueError(f"the trace's extras: {name!r} is the name of another metric; those are {[*metrics]}")
            metrics[name] = _mean_over_steps(values, length)
        return loss, metrics

    def watch(self, trace: PyTree, example: Any) -> Metrics:
        """What a written memory does in an episode: too dear to measure in every update, and worth it in evaluations.

        Returns:
          Means over the steps that are no padding: of the `rate`; of `write_norm`, how far a write moves the weights;
          of `memory_norm`, how long all weights are, and `memory_norm_end`, how long in the end. Nothing for a cell
          whose trace lacks one of them.
        """
        rate, *by_layer = (_field(trace, name) for name in ("rate", "write_norm", "memory_norm"))
        if rate is None or any(layers is None for layers in by_layer):
            return {}
        length = getattr(example, "length", None)
        moved, norms = (jnp.linalg.norm(layers, axis=-1) for layers in by_layer)
        return {
            "rate": _mean_over_steps(rate, length),
            "write_norm": _mean_over_steps(moved, length),
            "memory_norm": _mean_over_steps(norms, length),
            "memory_norm_end": norms[-1 if length is None else length - 1],
        }

    def measure_batch(
        self, variables: PyTree, examples: PyTree, *, weights: jax.Array | None = None, is_evaluation: bool = False
    ) -> tuple[jax.Array, Metrics]:
        """Runs episodes of one shape: the means over them of `measure`, and in an evaluation of `watch`.

        Each episode counts times its weight, if there are `weights: [N]`.
        """
        run = self._run(variables, examples)
        measured = jax.vmap(self.measure)(run.outputs, run.trace, examples)
        if is_evaluation:
            measured = measured[0], measured[1] | jax.vmap(self.watch)(run.trace, examples)
        if weights is not None:
            measured = jax.tree.map(lambda x: x * weights, measured)
        losses, metrics = measured
        return jnp.mean(losses), jax.tree.map(jnp.mean, metrics)

    def _run(self, variables: PyTree, examples: PyTree) -> Unrolled:
        cell = room_for(self.cell, jax.tree.leaves(examples.inputs)[0].shape[1])
        return unroll_batch(cell, variables, examples.inputs, lengths=getattr(examples, "length", None))


def _field(trace: PyTree, name: str) -> Any:
    """What a trace has under a name, be it a dictionary or an object with fields; else `None`."""
    return trace.get(name) if isinstance(trace, Mapping) else getattr(trace, name, None)


def _mean_over_steps(values: jax.Array, length: jax.Array | None) -> jax.Array:
    """The mean of `[T, ...]` over all but the padding: `[]`."""
    num_steps = values.shape[0]
    means = values.reshape(num_steps, -1).astype(jnp.promote_types(values.dtype, jnp.float32)).mean(axis=1)
    return objectives.masked_mean(means, jnp.arange(num_steps) < (num_steps if length is None else length))
