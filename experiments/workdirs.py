"""The working directory of a training program: what it holds already, and that only one program trains in it."""

import contextlib
import os
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence

import filelock
import jax

from mnm_jax import training
from mnm_jax.analysis import style


class LockError(RuntimeError):
    """Another program trains in the directory, or it cannot be made. The message says which."""


def saved_configurations(workdir: pathlib.Path, *, is_resumed: bool) -> dict[str, training.Configuration]:
    """Checks that a directory can be trained in, and reads what was trained in it.

    Returns:
      The configuration of each model, by its name.

    Raises:
      ValueError: if the directory is in use without `--resume`, cannot be written to, or holds what no run wrote.
    """
    try:
        ancestor = next(path for path in (workdir, *workdir.absolute().parents) if path.exists())
    except OSError as error:
        raise ValueError(f"--workdir={workdir}: {error.strerror or error}") from error
    if not ancestor.is_dir():
        raise ValueError(f"--workdir={workdir} is not a directory")
    if not os.access(ancestor, os.W_OK):
        raise ValueError(f"--workdir={workdir} cannot be written to")
    if not is_resumed and workdir.is_dir() and any(workdir.iterdir()):
        raise ValueError(f"--workdir={workdir} exists; pass --resume to go on in it, or name another")
    found = [training.Configuration.load(path.parent) for path in workdir.glob(f"*/{training.CONFIG}")]
    found.sort(key=lambda configuration: style.order(configuration.model))
    return {configuration.model: configuration for configuration in found}


def directory_of(model: str) -> str:
    """The name of a model's directory: that of the model, without the colon of `module:function`."""
    return model.replace(":", ".")


def check_same(
    workdir: pathlib.Path,
    saved: Mapping[str, training.Configuration],
    configurations: Sequence[training.Configuration],
) -> list[str]:
    """Refuses to mix two experiments in one directory.

    Args:
      workdir: the directory.
      saved: what it holds, by model.
      configurations: what is to be trained in it.

    Returns:
      What is different from before, and may be, in words.

    Raises:
      ValueError: if anything else differs.
    """
    changes = []
    wanted = {configuration.model: configuration for configuration in configurations}
    for model, configuration in saved.items():
        directory = workdir / directory_of(model)
        # Another model may be trained otherwise; but one figure holds one task.
        differing = configuration.differences(wanted.get(model, configurations[0]))
        if model not in wanted:
            differing = {key: values for key, values in differing.items() if key.startswith("config.task.")}
        # A run may be made longer, if its learning rate does not depend on its length.
        was, now = differing.get("config.training.num_updates", (0, 0))
        if was < now and configuration.training.schedule == "constant":
            key = "config.training.num_updates"
            changes.append(f"{directory}: {training.explain({key: differing.pop(key)})}")
        if differing:
            raise ValueError(f"{directory} was made otherwise: {training.explain(differing)}")
    return changes


@contextlib.contextmanager
def lock(workdir: pathlib.Path) -> Iterator[None]:
    """Keeps others from training in the same directory. The system ends it with the process, however that ends.

    Raises:
      LockError: if another process trains in it, or if it cannot be made.
    """
    if jax.process_index() > 0:
        yield
        return
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LockError(f"--workdir={workdir} cannot be made: {error.strerror or error}") from error
    file_lock = filelock.FileLock(workdir / ".lock", timeout=0)
    try:
        file_lock.acquire()
    except filelock.Timeout:
        raise LockError(f"--workdir={workdir}: another process is training in it") from None
    except (OSError, NotImplementedError) as error:
        # Some file systems have no locks.
        print(
            f"warning: {workdir} cannot be locked ({error}): see to it that nobody else trains in it", file=sys.stderr
        )
    try:
        yield
    finally:
        file_lock.release()
