"""A task that compiles in little time, and one some of whose episodes spoil the loss or the gradient."""

import dataclasses
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mnm_jax import models, training


class Example(NamedTuple):
    inputs: jax.Array
    target: jax.Array
    draw: jax.Array


@dataclasses.dataclass(frozen=True)
class Recall:
    """After the last of some symbols, say whether the first one was odd."""

    num_steps: int = 3

    headline: ClassVar[str] = "accuracy"
    output_size: ClassVar[int] = 2
    vocabulary_size: ClassVar[int] = 4

    def sample(self, rng):
        draw = jax.random.bits(rng, (), jnp.uint32)
        inputs = (draw >> 2 * jnp.arange(self.num_steps, dtype=jnp.uint32) & 3).astype(jnp.int32)
        return Example(inputs, inputs[0] % 2, draw)

    def loss(self, outputs, example):
        return jnp.mean((outputs[-1] - jax.nn.one_hot(example.target, 2)) ** 2)

    def metrics(self, outputs, example):
        return {"accuracy": (jnp.argmax(outputs[-1]) == example.target).astype(outputs.dtype)}


@dataclasses.dataclass(frozen=True)
class Flawed(Recall):
    """The same, but in the episodes of some draws the loss, or the gradient alone, is not a number."""

    bad_losses: tuple[int, ...] = ()
    bad_gradients: tuple[int, ...] = ()

    def loss(self, outputs, example):
        has_bad_loss, has_bad_gradient = (
            jnp.any(example.draw == jnp.array(draws, jnp.uint32)) for draws in (self.bad_losses, self.bad_gradients)
        )
        # The slope of the root at zero is infinite, and the slope of what is below it zero.
        root = jnp.sqrt(jnp.where(has_bad_gradient, 0.0, 1.0) * jnp.sum(outputs**2))
        return jnp.where(has_bad_loss, jnp.nan, super().loss(outputs, example) + 1e-3 * root)


class PaddedExample(NamedTuple):
    inputs: jax.Array
    target: jax.Array
    length: jax.Array


@dataclasses.dataclass(frozen=True)
class BucketedRecall(Recall):
    """The same from data: episodes of two shapes, some of them padded. A bucket between them is empty."""

    @property
    def buckets(self):
        rng = np.random.default_rng(0)
        sizes = ((3, 6), (4, 0), (5, 7))  # Steps and episodes.
        return tuple(
            {"inputs": rng.integers(0, 4, (n, num_steps)), "lengths": rng.integers(num_steps - 1, num_steps + 1, n)}
            for num_steps, n in sizes
        )

    def draw_buckets(self, updates):
        return np.array([2 if update % 5 in (1, 2) else 0 for update in updates])

    def sample(self, rng, bucket):
        return self._take(bucket, jax.random.randint(rng, (), 0, bucket["lengths"].shape[0]))

    def held_out(self, seed, num_episodes):
        rng = np.random.default_rng(seed)
        return [
            self._take(bucket, rng.integers(0, len(bucket["lengths"]), size))
            for bucket, size in zip(self.buckets[::2], (2, num_episodes - 2), strict=True)
        ]

    def _take(self, bucket, rows):
        inputs, lengths = (jnp.asarray(bucket[name])[rows].astype(jnp.int32) for name in ("inputs", "lengths"))
        return PaddedExample(inputs, inputs[..., 0] % 2, lengths)

    def loss(self, outputs, example):
        return super().loss(outputs[example.length - 1][None], example)

    def metrics(self, outputs, example):
        return super().metrics(outputs[example.length - 1][None], example)


TASK = Recall()
BUCKETED = BucketedRecall(num_steps=5)
SETTINGS = training.TrainingSettings(num_updates=6, batch_size=4, evaluate_every=4, evaluation_episodes=8)
MODEL = models.ModelSettings(controller_size=3, memory_size=3, num_layers=1)
SEEDS = (0, 1, 5)


def build(name, task=TASK):
    return models.build(
        name,
        MODEL,
        output_size=task.output_size,
        vocabulary_size=task.vocabulary_size,
        num_steps=task.num_steps,
    )


def draws(seed, update):
    """The draws of the episodes of one update."""
    rng = jax.random.fold_in(jax.random.split(jax.random.key(seed))[1], update)
    return tuple(training.sample_batch(TASK, rng, SETTINGS.batch_size).draw.tolist())


def assert_equal(one, other):
    """Bit for bit."""
    assert jax.tree.structure(one) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, one, other)


def damage(checkpoint, how):
    """Spoils the largest file of the arrays of a checkpoint."""
    path = max((checkpoint / "state" / "d").iterdir(), key=lambda path: path.stat().st_size)
    contents = bytearray(path.read_bytes())
    if how == "truncated":
        contents = contents[: len(contents) // 2]
    elif how == "flipped":
        for i in range(len(contents) // 4, len(contents), 97):
            contents[i] ^= 0xFF
    path.write_bytes(contents)
