"""Multi-query associative recall (MQAR): pairs of symbols are read once, then keys come again, each with its value due.

An episode of two pairs in 12 steps; the dots are fillers:

    read    a X b Y . . b . a . . .
    answer              Y   X

Keys are drawn from one half of the vocabulary, values from the other, none twice in an episode. A key comes again at an
even distance after the pairs, and small distances are more likely than large ones, by a power law. The fillers are any
symbols, so that a key may come again without being asked for, and what stands between has to be read over.

Source: Arora et al., "Zoology: Measuring and Improving Recall in Efficient Language Models", 2023 (arXiv:2312.04927);
the halves of the vocabulary, the power and the fillers are those of their published code.
"""

import dataclasses
import math
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mnm_jax import _checks, objectives
from mnm_jax.tasks._draws import distinct_numbers


class Example(NamedTuple):
    """One episode of `T` steps.

    Attributes:
      inputs: `[T]`, the symbol read at each step.
      targets: `[T]`, the value that is due at each step; 0 where none is.
      mask: `[T]`, true where one is due: at the steps at which a key comes again.
    """

    inputs: jax.Array
    targets: jax.Array
    mask: jax.Array


@dataclasses.dataclass(frozen=True)
class MultiQueryRecall:
    """The task.

    Symbol 0 is the filler if fillers are not random; keys are the numbers from 1 to `vocabulary_size / 2 - 1`, values
    those from there on.

    Attributes:
      num_pairs: how many pairs are read, and asked for.
      num_steps: the length of an episode, `T`.
      vocabulary_size: how many symbols there are, keys and values together.
      power: `a`; the distance `2 g` after the pairs has a probability proportional to `(g + 1)^(a - 1)`, no distance
        occurring twice. 1 makes all equally likely.
      random_fillers: whether the other steps show random symbols, or the filler.
    """

    num_pairs: int = 4
    num_steps: int = 64
    vocabulary_size: int = 8192
    power: float = 0.01
    random_fillers: bool = True

    headline: ClassVar[str] = "query_accuracy"

    def __post_init__(self) -> None:
        _checks.check_positive(num_pairs=self.num_pairs, num_steps=self.num_steps, vocabulary_size=self.vocabulary_size)
        for name in ("num_steps", "vocabulary_size"):
            if getattr(self, name) % 2:
                raise ValueError(f"{name} must be even, got {getattr(self, name)}")
        if 4 * self.num_pairs > self.num_steps:
            raise ValueError(
                f"num_pairs={self.num_pairs} takes 4 * num_pairs = {4 * self.num_pairs} steps, got num_steps="
                f"{self.num_steps}"
            )
        if self.num_pairs > self.vocabulary_size // 2 - 1:
            raise ValueError(
                f"num_pairs={self.num_pairs} is more than vocabulary_size={self.vocabulary_size} has keys: "
                f"{self.vocabulary_size // 2 - 1}"
            )
        if not 0 < self.power < math.inf:
            raise ValueError(f"power must be positive and finite, got {self.power!r}")

    @property
    def output_size(self) -> int:
        """How many classes an answer has: all symbols."""
        return self.vocabulary_size

    def sample(self, rng: jax.Array) -> Example:
        """Draws an episode.

        Args:
          rng: a random key; the same key gives the same episode.

        Returns:
          An `Example` of `num_steps` steps.
        """
        _checks.check_key("rng", rng)
        rng_keys, rng_values, rng_gaps, rng_fillers = jax.random.split(rng, 4)
        num_symbols = self.vocabulary_size // 2
        keys = 1 + distinct_numbers(rng_keys, self.num_pairs, num_symbols - 1)
        values = num_symbols + distinct_numbers(rng_values, self.num_pairs, num_symbols)
        first_query = 2 * self.num_pairs
        # The largest of the logarithms of the probabilities, each with noise of Gumbel's distribution added, are draws
        # without replacement.
        num_gaps = (self.num_steps - first_query) // 2
        scores = (self.power - 1) * np.log(np.arange(1, num_gaps + 1))
        noise = jax.random.gumbel(rng_gaps, (num_gaps,), jnp.float32)
        _, gaps = jax.lax.top_k(jnp.asarray(scores, jnp.float32) + noise, self.num_pairs)
        places = first_query + 2 * gaps

        fillers = jnp.zeros(self.num_steps, jnp.int32)
        if self.random_fillers:
            fillers = jax.random.randint(rng_fillers, fillers.shape, 0, self.vocabulary_size, jnp.int32)
        pairs = jnp.stack([keys, values], axis=1).reshape(-1)
        return Example(
            inputs=fillers.at[:first_query].set(pairs).at[places].set(keys),
            targets=jnp.zeros_like(fillers).at[places].set(values),
            mask=jnp.zeros(self.num_steps, bool).at[places].set(True),
        )

    def loss(self, logits: jax.Array, example: Example) -> jax.Array:
        """The mean cross-entropy of the values due, in nats. `logits`: `[T, output_size]`."""
        return objectives.cross_entropy(logits, example.targets, example.mask)

    def metrics(self, logits: jax.Array, example: Example) -> dict[str, jax.Array]:
        """`query_accuracy`: the share of the queries answered rightly. `logits`: `[T, output_size]`."""
        is_right = jnp.argmax(logits, axis=-1) == example.targets
        return {"query_accuracy": objectives.masked_mean(is_right.astype(logits.dtype), example.mask)}

    def levels(self) -> dict[str, dict[str, float]]:
        """What one gets without memory, and who remembers the values but not their keys, for each metric."""
        return {
            "chance": {"query_accuracy": 2 / self.vocabulary_size},
            "values but not keys": {"query_accuracy": 1 / self.num_pairs},
        }

    def symbols(self, example: Example) -> list[str]:
        """The symbols of an episode as text, one for each step: keys `k1`, `k2`, ..., and values `v0`, `v1`, ..."""
        half = self.vocabulary_size // 2
        return [f"k{symbol}" if symbol < half else f"v{symbol - half}" for symbol in np.asarray(example.inputs)]

    def describe(self, example: Example) -> str:
        """Prints an episode readably: the pairs, then what is read, with the value that is due after an arrow."""
        names, half = self.symbols(example), self.vocabulary_size // 2
        first_query = 2 * self.num_pairs
        pairs = [f"{names[t]} : {names[t + 1]}" for t in range(0, first_query, 2)]
        mask, targets = np.asarray(example.mask), np.asarray(example.targets)
        rest = [
            f"{names[t]} -> v{targets[t] - half}" if mask[t] else names[t] for t in range(first_query, self.num_steps)
        ]
        return "\n".join([*pairs, ", ".join(rest)])
