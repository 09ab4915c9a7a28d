"""What a step that failed was called with wrongly. Looked for after it failed only, so that it costs nothing."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mnm_jax import _checks
from mnm_jax.cells.embedding import check_vector

PyTree = Any


def check_carry(cell: nn.Module, variables: PyTree, carry: PyTree) -> None:
    """Checks that a carry has the structure and the shapes that it has at the start of an episode.

    Raises:
      AssertionError: if not, saying where it differs.
    """
    wanted = jax.eval_shape(lambda variables: nn.Module.apply(cell, variables, method="initial_carry"), variables)
    structure: Any = jax.tree.structure(wanted)
    if jax.tree.structure(carry) != structure:
        raise AssertionError(
            f"argument 'carry': wants a state of this cell, of the structure of its initial_carry, or None at the "
            f"start of an episode, got {_checks.show(carry)}"
        )
    for (path, leaf), like in zip(jax.tree.leaves_with_path(carry), jax.tree.leaves(wanted), strict=True):
        if jnp.shape(leaf) != like.shape:
            raise AssertionError(
                f"argument 'carry': wants the state of a cell of these sizes, carry{jax.tree_util.keystr(path)} being "
                f"{_checks.show(like)}, got {_checks.show(leaf)}"
            )


def check_width(cell: nn.Module, variables: PyTree, inputs: PyTree) -> None:
    """Checks that inputs which no embedding reads are as wide as those that the parameters were made for.

    Raises:
      AssertionError: if not.
    """
    if getattr(cell, "embedding_size", None) != 0 or getattr(inputs, "ndim", None) != 1:
        return
    wanted = jax.eval_shape(lambda inputs: nn.Module.init(cell, jax.random.key(0), None, inputs), inputs)["params"]
    structure: Any = jax.tree.structure(wanted)
    if jax.tree.structure(variables["params"]) != structure:
        return
    shapes = zip(*(map(jnp.shape, jax.tree.leaves(params)) for params in (variables["params"], wanted)), strict=True)
    # Wider inputs want more rows of the matrices that read them, and nothing else.
    rows = {got[0] - want[0] if got[1:] == want[1:] else None for got, want in shapes if got != want}
    if len(rows) == 1 and (more := rows.pop()) is not None:
        check_vector(inputs, len(inputs) + more)
