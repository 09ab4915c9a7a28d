"""Checkpoints of a run, by orbax. Nothing else in the library touches orbax.

A checkpoint is written beside the others and renamed at the end, so one that was interrupted is never taken for whole.
It carries a checksum of its arrays, so one that was damaged later is not either.
"""

import hashlib
import os
import pathlib
import re
import shutil
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from mnm_jax.training.identity import differences, explain, flatten

PyTree = Any


class SaveError(OSError):
    """Something could not be written. The message says what, why, and what is left."""


class RestoreError(ValueError):
    """There are checkpoints, but none that this training can go on from. The message says why."""


class Saved(NamedTuple):
    """What a checkpoint holds.

    Attributes:
      state: the state, on the host.
      seconds: the training time until then.
      identity: what the state depends on, in JSON types.
    """

    state: PyTree
    seconds: float
    identity: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run, in one directory, each under its number of updates.

    A state is any pytree of arrays on the host; it is saved as one flat table from paths in the tree to arrays.

    Attributes:
      directory: where they are.
      keep: how many of the newest are kept.
    """

    def __init__(self, directory: str | pathlib.Path, keep: int = 3) -> None:
        # Orbax takes absolute paths only.
        self.directory = pathlib.Path(directory).absolute()
        self.keep = keep

    def updates(self) -> list[int]:
        """The numbers of updates of all checkpoints that were saved to the end, ascending."""
        # Unfinished ones have longer names.
        names = [path.name for path in self.directory.iterdir()] if self.directory.is_dir() else []
        return sorted(int(name) for name in names if name.isdecimal())

    def latest(self) -> int | None:
        """The number of updates of the newest checkpoint; `None` if there is none."""
        return max(self.updates(), default=None)

    def unfinished(self) -> list[pathlib.Path]:
        """What an interrupted save left, or one that is going on has so far; the next save removes it."""
        return list(self.directory.glob("*.orbax-checkpoint-tmp*"))

    def save(self, update: int, state: PyTree, seconds: float = 0.0, identity: dict[str, Any] | None = None) -> None:
        """Saves a state, and then drops the oldest.

        With several processes, all of them call this, with the same state; the first one writes.

        Args:
          update: the number of updates.
          state: a pytree of arrays on the host.
          seconds: the training time so far, to be given back by `load`.
          identity: what the state depends on, in JSON types, for `load` to compare.

        Raises:
          SaveError: if it cannot be written, to a full disk for one. The older checkpoints are as they were.
        """
        table = {name: np.asarray(leaf) for name, leaf in flatten(state).items()}
        metadata = {"checksum": _checksum(table), "seconds": seconds, "identity": identity or {}}
        policy = ocp.training.preservation_policies.LatestN(self.keep)
        try:
            with ocp.training.Checkpointer(
                self.directory, preservation_policy=policy, cleanup_tmp_directories=True
            ) as checkpointer:
                if not checkpointer.save(update, table, custom_metadata=metadata):
                    raise FileExistsError("there is one at this update, or a later one")
        except Exception as error:  # Orbax passes on whatever its storage layers raise.
            for path in self.unfinished():
                shutil.rmtree(path, ignore_errors=True)  # What a full disk has of it only stands in the way.
            whole = self.latest()
            left = "there is no older checkpoint" if whole is None else f"the one at update {whole} is left"
            raise SaveError(f"cannot save update {update} in {self.directory}: {_reason(error)}; {left}") from error

    def load(
        self,
        like: PyTree | Callable[[dict[str, Any]], PyTree] | None,
        identity: dict[str, Any] | None = None,
        *,
        is_part: bool = False,
        set_aside: bool = False,
    ) -> Saved:
        """Loads the newest state that is whole. One that is damaged is passed over with a warning.

        Args:
          like: a state, or the shapes of one, of the same structure; or a function to that from the identity that was
            saved; `None` for the table of arrays by their paths, as it was saved.
          identity: what the state must have been saved with; `None` for anything.
          is_part: whether `like` may lack arrays, which are then left out, and `identity` groups of names, such as
            `task` with all `task.FIELD`, which are then not compared.
          set_aside: whether to rename what is damaged. Who goes on from here must: as the newest it would be kept, and
            whole ones dropped for it.

        Raises:
          FileNotFoundError: if there is no checkpoint.
          RestoreError: if all are damaged, or the newest whole one has other arrays than `like`, or was saved with
            another `identity`; the message lists what differs.
        """
        updates = self.updates()
        if not updates:
            raise FileNotFoundError(f"no checkpoint in {self.directory}")
        damaged = []
        for update in reversed(updates):
            path = self.directory / str(update)
            try:
                table = ocp.load(path)
                metadata = ocp.metadata(path).custom_metadata
                if _checksum(table) != metadata["checksum"]:
                    raise ValueError("its checksum is wrong")
            except MemoryError:
                raise
            except Exception as error:  # Damage shows itself in many ways.
                damaged.append((path, _reason(error)))
                continue
            saved = Saved(table, metadata["seconds"], metadata["identity"])
            if identity is not None:
                groups = {_group(name) for name in (identity if is_part else saved.identity | identity)}
                known = {name: value for name, value in saved.identity.items() if _group(name) in groups}
                _check_same(path, known, identity)
            if like is not None:
                table = _unflatten(table, like(saved.identity) if callable(like) else like, path, is_part)
            for broken, reason in damaged:
                warnings.warn(f"{broken} is damaged ({reason}); going on from update {update}", stacklevel=2)
                if set_aside and jax.process_index() == 0:
                    _set_aside(broken)
            return saved._replace(state=table)
        reasons = "; ".join(f"{path} is damaged ({reason})" for path, reason in damaged)
        raise RestoreError(f"no whole checkpoint is left: {reasons}; remove {self.directory} to begin anew")


def _set_aside(path: pathlib.Path) -> None:
    aside = path.with_name(f"{path.name}.damaged")
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)


def _reason(error: Exception) -> str:
    """What went wrong, in a few words: what the system says, if it is in a long message of the storage layers."""
    if code := re.search(r"os_error_code='(\d+)'", str(error)):
        return os.strerror(int(code[1]))
    return (" ".join(str(error).split()) or repr(error))[:200]


def _unflatten(table: dict[str, np.ndarray], like: PyTree, path: pathlib.Path, is_part: bool) -> PyTree:
    """Puts the arrays back into a tree.

    Raises:
      RestoreError: naming the arrays that the tree does not have, has besides, or has in other shapes.
    """
    wanted = flatten(like)
    found = {name: array for name, array in table.items() if name in wanted} if is_part else table
    _check_same(path, *({name: _describe(leaf) for name, leaf in leaves.items()} for leaves in (found, wanted)))
    return jax.tree.unflatten(jax.tree.structure(like), [table[name] for name in wanted])


def _group(name: str) -> str:
    return name.partition(".")[0]


def _check_same(path: pathlib.Path, was: dict[str, Any], now: dict[str, Any]) -> None:
    if differing := differences(was, now):
        raise RestoreError(f"{path} is of another training: {explain(differing)}")


def _describe(array: np.ndarray | jax.ShapeDtypeStruct) -> str:
    return f"{array.dtype}{list(array.shape)}"


def _checksum(table: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(table.items()):
        digest.update(f"{name} {_describe(array)} ".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
