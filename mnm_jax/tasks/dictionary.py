"""The dictionary task: learn a fresh dictionary by reading it once, then translate words from it.

An episode of two pairs of two-character words, with all words queried:

    read    a b X Y ; c d Z X ; c d ? ? a b ? ?
    answer                          Z X     X Y

Source and target characters are different symbols (lower-case and upper-case letters here, numbered beyond 26), so a
word needs no mark between it and its translation. Every dictionary is drawn anew: nothing but what was read in the
episode helps.

Source: Munkhdalai et al., "Metalearned Neural Memory", NeurIPS 2019, section 4.1.
"""

import dataclasses
import string
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mnm_jax import _checks, objectives
from mnm_jax.tasks._draws import distinct_numbers

_MARKS = (";", "?")


class Example(NamedTuple):
    """One episode of `T` steps.

    Attributes:
      inputs: `[T]`, the symbol read at each step.
      targets: `[T]`, the target character that is due at each step; 0 where none is.
      mask: `[T]`, true where an answer is due.
    """

    inputs: jax.Array
    targets: jax.Array
    mask: jax.Array


@dataclasses.dataclass(frozen=True)
class Dictionary:
    """The task.

    Symbols are numbered: source characters, then target characters, then the marks `;` (the end of a pair) and `?` (an
    answer is due).

    Attributes:
      num_pairs: how many pairs a dictionary has. Its source words are distinct, its target words need not be.
      num_queries: how many different words are asked for, in random order; `None` for all.
      word_length: characters of every word.
      source_alphabet_size: how many source characters there are.
      target_alphabet_size: how many target characters there are.
    """

    num_pairs: int
    num_queries: int | None = None
    word_length: int = 1
    source_alphabet_size: int = 10
    target_alphabet_size: int = 10

    headline: ClassVar[str] = "word_accuracy"

    def __post_init__(self) -> None:
        sizes = dataclasses.asdict(self)
        if self.num_queries is None:
            del sizes["num_queries"]
        _checks.check_positive(**sizes)
        for name in ("source_alphabet_size", "target_alphabet_size"):
            if sizes[name] ** self.word_length >= 2**31:
                raise ValueError(f"{name}={sizes[name]} and word_length={self.word_length} give 2**31 words or more")
        if self.num_pairs > self.max_num_pairs:
            raise ValueError(
                f"num_pairs={self.num_pairs} distinct source words cannot be made: source_alphabet_size="
                f"{self.source_alphabet_size} and word_length={self.word_length} allow at most {self.max_num_pairs}"
            )
        if self.num_queries is not None and self.num_queries > self.num_pairs:
            raise ValueError(f"num_queries={self.num_queries} is more than num_pairs={self.num_pairs}")

    @property
    def max_num_pairs(self) -> int:
        """How many distinct source words there are."""
        return int(self.source_alphabet_size**self.word_length)

    @property
    def vocabulary_size(self) -> int:
        """How many symbols may be read."""
        return self.source_alphabet_size + self.target_alphabet_size + len(_MARKS)

    @property
    def output_size(self) -> int:
        """How many classes an answer has: the target characters."""
        return self.target_alphabet_size

    @property
    def num_steps(self) -> int:
        """The length of an episode, `T`."""
        return self.num_pairs * self._pair_size + self._num_asked * 2 * self.word_length

    @property
    def _pair_size(self) -> int:
        return 2 * self.word_length + 1

    @property
    def _num_asked(self) -> int:
        return self.num_pairs if self.num_queries is None else self.num_queries

    def sample(self, rng: jax.Array) -> Example:
        """Draws an episode.

        Args:
          rng: a random key; the same key gives the same episode.

        Returns:
          An `Example` of `num_steps` steps.
        """
        _checks.check_key("rng", rng)
        rng_sources, rng_targets, rng_queries = jax.random.split(rng, 3)
        sources = distinct_numbers(rng_sources, self.num_pairs, self.max_num_pairs)
        sources = _digits(sources, self.source_alphabet_size, self.word_length)
        shape = (self.num_pairs, self.word_length)
        targets = jax.random.randint(rng_targets, shape, 0, self.target_alphabet_size, jnp.int32)
        asked = jax.random.permutation(rng_queries, jnp.arange(self.num_pairs, dtype=jnp.int32))[: self._num_asked]

        end_mark = self.source_alphabet_size + self.target_alphabet_size
        ends = jnp.full((self.num_pairs, 1), end_mark, jnp.int32)
        questions = jnp.full((self.num_pairs, self.word_length), end_mark + 1, jnp.int32)
        pairs = jnp.concatenate([sources, self.source_alphabet_size + targets, ends], axis=1)
        queries = jnp.concatenate([sources, questions], axis=1)[asked]
        answers = jnp.concatenate([jnp.zeros_like(targets), targets], axis=1)[asked]
        is_due = jnp.broadcast_to(jnp.arange(2 * self.word_length) >= self.word_length, answers.shape)
        return Example(
            inputs=jnp.concatenate([pairs.reshape(-1), queries.reshape(-1)]),
            targets=jnp.concatenate([jnp.zeros(pairs.size, jnp.int32), answers.reshape(-1)]),
            mask=jnp.concatenate([jnp.zeros(pairs.size, bool), is_due.reshape(-1)]),
        )

    def loss(self, logits: jax.Array, example: Example) -> jax.Array:
        """The mean cross-entropy of the due characters, in nats. `logits`: `[T, output_size]`."""
        return objectives.cross_entropy(logits, example.targets, example.mask)

    def metrics(self, logits: jax.Array, example: Example) -> dict[str, jax.Array]:
        """How much of an episode was answered rightly.

        Args:
          logits: `[T, output_size]`.
          example: the episode.

        Returns:
          `character_accuracy`, and `word_accuracy`, where a word counts only if all its characters are right.
        """
        _checks.check_array("logits", logits, (self.num_steps, self.output_size))
        is_right = jnp.argmax(logits, axis=-1) == example.targets
        # The queries stand at the end, each with its answer in its second half.
        words = is_right[-self._num_asked * 2 * self.word_length :].reshape(self._num_asked, 2, self.word_length)[:, 1]
        return {
            "character_accuracy": objectives.masked_mean(is_right.astype(logits.dtype), example.mask),
            "word_accuracy": jnp.mean(jnp.all(words, axis=1), dtype=logits.dtype),
        }

    def levels(self) -> dict[str, dict[str, float]]:
        """What one gets without memory, and without knowing which word belongs to which, for each metric.

        Returns:
          `chance`: a guess. `words but not pairing`: the best answer of one who remembers all the target words but not
          what they translate: the most frequent word (or the most frequent character at each position) of the episode.
        """
        num_words = self.target_alphabet_size**self.word_length
        return {
            "chance": {"character_accuracy": 1 / self.target_alphabet_size, "word_accuracy": 1 / num_words},
            "words but not pairing": {
                "character_accuracy": _expected_mode_share(self.num_pairs, self.target_alphabet_size),
                "word_accuracy": _expected_mode_share(self.num_pairs, num_words),
            },
        }

    def symbols(self, example: Example) -> list[str]:
        """The symbols of an episode as text, one for each step."""
        names = _names(string.ascii_lowercase, self.source_alphabet_size)
        names += _names(string.ascii_uppercase, self.target_alphabet_size)
        names += _MARKS
        return [names[symbol] for symbol in np.asarray(example.inputs)]

    def describe(self, example: Example) -> str:
        """Prints an episode readably: the pairs, then each query with its answer."""
        names = self.symbols(example)
        targets = _names(string.ascii_uppercase, self.target_alphabet_size)
        due = [targets[target] for target in np.asarray(example.targets)]
        length, first_query = self.word_length, self.num_pairs * self._pair_size
        words = ["".join(names[start : start + length]) for start in range(self.num_steps - length + 1)]
        answers = ["".join(due[start : start + length]) for start in range(self.num_steps - length + 1)]
        lines = [f"{words[i]} : {words[i + length]}" for i in range(0, first_query, self._pair_size)]
        lines += [f"{words[i]} ? {answers[i + length]}" for i in range(first_query, self.num_steps, 2 * length)]
        return "\n".join(lines)


def _names(letters: str, size: int) -> list[str]:
    """Letters, then numbered letters where the alphabet is longer than the Latin one."""
    return [letters[i % 26] + (str(i // 26) if i >= 26 else "") for i in range(size)]


def _digits(numbers: jax.Array, base: int, length: int) -> jax.Array:
    """The digits of numbers below `base**length`, highest first: `[n] -> [n, length]`."""
    return numbers[:, None] // base ** jnp.arange(length - 1, -1, -1, dtype=jnp.int32)[None] % base


def _expected_mode_share(num_draws: int, num_kinds: int) -> float:
    """The expected share of the most frequent kind among `num_draws` uniform draws from `num_kinds` kinds.

    P(no kind more than m times) is `n! / k^n` times the coefficient of x^n in `(sum_{i <= m} x^i / i!)^k`, and the mean
    is the sum of the complements.
    """
    log_factorial = np.cumsum(np.log(np.maximum(np.arange(num_draws + 1), 1)))
    mean = 0.0
    for most in range(num_draws):
        # Scaled by k, so that the coefficients stay small: sum_{i <= m} (x / k)^i / i!, to the power of k.
        exponents = np.arange(num_draws + 1)
        series = np.where(exponents <= most, np.exp(-exponents * np.log(num_kinds) - log_factorial), 0.0)
        power, result = num_kinds, np.eye(1, num_draws + 1)[0]
        while power:
            if power & 1:
                result = np.convolve(result, series)[: num_draws + 1]
            series = np.convolve(series, series)[: num_draws + 1]
            power >>= 1
        mean += 1.0 - min(1.0, result[num_draws] * np.exp(log_factorial[num_draws]))
    return mean / num_draws
