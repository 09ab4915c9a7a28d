"""Symbols seen once: handwritten digits, turned and mirrored, each shown once with a label, then asked for."""

import dataclasses
import functools
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.datasets import load_digits

import mnm_jax as mnm


@functools.cache
def images_by_symbol(digits: tuple[int, ...]) -> np.ndarray:
    """All images at unit scale, `[8 * len(digits), 174, 64]`: as many of each symbol as there are of the rarest.

    A symbol is a digit in one of its eight positions: turned by quarters, and mirrored.
    """
    data = load_digits()
    scaled = (data.images - data.images.mean()) / data.images.std()
    symbols = [
        np.rot90(scaled[data.target == digit][:174, :, ::step], turns, axes=(1, 2)).reshape(174, 64)
        for digit in digits
        for turns in range(4)
        for step in (1, -1)
    ]
    return np.stack(symbols).astype(np.float32)


class Example(NamedTuple):
    """An episode of `T` steps: `inputs: [T, 64 + K]`, `targets: [T]`, `mask: [T]`, true where an answer is due."""

    inputs: jax.Array
    targets: jax.Array
    mask: jax.Array


@dataclasses.dataclass(frozen=True)
class Digits:
    """Learn `K` symbols from one image each, then name other images of them.

    Attributes:
      num_ways: `K`, how many symbols an episode has.
      num_queries: how many images are asked for.
      is_new: whether they are made of the digits 7, 8 and 9, which no training sees, instead of 0 to 6.
    """

    num_ways: int = 3
    num_queries: int = 6
    is_new: bool = False

    headline: ClassVar[str] = "query_accuracy"

    @property
    def output_size(self) -> int:
        """A logit for each label."""
        return self.num_ways

    @property
    def vocabulary_size(self) -> None:
        """The inputs are vectors."""

    @property
    def num_steps(self) -> int:
        """An image at each step."""
        return self.num_ways + self.num_queries

    def sample(self, rng: jax.Array) -> Example:
        """Draws symbols, an order of labels, and images."""
        rng_symbols, rng_images, rng_queries = jax.random.split(rng, 3)
        images = jnp.asarray(images_by_symbol((7, 8, 9) if self.is_new else (0, 1, 2, 3, 4, 5, 6)))
        # The label of a symbol is its place in this draw: another one in each episode.
        symbols = jax.random.choice(rng_symbols, len(images), (self.num_ways,), replace=False)
        asked = jax.random.randint(rng_queries, (self.num_queries,), 0, self.num_ways)
        labels = jnp.concatenate([jnp.arange(self.num_ways), asked])
        chosen = jax.random.randint(rng_images, (self.num_steps,), 0, images.shape[1])
        is_query = jnp.arange(self.num_steps) >= self.num_ways
        # What is shown has its label beside it; what is asked has zeros there.
        told = jax.nn.one_hot(labels, self.num_ways) * ~is_query[:, None]
        return Example(jnp.concatenate([images[symbols[labels], chosen], told], axis=1), labels, is_query)

    def loss(self, logits: jax.Array, example: Example) -> jax.Array:
        """The mean cross-entropy of the answers, in nats."""
        return mnm.objectives.cross_entropy(logits, example.targets, example.mask)

    def metrics(self, logits: jax.Array, example: Example) -> dict[str, jax.Array]:
        """The share of right answers."""
        is_right = (jnp.argmax(logits, axis=1) == example.targets).astype(logits.dtype)
        return {"query_accuracy": mnm.objectives.masked_mean(is_right, example.mask)}
