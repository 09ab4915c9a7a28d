"""What a run was asked for, as `config.json` holds it; and how to get a trained model back from a run's directory."""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mnm_jax import _checks, _paths, models, tasks
from mnm_jax._files import CONFIG, new_directory, read_description, write_whole
from mnm_jax.training.checkpoint import Checkpoints, RestoreError, Saved
from mnm_jax.training.episodes import Episodes
from mnm_jax.training.identity import differences, flatten, identify_model
from mnm_jax.training.loop import CHECKPOINTS
from mnm_jax.training.settings import TrainingSettings
from mnm_jax.training.task import AnyTask
from mnm_jax.training.update import init_variables

PyTree = Any
# Where the trained runs are that come with the package: beside it, in a clone as in an installation.
_RESULTS = pathlib.Path(__file__).resolve().parents[2] / "experiments" / "results"


@dataclasses.dataclass(frozen=True)
class Configuration:
    """One model on one task, all its seeds together.

    Attributes:
      experiment: the name of the task; see `tasks.find_task`.
      model: the name of the model; see `models.find_writer`.
      seeds: one run for each.
      task: the task, of a class that `experiment` names.
      model_settings: sizes and options of the model.
      training: how to train it.
    """

    experiment: str
    model: str
    seeds: tuple[int, ...]
    task: Any
    model_settings: models.ModelSettings
    training: TrainingSettings

    def cell(self, task: AnyTask | None = None) -> nn.Module:
        """The cell, with room for the episodes of the task, or of another one of the same symbols."""
        task = self.task if task is None else task
        return models.build(
            self.model,
            self.model_settings,
            output_size=task.output_size,
            vocabulary_size=task.vocabulary_size,
            num_steps=task.num_steps,
        )

    def save(self, directory: pathlib.Path) -> None:
        """Writes into the directory of a run `config.json` and what the task has to be restored from."""
        write_whole(directory / CONFIG, self.to_json())
        if hasattr(self.task, "save"):
            self.task.save(directory)

    def to_json(self) -> str:
        """The contents of `config.json`."""
        config: dict[str, Any] = {"task": self.task, "model": self.model_settings, "training": self.training}
        contents = {
            "experiment": self.experiment,
            "model": self.model,
            "seeds": list(self.seeds),
            "config": {key: dataclasses.asdict(part) for key, part in config.items()},
        }
        return json.dumps(contents, indent=2) + "\n"

    @classmethod
    def load(cls, directory: str | pathlib.Path) -> "Configuration":
        """Reads what `save` wrote into the directory of a run.

        Raises:
          ValueError: if there is no `config.json`, if a file is not what a run writes, or if the task or the writer
            cannot be imported; the message names the file.
        """
        directory = pathlib.Path(directory)
        experiment, model, seeds, config = read_description(directory)
        try:
            kind = tasks.find_task(experiment)
            models.find_writer(model)
        except ValueError as error:
            raise ValueError(f"{directory / CONFIG}: {error}") from error
        try:
            # JSON has lists, which cannot be hashed.
            fields = {name: tuple(x) if isinstance(x, list) else x for name, x in config["task"].items()}
            task = kind(**fields)
            settings = models.ModelSettings(**config["model"]), TrainingSettings(**config["training"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{directory / CONFIG} is not the configuration of a run: {error!r}") from error
        if hasattr(task, "restore"):
            task.restore(directory)
        return cls(experiment, model, seeds, task, *settings)

    def differences(self, other: "Configuration") -> dict[str, tuple[Any, Any]]:
        """What another configuration has otherwise: by name in `config.json`, the value here and the value there."""
        tables = (
            flatten(json.loads(configuration.to_json()), is_leaf=lambda node: not isinstance(node, dict))
            for configuration in (self, other)
        )
        return differences(*tables)


class Loaded(NamedTuple):
    """A trained model.

    Attributes:
      cell: what was trained.
      variables: what it learned, for `cell.apply` and `unroll`.
      task: what it was trained on; its type stands in the files.
      update: after how many updates.
      configuration: all that the run was asked for; `None` if it was given `task` and `cell` themselves.
    """

    cell: nn.Module
    variables: PyTree
    task: Any
    update: int
    configuration: Configuration | None


def load(
    directory: str | pathlib.Path,
    *,
    task: AnyTask | None = None,
    cell: nn.Module | None = None,
    seed: int | None = None,
    best: bool = False,
) -> Loaded:
    """Loads a trained model from what its run left on the disk.

    Example:
      >>> cell, variables, task, *_ = training.load("tiny")
      >>> carry, outputs, trace = mnm.unroll(cell, variables, task.sample(jax.random.key(0)).inputs)

      A task and a cell of one's own:

      >>> training.run(task, cell, settings, seeds, "runs/mine")
      >>> cell, variables, *_ = training.load("runs/mine", task=task, cell=cell)

    Args:
      directory: the directory of one model, which holds `checkpoints/` and, from a training program, `config.json`; or
        one with a single directory of a training program in it; or, where there is none of this name, one of
        `trained_runs()`.
      task: what `run` was given, for a directory without `config.json`.
      cell: likewise.
      seed: which seed's parameters; `None` for the first.
      best: the parameters at the best evaluation instead of the last ones.

    Returns:
      The `Loaded` model.

    Raises:
      ValueError: if this is no directory of a run or of several, if the seed is no whole number or the run has no such
        one, if no checkpoint of it is whole (a `RestoreError`), or if another task or cell was trained (likewise).
    """
    if seed is not None and not _checks.is_whole(seed):
        raise ValueError(f"argument 'seed': wants a whole number, of Python or NumPy, or None, got {seed!r}")
    directory, configuration, identity = _paths.expand(directory), None, None
    if (task is None) != (cell is None):
        raise ValueError("task and cell go together: give both, or neither for a directory with a config.json")
    if task is None or cell is None:
        directory = find_run(directory)
        configuration = Configuration.load(directory)
        task, cell = configuration.task, configuration.cell()
    else:
        identity = identify_model(task, cell)
    saved = _load_newest(directory, task, cell, identity)
    seeds = saved.identity["seeds"]
    if seed is not None and seed not in seeds:
        raise ValueError(f"{directory} has no seed {seed}; it has {', '.join(map(str, seeds))}")
    i = 0 if seed is None else seeds.index(seed)
    constants, chosen = saved.state["constants"], saved.state["best"] if best else saved.state
    variables = jax.tree.map(lambda leaf: leaf[i], {"params": chosen["params"], **constants})
    return Loaded(cell, variables, task, int(chosen["update"][i]), configuration)


def export(directory: str | pathlib.Path, output: str | pathlib.Path, seeds: Sequence[int] | None = None) -> None:
    """Writes what `load` needs of a run, and no more: a model to hand on, a fraction of the size of the run.

    What only training needs is left out, so nobody can go on with it.

    Args:
      directory: what `load` takes, of a training program.
      output: where to write `config.json`, the last checkpoint, and what the task has to be restored from; made if
        there is none.
      seeds: which seeds; `None` for all.

    Raises:
      ValueError: if this is no directory of a training program, if the run has no such seed, or one is named twice, or
        if no checkpoint of it is whole (a `RestoreError`).
      OSError: if `output` is not empty, or cannot be written to; nothing is left in it then.
    """
    directory, output = find_run(_paths.expand(directory)), _paths.expand(output)
    configuration = Configuration.load(directory)
    saved = _load_newest(directory, configuration.task, configuration.cell(), None)
    known = saved.identity["seeds"]
    seeds = known if seeds is None else list(seeds)
    if not seeds or not all(_checks.is_whole(seed) and seed in known for seed in seeds) or len(set(seeds)) < len(seeds):
        wanted = f"some of {', '.join(map(str, known))}, each once, which {directory} has"
        raise ValueError(f"argument 'seeds': want {wanted}; got {seeds!r}")
    seeds = [int(seed) for seed in seeds]
    chosen = np.array([known.index(seed) for seed in seeds])
    state = jax.tree.map(lambda leaf: leaf[chosen], saved.state)
    update, identity = int(max(state["update"])), {**saved.identity, "seeds": seeds}
    with new_directory(output):
        Checkpoints(output / CHECKPOINTS).save(update, state, saved.seconds, identity)
        dataclasses.replace(configuration, seeds=tuple(seeds)).save(output)


def _load_newest(directory: pathlib.Path, task: AnyTask, cell: nn.Module, identity: dict[str, Any] | None) -> Saved:
    """What is needed of the newest whole checkpoint of a run."""
    return load_checkpoint(directory, lambda saved: _shapes(task, cell, len(saved["seeds"])), identity, is_part=True)


def load_checkpoint(
    directory: pathlib.Path,
    like: Callable[[dict[str, Any]], PyTree] | None,
    identity: dict[str, Any] | None = None,
    *,
    is_part: bool = False,
) -> Saved:
    """The newest whole checkpoint of the run in a directory; see `Checkpoints.load`.

    Raises:
      RestoreError: if there is none, or it is of another training.
    """
    try:
        return Checkpoints(directory / CHECKPOINTS).load(like, identity, is_part=is_part)
    except OSError as error:
        raise RestoreError(str(error)) from error


def _shapes(task: AnyTask, cell: nn.Module, num_seeds: int) -> PyTree:
    """What is needed of a `TrainState`, all seeds together."""

    def init(rng: jax.Array) -> PyTree:
        params, constants = init_variables(Episodes(task, cell, meta_weight=0.0), rng)
        learned = {"params": params, "update": jnp.zeros((), jnp.int32)}
        return {**learned, "constants": constants, "best": learned}

    return jax.eval_shape(jax.vmap(init), jax.random.split(jax.random.key(0), num_seeds))


def trained_runs() -> list[str]:
    """The names of the trained runs that come with the package: of those with one model, whose name says which."""
    found = {path.parents[1] for path in _RESULTS.glob(f"*/*/{CHECKPOINTS}")}
    return sorted(path.name for path in found if len(list(path.glob(f"*/{CONFIG}"))) == 1)


def find_run(directory: pathlib.Path) -> pathlib.Path:
    """The directory of one model: this one, the only one in it, or one of `trained_runs()` of its name.

    Raises:
      ValueError: if there is none, or there are several.
    """
    if not directory.exists() and str(directory) in trained_runs():
        directory = _RESULTS / directory
    if (directory / CONFIG).is_file():
        return directory
    inside = sorted(path.parent for path in directory.glob(f"*/{CONFIG}"))
    if len(inside) != 1:
        found = f"several: {', '.join(path.name for path in inside)}" if inside else f"no {CONFIG} in it"
        if not directory.exists():
            found += f"; the runs that come with the package are {', '.join(trained_runs())}"
        if (directory / CHECKPOINTS).is_dir():
            found += "; what was trained by training.run itself is loaded with the arguments task and cell alone"
        raise ValueError(f"{directory} is not the directory of one run: {found}")
    return inside[0]
