"""Capacity and forgetting: how many random pairs a memory holds that are each written once.

    python -m experiments.capacity RUN [RUN...] --output=DIR [--max_pairs=128] [--num_draws=32] [--formats=png,pdf]
    python -m experiments.capacity --output=DIR [...]      # Draws the figures again, from DIR/capacity.json alone.

A RUN is the directory of a trained model with a memory that is written (MNM with any rule, SALU), or of several; all
memories must have the same width and depth. Each is measured as it was trained, at the mean rate of its controller, on
random pairs and, if it was trained on the dictionary, on pairs of its controller's own; then at the rate that is best
for it; and the same rule untrained, at the rate that is best for that. Linear memories, and tables used as well as
they allow, of as many floats, are always measured too. DIR gets

- `capacity.json`: all the numbers;
- `held.md`, `held.csv`: the table, pairs held per 1,000 weights;
- `held.png`: the same as a figure;
- `capacity.png`: recall against the number of pairs;
- `forgetting.png`: the first pair as others are written, and all pairs at the end by their age;
- `overwriting.png`: a key that is written again with a new value;
- `interference.png`: two pairs with near keys.
"""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

import mnm_jax as mnm
from experiments import command_line
from mnm_jax import _paths, models, rules, training
from mnm_jax._files import write_whole
from mnm_jax.analysis import capacity, capacity_figures, stores
from mnm_jax.analysis.capacity import Draws, Measured, Pairs
from mnm_jax.analysis.output import Output
from mnm_jax.tasks.dictionary import Dictionary

PyTree = Any

_USAGE = "usage: python -m experiments.capacity RUN [RUN...] --output=DIR"
_MAX_PAIRS = flags.DEFINE_integer("max_pairs", 128, "How many pairs are written into one memory.", lower_bound=2)
_NUM_DRAWS = flags.DEFINE_integer("num_draws", 32, "How many times pairs are drawn for each seed.", lower_bound=1)

_NUMBERS = "capacity.json"
_TABLES = (stores.salu, stores.ntm, stores.dnc, stores.attention)
_COSINES = (*(i / 10 for i in range(-10, 10)), 0.95, 0.98, 1.0)
_NUM_EPISODES = 64
_SEARCH_DRAWS = 16
_REFERENCE_SEEDS = 3
_MAX_OWN_PAIRS = 64


class Options(NamedTuple):
    """How to measure: see the flags."""

    max_pairs: int
    num_draws: int


class Subject(NamedTuple):
    """A memory to measure, of `G` seeds.

    Attributes:
      model: its name.
      kind: `'trained'`, `'untrained'` or `'reference'`.
      store: what it does.
      params: with a leading axis `G`.
      setting: what its controller decides on the average, with a leading axis `G`; `None` without one.
      candidates: the settings among which the best is looked for.
      own: pairs of its controller, with leading axes `[G, D]`; `None` if there are none.
      normalize: whether keys and values are drawn with a root mean square of 1.
    """

    model: str
    kind: str
    store: stores.Store
    params: PyTree
    setting: stores.Setting | None
    candidates: Sequence[stores.Setting]
    own: Draws | None = None
    normalize: tuple[bool, bool] = (True, True)


def find_runs(paths: Sequence[str]) -> list[pathlib.Path]:
    """The directories of the models in some working directories, each of which may also be that of a single one.

    Raises:
      ValueError: if there is no run in one of them.
    """
    found = []
    for path in map(_paths.expand, paths):
        inside = sorted(config.parent for config in path.glob(f"*/{training.CONFIG}"))
        if not (runs := [path] if (path / training.CONFIG).is_file() else inside):
            raise ValueError(f"{path} holds no run: wanted {training.CONFIG} in it, or in a directory in it")
        found += runs
    return found


def load_subjects(directory: pathlib.Path, num_draws: int) -> list[Subject]:
    """The memory of a run, trained and untrained; none if it is not one that can be measured.

    Raises:
      ValueError: if the run cannot be loaded, or was trained on a task whose episodes cannot be drawn.
    """
    configuration = training.Configuration.load(directory)
    task, cell = configuration.task, configuration.cell()
    store = stores.of_cell(cell)
    if store is None:
        return []
    if not hasattr(task, "sample"):
        raise ValueError(f"{directory}: trained on {configuration.experiment}, whose episodes are not drawn at random")
    episodes = training.sample_batch(task, jax.random.key(configuration.training.evaluation_seed), _NUM_EPISODES)
    variables = [training.load(directory, seed=seed).variables for seed in configuration.seeds]
    trained = [stores.of_trained(cell, each, episodes.inputs) for each in variables]
    own = None
    if isinstance(task, Dictionary) and isinstance(cell, mnm.cells.MNM):
        own = _stack([own_draws(task, cell, each, num_draws) for each in variables])
    setting = _stack([each.setting for each in trained])
    mean = {name: value.mean(axis=0) for name, value in setting.items()}
    is_normal = (
        getattr(cell, "key_normalization", "rms") == "rms",
        getattr(cell, "value_normalization", "rms") == "rms",
    )
    subject = functools.partial(Subject, model=configuration.model, store=store, normalize=is_normal)
    return [
        subject(
            kind="trained",
            params=_stack([each.params for each in trained]),
            setting=setting,
            candidates=store.candidates(mean),
            own=own,
        ),
        subject(
            kind="untrained", params=_drawn(store, configuration.seeds), setting=None, candidates=store.candidates()
        ),
    ]


def own_draws(task: Dictionary, cell: nn.Module, variables: PyTree, num_draws: int) -> Draws:
    """The keys and values that a controller writes as it reads large dictionaries, whose words are all distinct.

    Of each pair it is the strongest write, of the first head. The new values are those of another dictionary.

    Args:
      task: what it was trained on.
      cell: an MNM.
      variables: its variables.
      num_draws: how many dictionaries.

    Returns:
      Draws with a leading axis of `num_draws`, of as many pairs as there are words.
    """
    length, alphabet = task.word_length, task.target_alphabet_size
    num_words = alphabet**length
    task = dataclasses.replace(task, num_pairs=min(task.max_num_pairs, num_words, _MAX_OWN_PAIRS), num_queries=1)
    pair_size = 2 * length + 1
    inputs = np.array(training.sample_batch(task, jax.random.key(1), num_draws).inputs)[:, : task.num_pairs * pair_size]
    rng = np.random.default_rng(1)
    words = np.stack([rng.choice(num_words, task.num_pairs, replace=False) for _ in range(num_draws)])
    characters = words[..., None] // alphabet ** np.arange(length - 1, -1, -1) % alphabet
    inputs.reshape(num_draws, -1, pair_size)[:, :, length : 2 * length] = task.source_alphabet_size + characters
    trace = mnm.unroll_batch(cell, variables, inputs).trace
    rate = np.asarray(trace.rate).reshape(num_draws, task.num_pairs, pair_size, -1).mean(axis=-1)
    strongest = rate.argmax(axis=2) + np.arange(0, inputs.shape[1], pair_size)
    keys, values = (
        jnp.asarray(np.take_along_axis(np.asarray(leaf)[:, :, 0], strongest[..., None], axis=1))
        for leaf in (trace.write_keys, trace.write_values)
    )
    return Draws(Pairs(keys, values), jnp.roll(values[:, 0], 1, axis=0))


def references(settings: models.ModelSettings) -> list[Subject]:
    """Linear memories, and tables, of as many floats as the memory of a model of this size; untrained."""
    spec = settings.memory_spec
    linear = rules.gated_delta().fit(spec)
    whole = {"rate": 1.0}  # A linear memory takes a pair at once.
    chosen: list[tuple[str, stores.Store, Sequence[stores.Setting]]] = [
        ("delta_rule", stores.written(rules.gated_delta(), linear), [whole | {"keep": 1.0}]),
        ("outer_product", stores.written(stores.outer_product(), linear), [whole]),
        *((store.__name__, store(spec), store(spec).candidates()) for store in _TABLES),
    ]
    return [
        Subject(name, "reference", store, _drawn(store, range(_REFERENCE_SEEDS)), None, candidates)
        for name, store, candidates in chosen
    ]


def _drawn(store: stores.Store, seeds: Sequence[int]) -> PyTree:
    """What a store begins with before any training, a row for each seed."""
    return _stack([jax.jit(store.init)(jax.random.key(seed)) for seed in seeds])


def _stack(trees: Sequence[PyTree]) -> PyTree:
    return jax.tree.map(lambda *leaves: np.stack(leaves), *trees)


def measure(subject: Subject, options: Options) -> list[Measured]:
    """Measures a memory at the setting of its controller, if it has one, and at the setting that is best for it."""
    store, params = subject.store, subject.params
    leaves = jax.tree.leaves(params)
    num_seeds = len(leaves[0]) if leaves else _REFERENCE_SEEDS
    counts = capacity.numbers_of_pairs(options.max_pairs)

    def draw(seed: int, num_draws: int) -> Draws:
        size = (num_seeds, num_draws)
        return capacity.draw(jax.random.key(seed), store, size, options.max_pairs, subject.normalize)

    draws = draw(0, options.num_draws)

    def at(kind: str, setting: stores.Setting, draws: Draws, tried: list[dict[str, float]]) -> Measured:
        found, curves = capacity.measure(store, params, setting, draws, _COSINES)
        numbers = curves["found"].x
        return Measured(
            model=subject.model,
            kind=kind,
            key_size=store.key_size,
            value_size=store.value_size,
            num_weights=store.num_weights(),
            num_floats=store.num_floats(),
            num_seeds=num_seeds,
            num_draws=options.num_draws,
            max_pairs=draws.pairs.keys.shape[2],
            setting=_numbers(setting),
            tried=tried,
            held=_interval(found, functools.partial(capacity.pairs_held, numbers)),
            most=_interval(found, functools.partial(capacity.most_found, numbers)),
            curves=curves,
        )

    results = []
    if subject.setting is not None:
        results.append(at("trained", subject.setting, draws, []))
    if subject.setting is not None and subject.own is not None:
        results.append(at("own", subject.setting, subject.own, []))
    search = draw(1, min(options.num_draws, _SEARCH_DRAWS)).pairs
    best, held = capacity.best_setting(counts, store, params, subject.candidates, search)
    tried = [
        _numbers(setting) | {"pairs_held": number} for setting, number in zip(subject.candidates, held, strict=True)
    ]
    kind = "tuned" if subject.kind == "trained" else subject.kind
    return [*results, at(kind, capacity.spread(best, num_seeds), draws, tried)]


def _interval(found: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]) -> tuple[float, float, float]:
    mean, low, high = map(float, capacity.interval(found, statistic))
    return mean, low, high


def _numbers(setting: stores.Setting) -> dict[str, float]:
    return {name: float(f"{np.mean(value):.4g}") for name, value in setting.items()}


def measure_all(paths: Sequence[str], options: Options) -> list[Measured]:
    """Measures the memories of some runs, and what to compare them with.

    Args:
      paths: see `find_runs`. Models without such a memory are left out.
      options: how to measure.

    Raises:
      ValueError: if a path holds no run, a run cannot be measured, or the memories are not of one size.
    """
    subjects, sizes = [], {}
    for directory in find_runs(paths):
        if not (found := load_subjects(directory, options.num_draws)):
            print(f"{directory}: left out, for its model has no memory into which single pairs are written")
            continue
        subjects += found
        sizes[directory] = training.Configuration.load(directory).model_settings
    if not subjects:
        raise ValueError(f"nothing to measure in {', '.join(paths)}: wanted a model with an MNM or a SALU")
    first, settings = next(iter(sizes.items()))
    for directory, other in sizes.items():
        if other.memory_spec != settings.memory_spec:
            raise ValueError(
                f"the memories of {first} and {directory} differ in size, {settings.memory_spec} and "
                f"{other.memory_spec}: measure them apart"
            )
    known = {subject.model for subject in subjects}
    results = []
    for subject in [*subjects, *(each for each in references(settings) if each.model not in known)]:
        for result in measure(subject, options):
            held = f"{result.held[0]:.1f} pairs held, {result.held_per_thousand[0]:.1f} per 1,000 weights"
            print(f"{subject.model}, {result.kind}: {held}", flush=True)
            results.append(result)
    return results


def save(results: Sequence[Measured], path: pathlib.Path) -> None:
    """Writes all the numbers."""
    lines = ",\n".join(json.dumps(result.to_json(), separators=(",", ":")) for result in results)
    write_whole(path, f"[{lines}]\n")


def load(path: pathlib.Path) -> list[Measured]:
    """Reads what `save` wrote.

    Raises:
      ValueError: if there is no such file, or it holds something else.
    """
    try:
        return [Measured.from_json(contents) for contents in json.loads(path.read_text())]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} does not hold what this program measures: {error!r}") from error


def draw(results: Sequence[Measured], into: Output) -> None:
    """Writes table and figures, the table for people first."""
    into.text("held.md", capacity_figures.to_markdown(results))
    into.text("held.csv", capacity_figures.to_csv(results))
    for name, make in capacity_figures.FIGURES.items():
        into.figure(name, make(results))


def main(argv: Sequence[str], given_output: str | None, formats: Sequence[str] = ("png",)) -> None:
    """Measures the runs on the command line, or takes what was measured, and writes table and figures."""
    if given_output is None:
        raise command_line.UsageError(f"--output=DIR is missing; {_USAGE}")
    output = _paths.expand(given_output)
    if len(argv) == 1 and not (output / _NUMBERS).exists():
        raise command_line.UsageError(f"--output={output}: no {_NUMBERS} to draw from; {_USAGE}")
    try:
        with command_line.writing_to(output):  # Before what takes minutes.
            into = Output(output, formats)
        if len(argv) > 1:
            measured = measure_all(argv[1:], Options(_MAX_PAIRS.value, _NUM_DRAWS.value))
            with command_line.writing_to(output):
                save(measured, output / _NUMBERS)
        results = load(output / _NUMBERS)
        with command_line.writing_to(output):
            draw(results, into)
    except (OSError, ValueError) as error:
        raise command_line.UsageError(error) from error
    for path in [output / _NUMBERS, *into.paths]:
        print(path)
    print(f"\n{into.paths[0].read_text()}", end="")


def run() -> None:
    """Runs the program."""
    # Not at the top: other programs have flags of these names.
    output = flags.DEFINE_string("output", None, "Directory for the numbers, the table and the figures.")
    formats = command_line.formats_flag()
    command_line.run(lambda argv: main(argv, output.value, formats.value), document=__doc__, takes_arguments=True)


if __name__ == "__main__":
    run()
