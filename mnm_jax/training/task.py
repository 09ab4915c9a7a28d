"""What a task must offer to be trained on."""

import pathlib
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import jax
import numpy as np

from mnm_jax.policies import Policy

if TYPE_CHECKING:
    from typing_extensions import TypeIs

PyTree = Any
Metrics = dict[str, jax.Array]


class BaseTask(Hashable, Protocol):
    """What every task must offer to be trained on: a hashable value whose methods are pure and work on ONE episode.

    How its episodes come about makes it a `Task`, a `BucketedTask` or an `InteractiveTask`.
    """

    @property
    def headline(self) -> str:
        """The name of the metric that says how good a model is; the larger, the better."""
        ...

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

    def loss(self, outputs: jax.Array, example: Any, /) -> jax.Array:
        """The task's loss for the outputs `[T, output_size]` of an episode: `[]`."""
        ...

    def metrics(self, outputs: jax.Array, example: Any, /) -> Metrics:
        """Whatever is worth knowing of an episode, by name, each `[]`."""
        ...


class Task(BaseTask, Protocol):
    """A task whose episodes are drawn, all of one shape."""

    def sample(self, rng: jax.Array, /) -> Any:
        """Draws an episode, a NamedTuple of fixed shapes with a field `inputs: [T, ...]`.

        If it has a field `length: []`, the steps from there on are padding: the model does not read them, its outputs
        there are zero, and the meta-objective is a mean over the others.
        """
        ...


class BucketedTask(BaseTask, Protocol):
    """A task whose episodes come from data of several shapes: buckets, each with episodes of one shape.

    The episodes of an update are all from one bucket. Training compiles a program for each.
    """

    @property
    def buckets(self) -> tuple[PyTree, ...]:
        """The data, pytrees of arrays. They are handed to compiled functions as arguments."""
        ...

    def draw_buckets(self, updates: Sequence[int], /) -> np.ndarray:
        """Draws a bucket for each update, on the host: `[len(updates)]`, indices of `buckets`.

        What is drawn for an update depends on its number alone, so that it makes no difference where a training was
        cut. All seeds share the draws, for they share the shape.
        """
        ...

    def sample(self, rng: jax.Array, bucket: Any, /) -> Any:
        """Draws an episode of a bucket; otherwise as `Task.sample`."""
        ...

    def held_out(self, seed: int, num_episodes: int, /) -> Sequence[PyTree]:
        """Draws held-out episodes, on the host: a batch for each shape, at least `num_episodes` in all."""
        ...


class PortableTask(BucketedTask, Protocol):
    """What a task must offer besides, if its sizes come from its data, for `load` to work where the data is not."""

    def first_inputs(self) -> PyTree:
        """Inputs of one step, all zeros."""
        ...

    def save(self, directory: pathlib.Path) -> None:
        """Writes into the directory of a run what the sizes come from."""
        ...

    def restore(self, directory: pathlib.Path) -> None:
        """Takes it from there, if it is there; else the data is needed."""
        ...


class InteractiveTask(BaseTask, Protocol):
    """A task in whose episodes the inputs follow from the model's outputs, as those of an agent in an environment do.

    An episode is acted first, without a gradient, and then unrolled, like that of any other task, on the inputs that
    were recorded. So whatever was drawn at random is drawn once, and the gradient cannot meet another episode than the
    one that was acted.

    It may have `output_parts` besides, which numbers of an output are what, by name, such as
    `{"policy": slice(0, 4), "value": slice(4, 5)}`: training then logs the norms of the gradient by part.
    """

    def act(self, rng: jax.Array, policy: Policy, /) -> Any:
        """Lets a model act an episode; returns what `Task.sample` returns, of `T` steps."""
        ...


AnyTask = Task | BucketedTask | InteractiveTask


def is_bucketed(task: AnyTask) -> "TypeIs[BucketedTask]":
    """Whether the task's episodes come in buckets."""
    return hasattr(task, "buckets")


def is_portable(task: AnyTask) -> "TypeIs[PortableTask]":
    """Whether the task can do without its data, once it was saved."""
    return hasattr(task, "restore")


def is_interactive(task: AnyTask) -> "TypeIs[InteractiveTask]":
    """Whether a model acts the task's episodes itself."""
    return hasattr(task, "act")
