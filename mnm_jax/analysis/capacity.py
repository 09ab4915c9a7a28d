"""Capacity and forgetting: how many associations a memory holds, each of which was written once.

The numbers; `capacity_figures` draws them.

Pairs are random: keys and values at the scale at which a controller hands them over. A recall is *found* if, of all
values stored so far, the right one is nearest to what is read; chance is one in the number of pairs. The *error* is the
mean square of the difference between what is read and the right value, whose own mean square is 1: so 1 is the error of
reading nothing, and 2 that of reading another pair's value.

Axes: `N` pairs, `X` numbers of pairs, `D` draws of pairs, `G` seeds of training or initialisation, `C` cosines,
`K = key_size`, `V = value_size`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from mnm_jax import interface
from mnm_jax.analysis.stores import Setting, Store

PyTree = Any
Seen = TypeVar("Seen")

# A memory holds as many pairs as it finds this share of.
THRESHOLD = 0.95
_CONFIDENCE = 0.95
_NUM_RESAMPLES = 1000
# An error beyond this is that of a memory that diverged; sums of such would not be finite.
_HUGE = 1e30


class Recall(NamedTuple):
    """What is recalled as pairs are written one after the other.

    Row `j` is after as many writes as count `j` says, column `i` is the pair written as number `i`. Where that is not
    written yet, nothing is meant.

    Attributes:
      found: `[X, N]`, booleans.
      error: `[X, N]`.
    """

    found: jax.Array
    error: jax.Array


class Overwriting(NamedTuple):
    """What happens as the first key is written again, with a new value, after so many other pairs.

    Attributes:
      old_before, old_after: `[X]`, the distance of what the key gives from the old value (mean square).
      new_before, new_after: `[X]`, the distance from the new value.
      others_before, others_after: `[X]`, the mean error of the other pairs; 0 where there is none.
    """

    old_before: jax.Array
    old_after: jax.Array
    new_before: jax.Array
    new_after: jax.Array
    others_before: jax.Array
    others_after: jax.Array


class Interference(NamedTuple):
    """What two pairs do to each other whose keys are near, after both were written.

    Attributes:
      first: `[C]`, the error of the pair written first.
      second: `[C]`, the error of the pair written second.
      confused: `[C]`, the distance of what the first key gives from the value of the second.
    """

    first: jax.Array
    second: jax.Array
    confused: jax.Array


class Pairs(NamedTuple):
    """What is written.

    Attributes:
      keys: `[N, K]`.
      values: `[N, V]`.
    """

    keys: jax.Array
    values: jax.Array


def draw_vectors(rng: jax.Array, shape: tuple[int, ...], *, normalize: bool = True) -> jax.Array:
    """Draws random vectors at the scale of `interface.Interface`: a tanh, divided by its root mean square.

    Args:
      rng: a random key.
      shape: `[..., size]`.
      normalize: whether they are divided; see `interface.Interface`.
    """
    vectors = jnp.tanh(jax.random.normal(rng, shape))
    return interface.normalize(vectors) if normalize else vectors


def recall(counts: Sequence[int], store: Store, params: PyTree, setting: Setting, pairs: Pairs) -> Recall:
    """Writes pairs one after the other, and reads all of them now and then.

    Args:
      counts: after how many writes; ascending, from 1 to `N`.
      store: the memory.
      params: what it has learned, or as `store.init` drew it.
      setting: what a controller would decide.
      pairs: the `N` pairs.

    Returns:
      The `Recall`. What is not finite is not found.

    Raises:
      ValueError: if the pairs do not fit the store, or the counts do not fit the pairs.
    """
    numbers = jnp.arange(len(pairs.keys))

    def look(memory: PyTree, count: jax.Array) -> Recall:
        reads = store.read(params, memory, pairs.keys, setting)
        # The square of what is read is left out, for it is the same at the distance from every value.
        nearness = reads @ pairs.values.T - jnp.sum(jnp.square(pairs.values), axis=-1) / 2
        own = jnp.diagonal(nearness)
        is_other = (numbers < count) & (numbers != numbers[:, None])
        # Written so that what is not a number is not found.
        found = jnp.all(~is_other | (own[:, None] > nearness), axis=1) & jnp.isfinite(own)
        return Recall(found, _distance(reads, pairs.values))

    return _write_and_look(counts, store, params, setting, pairs, look)


def overwrite(
    counts: Sequence[int], store: Store, params: PyTree, setting: Setting, pairs: Pairs, value: jax.Array
) -> Overwriting:
    """Writes pairs one after the other; now and then, tries what writing the first key again would do.

    Args:
      counts: see `recall`. After `n` writes, `n - 1` pairs lie between.
      store: see `recall`.
      params: see `recall`.
      setting: see `recall`.
      pairs: see `recall`.
      value: `[V]`, the new value.
    """
    key, numbers = pairs.keys[0], jnp.arange(len(pairs.keys))

    def distances(memory: PyTree, count: jax.Array) -> tuple[jax.Array, ...]:
        reads = store.read(params, memory, pairs.keys, setting)
        errors = jnp.where((numbers > 0) & (numbers < count), _distance(reads, pairs.values), 0.0)
        others = jnp.sum(errors) / jnp.maximum(count - 1, 1)
        return _distance(reads[0], pairs.values[0]), _distance(reads[0], value), others

    def look(memory: PyTree, count: jax.Array) -> Overwriting:
        old, new, others = distances(memory, count)
        old_after, new_after, others_after = distances(store.write(params, memory, key, value, setting), count)
        return Overwriting(old, old_after, new, new_after, others, others_after)

    return _write_and_look(counts, store, params, setting, pairs, look)


def _write_and_look(
    counts: Sequence[int],
    store: Store,
    params: PyTree,
    setting: Setting,
    pairs: Pairs,
    look: Callable[[PyTree, jax.Array], Seen],
) -> Seen:
    """What `look(memory, count)` sees after each count of writes, stacked."""
    _check_pairs(store, pairs)
    ascending = list(counts) == sorted(set(counts))
    if not ascending or not counts or counts[0] < 1 or counts[-1] > len(pairs.keys):
        raise ValueError(f"argument 'counts': wants ascending numbers of 1 to {len(pairs.keys)}, got {list(counts)}")

    def write(number: jax.Array, memory: PyTree) -> PyTree:
        return store.write(params, memory, pairs.keys[number], pairs.values[number], setting)

    def step(memory: PyTree, span: tuple[jax.Array, jax.Array]) -> tuple[PyTree, PyTree]:
        memory = jax.lax.fori_loop(*span, write, memory)
        return memory, look(memory, span[1])

    ends = jnp.asarray(counts)
    starts = jnp.concatenate([jnp.zeros_like(ends[:1]), ends[:-1]])
    seen: Seen = jax.lax.scan(step, store.start(params), (starts, ends))[1]
    return seen


def interfere(store: Store, params: PyTree, setting: Setting, pairs: Pairs, cosines: jax.Array) -> Interference:
    """Writes two pairs into an empty memory, whose keys have a given cosine.

    Args:
      store: see `recall`.
      params: see `recall`.
      setting: see `recall`.
      pairs: two pairs; the second key is turned within the plane of both until the cosine is as wanted, at the length
        of the first.
      cosines: `[C]`, between -1 and 1.

    Raises:
      ValueError: if there are not two pairs, or if they do not fit the store.
    """
    _check_pairs(store, pairs)
    if len(pairs.keys) != 2:
        raise ValueError(f"argument 'pairs': wants 2 pairs, got {len(pairs.keys)}")
    key, other = pairs.keys
    length = jnp.linalg.norm(key)
    across = other - key * (key @ other) / length**2
    across = across * length / jnp.linalg.norm(across)

    def at(cosine: jax.Array) -> Interference:
        keys = jnp.stack([key, cosine * key + jnp.sqrt(jnp.maximum(1 - cosine**2, 0)) * across])
        memory = store.start(params)
        for i in range(2):
            memory = store.write(params, memory, keys[i], pairs.values[i], setting)
        reads = store.read(params, memory, keys, setting)
        first, second = _distance(reads, pairs.values)
        return Interference(first, second, _distance(reads[0], pairs.values[1]))

    return jax.vmap(at)(cosines)


def _distance(reads: jax.Array, values: jax.Array) -> jax.Array:
    return jnp.mean(jnp.square(reads - values), axis=-1)


def _check_pairs(store: Store, pairs: Pairs) -> None:
    num_pairs = len(pairs.keys)
    for name, vectors, size in zip(Pairs._fields, pairs, (store.key_size, store.value_size), strict=True):
        if vectors.shape != (num_pairs, size):
            raise ValueError(
                f"argument 'pairs': wants {name} of shape [{num_pairs}, {size}], got {list(vectors.shape)}"
            )


@functools.partial(jax.jit, static_argnums=(0, 1))
def over_draws(
    measure: Callable[..., PyTree], store: Store, params: PyTree, setting: Setting, *draws: PyTree
) -> PyTree:
    """Measures every seed on draws of its own, compiled once for equal stores.

    Args:
      measure: `interfere`, or one of the others with its counts, of which a `jax.tree_util.Partial` is compiled once.
      store: the memory.
      params: with a leading axis `G`.
      setting: with a leading axis `G`.
      *draws: what follows the setting, with leading axes `[G, D]`.

    Returns:
      What `measure` returns, with leading axes `[G, D]`.
    """

    def one(params: PyTree, setting: Setting, *draws: PyTree) -> PyTree:
        return measure(store, params, setting, *draws)

    each = jax.vmap(one, (None, None, *[0] * len(draws)))
    return jax.vmap(each)(params, setting, *draws)


class Curves(NamedTuple):
    """How a memory does on random pairs, of each seed and draw.

    Attributes:
      found: `[G, D, X]`, the share of the pairs written so far that is found.
      error: `[G, D, X]`, and their mean error.
      first_found: `[G, D, X]`, whether the first pair is found.
      first_error: `[G, D, X]`, and its error.
      age_found: `[G, D, X]`, at the end, whether the pair is found that was written so many writes ago.
      age_error: `[G, D, X]`, and its error.
    """

    found: np.ndarray
    error: np.ndarray
    first_found: np.ndarray
    first_error: np.ndarray
    age_found: np.ndarray
    age_error: np.ndarray


def curves(counts: Sequence[int], result: Recall) -> Curves:
    """Sums up the recall of every pair.

    Args:
      counts: see `recall`; the last one is `N`.
      result: with leading axes `[G, D]`.
    """
    found, error = (np.asarray(leaf, float) for leaf in result)
    error = np.where(error < _HUGE, error, np.inf)
    numbers = np.asarray(counts)
    is_stored = np.arange(found.shape[-1]) < numbers[:, None]
    share, mean = (np.where(is_stored, each, 0).sum(axis=-1) / numbers for each in (found, error))
    # An age of 1: the last pair.
    by_age = [each[..., -1, ::-1][..., numbers - 1] for each in (found, error)]
    return Curves(share, mean, found[..., 0], error[..., 0], *by_age)


def pairs_held(counts: Sequence[int] | np.ndarray, found: np.ndarray, threshold: float = THRESHOLD) -> np.ndarray:
    """How many pairs a memory holds: up to what number of pairs it finds a share of `threshold` or more.

    Between two numbers of pairs the share is taken to fall along a line. A memory that holds nothing gets little more
    than 1, since the only pair stored cannot be missed.

    Args:
      counts: `[X]`, the numbers of pairs, ascending.
      found: `[..., X]`, the share that is found of so many pairs.
      threshold: the share.

    Returns:
      `[...]`, from 0 (not even the first count is held) to the last count (all are).
    """
    found = np.asarray(found, float)
    is_below = np.concatenate([found < threshold, np.ones_like(found[..., :1], bool)], axis=-1)
    next_index = is_below.argmax(axis=-1)
    # What is before the first count, and after the last, cannot be interpolated.
    left, right = np.clip(next_index - 1, 0, None), np.clip(next_index, None, found.shape[-1] - 1)
    share = [np.take_along_axis(found, index[..., None], axis=-1)[..., 0] for index in (left, right)]
    fall = share[0] - share[1]
    fraction = np.where(fall > 0, (share[0] - threshold) / np.where(fall > 0, fall, 1), 0)
    numbers = np.asarray(counts, float)
    return np.where(next_index == 0, 0, numbers[left] + fraction * (numbers[right] - numbers[left]))


def most_found(counts: Sequence[int] | np.ndarray, found: np.ndarray) -> np.ndarray:
    """How many pairs a memory finds at most, of however many were written: the largest product of number and share.

    Args:
      counts: see `pairs_held`.
      found: see `pairs_held`.
    """
    most: np.ndarray = (np.asarray(found, float) * np.asarray(counts)).max(axis=-1)
    return most


class Interval(NamedTuple):
    """A mean over seeds and draws, and the ends of its interval of confidence; numbers or arrays of one shape."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def interval(values: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray] = lambda mean: mean) -> Interval:
    """The statistic of the mean, and where it might as well have been with other seeds and other draws.

    From the 2.5th to the 97.5th percentile of a bootstrap in two stages: seeds with replacement, and of each its draws
    with replacement.

    Args:
      values: `[G, D, ...]`.
      statistic: of an array `[..., ]`, the mean over both axes; it may have further axes before those of `values`.

    Returns:
      The interval. Where a value is not finite, nothing of it is.
    """
    values = np.asarray(values, float)
    weights = _resamples(*values.shape[:2])
    with np.errstate(invalid="ignore"):
        means = np.tensordot(weights, values, axes=2)
        tail = 100 * (1 - _CONFIDENCE) / 2
        low, high = np.percentile(statistic(means), [tail, 100 - tail], axis=0)
        return Interval(statistic(values.mean(axis=(0, 1))), low, high)


@functools.cache
def _resamples(num_seeds: int, num_draws: int) -> np.ndarray:
    """How much each draw counts in each resample, `[R, G, D]`: much smaller than the resampled values would be."""
    rng = np.random.default_rng(0)
    weights = np.zeros((_NUM_RESAMPLES, num_seeds, num_draws))
    for resample in weights:
        for seed in rng.integers(0, num_seeds, num_seeds):
            resample[seed] += np.bincount(rng.integers(0, num_draws, num_draws), minlength=num_draws)
    return weights / (num_seeds * num_draws)


def best_setting(
    counts: Sequence[int], store: Store, params: PyTree, settings: Sequence[Setting], pairs: Pairs
) -> tuple[Setting, list[float]]:
    """The setting with which a memory holds most.

    Args:
      counts: see `recall`.
      store: the memory.
      params: with a leading axis `G`.
      settings: the candidates, each the same for all seeds.
      pairs: with leading axes `[G, D]`. They should not be the pairs on which the memory is measured afterwards.

    Returns:
      The setting with the largest `pairs_held` (of those that differ by less than a tenth of a pair, the one with the
      smallest error), and the pairs held with each candidate.
    """
    held, errors = [], []
    for setting in settings:
        result = over_draws(_at(recall, tuple(counts)), store, params, spread(setting, len(pairs.keys)), pairs)
        measured = curves(counts, result)
        held.append(float(pairs_held(counts, measured.found.mean(axis=(0, 1)))))
        errors.append(float(np.nan_to_num(measured.error, nan=np.inf).mean()))
    best = max(range(len(settings)), key=lambda i: (round(held[i], 1), -errors[i]))
    return settings[best], held


@functools.cache
def _at(measure: Callable[..., PyTree], counts: tuple[int, ...]) -> Callable[..., PyTree]:
    """The same function each time, so that it is compiled once."""
    return functools.partial(measure, counts)


def spread(setting: Setting, num_seeds: int) -> Setting:
    """The same setting for every seed: with a leading axis `G`."""
    values = {name: np.asarray(value, np.float32) for name, value in setting.items()}
    return {name: np.broadcast_to(value, (num_seeds, *value.shape)) for name, value in values.items()}


class Curve(NamedTuple):
    """One quantity against another, with its interval.

    Attributes:
      x: `[X]`, against what.
      mean, low, high: `[X]` each; see `Interval`.
    """

    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Measured(NamedTuple):
    """All that was measured of one memory with one setting.

    Attributes:
      model: the name of the model.
      kind: `'trained'`, at the setting of its controller; `'own'`, the same on pairs of its controller's own;
        `'tuned'`, trained, but at the best setting; `'untrained'`, at the best setting; or `'reference'`.
      key_size, value_size: `K` and `V`.
      num_weights: how many floats are read; see `stores.Store`.
      num_floats: how many there are in all.
      num_seeds: `G`.
      num_draws: `D`.
      max_pairs: `N`.
      setting: by name, the mean over seeds.
      tried: the settings among which the best was looked for, each with its `pairs_held`; empty if none was.
      held: mean, low and high of `pairs_held`.
      most: the same of `most_found`.
      curves: by name: the fields of `Curves`; those of `Overwriting`, against the number of pairs between; and those of
        `Interference`, against the cosine.
    """

    model: str
    kind: str
    key_size: int
    value_size: int
    num_weights: int
    num_floats: int
    num_seeds: int
    num_draws: int
    max_pairs: int
    setting: dict[str, float]
    tried: list[dict[str, float]]
    held: tuple[float, float, float]
    most: tuple[float, float, float]
    curves: dict[str, Curve]

    @property
    def held_per_thousand(self) -> tuple[float, float, float]:
        """Pairs held per 1,000 weights: mean, low and high."""
        mean, low, high = (1000 * number / self.num_weights for number in self.held)
        return mean, low, high

    @property
    def load(self) -> tuple[float, float, float]:
        """Floats of the values held, for each float of the whole memory: mean, low and high."""
        mean, low, high = (number * self.value_size / self.num_floats for number in self.held)
        return mean, low, high

    def to_json(self) -> dict[str, Any]:
        """As JSON may hold it, with four significant digits and `None` for what is not finite."""
        curves = {
            name: {axis: _round(each) for axis, each in curve._asdict().items()} for name, curve in self.curves.items()
        }
        return self._asdict() | {"held": _round(self.held), "most": _round(self.most), "curves": curves}

    @classmethod
    def from_json(cls, contents: dict[str, Any]) -> "Measured":
        """What `to_json` made.

        Raises:
          KeyError, TypeError, ValueError: if it is something else.
        """
        lines = {
            name: Curve(**{axis: np.array(each, float) for axis, each in curve.items()})
            for name, curve in contents["curves"].items()
        }
        intervals = {name: tuple(map(float, contents[name])) for name in ("held", "most")}
        return cls(**contents | intervals | {"curves": lines})


def _round(values: Any) -> list[float | None]:
    return [float(f"{value:.4g}") if np.isfinite(value) else None for value in np.asarray(values, float)]


def numbers_of_pairs(most: int) -> tuple[int, ...]:
    """Numbers of pairs at which to look, about four for each doubling: 1, 2, 3, ... up to `most`."""
    numbers = np.round(2 ** np.arange(0, np.log2(most), 1 / 4)).astype(int)
    return tuple(int(number) for number in np.unique([*numbers, most]))


class Draws(NamedTuple):
    """What is written, with leading axes `[G, D]`.

    Attributes:
      pairs: `N` random pairs.
      new_value: `[V]`, for a key that is written again.
    """

    pairs: Pairs
    new_value: jax.Array


def draw(
    rng: jax.Array, store: Store, size: tuple[int, int], num_pairs: int, normalize: tuple[bool, bool] = (True, True)
) -> Draws:
    """Draws random pairs.

    Args:
      rng: a random key.
      store: the memory.
      size: `(G, D)`.
      num_pairs: `N`.
      normalize: of keys and of values; see `draw_vectors`.
    """
    of_keys, of_values = normalize

    def one(rng: jax.Array) -> Draws:
        rng_keys, rng_values, rng_new = jax.random.split(rng, 3)
        keys = draw_vectors(rng_keys, (num_pairs, store.key_size), normalize=of_keys)
        values = draw_vectors(rng_values, (num_pairs, store.value_size), normalize=of_values)
        return Draws(Pairs(keys, values), draw_vectors(rng_new, (store.value_size,), normalize=of_values))

    draws: Draws = jax.jit(lambda rng: jax.vmap(jax.vmap(one))(jax.random.split(rng, size)))(rng)
    return draws


def measure(
    store: Store, params: PyTree, setting: Setting, draws: Draws, cosines: Sequence[float]
) -> tuple[np.ndarray, dict[str, Curve]]:
    """Measures a memory.

    Args:
      store: the memory.
      params: with a leading axis `G`.
      setting: with a leading axis `G`.
      draws: what is written.
      cosines: `[C]`, of the keys of two pairs.

    Returns:
      The share that is found of so many pairs, `[G, D, X]`, with `X` as in `numbers_of_pairs`; and the curves of
      `Measured`.
    """
    size, num_pairs = draws.pairs.keys.shape[:2], draws.pairs.keys.shape[2]
    counts = numbers_of_pairs(num_pairs)
    measured = curves(counts, over_draws(_at(recall, counts), store, params, setting, draws.pairs))
    lines = {name: _curve(counts, values) for name, values in measured._asdict().items()}
    overwriting = over_draws(_at(overwrite, counts), store, params, setting, draws.pairs, draws.new_value)
    lines |= {name: _curve(np.subtract(counts, 1), values) for name, values in overwriting._asdict().items()}
    two = jax.tree.map(lambda leaf: np.asarray(leaf)[:, :, :2], draws.pairs)
    grid = np.broadcast_to(np.asarray(cosines, np.float32), (*size, len(cosines)))
    interference = over_draws(interfere, store, params, setting, two, grid)
    lines |= {name: _curve(cosines, values) for name, values in interference._asdict().items()}
    return measured.found, lines


def _curve(x: Any, values: Any) -> Curve:
    return Curve(np.asarray(x, float), *interval(np.asarray(values)))
