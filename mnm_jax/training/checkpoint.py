"""Checkpoints of a run, by orbax. Nothing else in the library touches orbax."""

import pathlib

import jax
from orbax.checkpoint import v1 as ocp

from mnm_jax.training.update import TrainState


class Checkpoints:
    """The checkpoints of one run, in one directory; the newest is kept.

    Attributes:
      directory: where they are.
    """

    def __init__(self, directory: str | pathlib.Path) -> None:
        # Orbax takes absolute paths only.
        self.directory = pathlib.Path(directory).absolute()

    def latest(self) -> int | None:
        """The number of updates at the newest checkpoint; `None` if there is none."""
        if not self.directory.is_dir():
            return None
        with ocp.training.Checkpointer(self.directory) as checkpointer:
            return None if checkpointer.latest is None else checkpointer.latest.step

    def save(self, update: int, state: TrainState) -> None:
        """Saves a state under its number of updates, and then drops the older ones."""
        policy = ocp.training.preservation_policies.LatestN(1)
        with ocp.training.Checkpointer(self.directory, preservation_policy=policy) as checkpointer:
            checkpointer.save(update, state)

    def load(self, like: TrainState) -> TrainState:
        """Loads the newest state.

        Args:
          like: a state, or the shapes of one, of the same structure.

        Raises:
          FileNotFoundError: if there is no checkpoint.
        """
        update = self.latest()
        if update is None:
            raise FileNotFoundError(f"no checkpoint in {self.directory}")
        with ocp.training.Checkpointer(self.directory) as checkpointer:
            return checkpointer.load(update, jax.tree.map(_abstract, like))


def _abstract(leaf: jax.Array) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=getattr(leaf, "sharding", None))
