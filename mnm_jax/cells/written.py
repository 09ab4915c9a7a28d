"""What the cells whose memory changes only by a `contract.Change` have in common: a step in three parts."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from mnm_jax.cells._types import OneEpisode, with_structure
from mnm_jax.contract import Change, PyTree


class WrittenCell(OneEpisode, nn.Module):
    """A cell that changes its memory only by a `contract.Change`, once in each step, so that it can be taken back.

    A step is made of three parts, which `unroll` calls one by one: its gradient walks the memory back, and goes through
    the writing of a step and the reading of the step before it, which meet the same memory, together.

    The carry is a NamedTuple with a field `memory`. Whatever else it holds is small, and is not kept for the gradient
    but made again by `read`, from what `control` gave and the memory that was walked back. So what must not be rounded,
    such as a count or a random key, has to come from `control`.
    """

    def initial_carry(self) -> PyTree:
        """The state at the start of an episode."""
        raise NotImplementedError

    def control(self, carry: PyTree, inputs: PyTree) -> PyTree:
        """All of a step that does not see the memory.

        Args:
          carry: the state; its memory is not to be used.
          inputs: one input.

        Returns:
          What `write` and `read` go on from, all of it arrays: the controller's next state, keys, values and the like.
        """
        raise NotImplementedError

    def write(self, control: PyTree, memory: PyTree) -> tuple[Change, dict[str, Any]]:
        """Decides what to write.

        Args:
          control: what `control` gave.
          memory: the memory before the write.

        Returns:
          The change, and fields of the trace, by name, that tell of the memory before it. If there are any, the trace
          of `read` is a NamedTuple that has them, as `None`.
        """
        raise NotImplementedError

    def read(self, control: PyTree, memory: PyTree) -> tuple[PyTree, jax.Array, PyTree]:
        """Reads, and ends the step.

        Args:
          control: what `control` gave.
          memory: the memory after the write.

        Returns:
          The next state, the output `[output_size]`, and the trace without the fields that `write` gives.
        """
        raise NotImplementedError

    def step(self, carry: PyTree, inputs: PyTree) -> tuple[PyTree, jax.Array, PyTree, Change]:
        """One step that also hands out the change.

        Args:
          carry: the state.
          inputs: one input.

        Returns:
          The next state, the output, the trace and the change.
        """
        control = self.control(carry, inputs)
        change, before = self.write(control, carry.memory)
        carry, output, trace = self.read(control, change.apply(carry.memory))
        return carry, output, join_trace(trace, before), change

    def __call__(self, carry: PyTree | None, inputs: PyTree) -> tuple[PyTree, tuple[jax.Array, PyTree]]:
        """One step.

        Args:
          carry: the state, or `None` at the start of an episode.
          inputs: one input.

        Returns:
          `(carry, (output, trace))`.
        """
        carry, output, trace, _ = self.step(self.initial_carry() if carry is None else carry, inputs)
        return carry, (output, trace)


def join_trace(trace: PyTree, before: dict[str, Any]) -> PyTree:
    """The trace of `read` with the fields that `write` gave."""
    return trace._replace(**before) if before else trace


def learned(cell: nn.Module, name: str, init: Callable[..., PyTree], *arguments: Any) -> PyTree:
    """A parameter, in the structure that `init` makes also where it was restored without one."""
    # In `init` they are about to be made; in that of a lifted cell, too, which does not know that it is initialising.
    if cell.has_variable("params", name) or not cell.is_mutable_collection("params"):
        like = jax.eval_shape(lambda rng: init(rng, *arguments), jax.random.key(0))
        value: PyTree = cell.get_variable("params", name, {})
        if not _is_like(value, like):
            return with_structure(like, value, f"params/{name}")
    return cell.param(name, init, *arguments)


def constant(cell: nn.Module, name: str, init: Callable[..., PyTree], *arguments: Any) -> PyTree:
    """What `init(rng, *arguments)` draws, outside of the parameters, in its structure also where that was lost.

    Where it draws nothing there is no collection.
    """
    shapes = jax.eval_shape(lambda rng: init(rng, *arguments), jax.random.key(0))
    if not jax.tree.leaves(shapes):
        return shapes
    value = cell.variable("constants", name, lambda: init(cell.make_rng("params"), *arguments)).value
    return value if _is_like(value, shapes) else with_structure(shapes, value, f"constants/{name}")


def _is_like(value: PyTree, like: PyTree) -> bool:
    structure: Any = jax.tree.structure(value)
    return bool(structure == jax.tree.structure(like))
