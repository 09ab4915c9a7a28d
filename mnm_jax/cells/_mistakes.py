"""What a step that failed was called with wrongly. Looked for after it failed only, so that it costs nothing.

Where the search itself fails, nothing was found: the step's own error says more.
"""

from collections.abc import Callable
from typing import Any, cast

import flax.linen as nn
import jax
import numpy as np

from mnm_jax import _checks
from mnm_jax.cells.embedding import check_vector

PyTree = Any


def check_carry(cell: nn.Module, variables: PyTree, carry: PyTree) -> None:
    """Checks that a carry has the structure and the shapes that it has at the start of an episode.

    Raises:
      AssertionError: if not, saying where it differs.
    """
    wanted = _shapes(lambda variables: nn.Module.apply(cell, variables, method="initial_carry"), variables)
    if wanted is None:
        return
    structure: Any = jax.tree.structure(wanted)
    if jax.tree.structure(carry) != structure:
        raise AssertionError(
            f"argument 'carry': wants a state of this cell, of the structure of its initial_carry, or None at the "
            f"start of an episode, got {_checks.show(carry)}"
        )
    for (path, leaf), like in zip(jax.tree.leaves_with_path(carry), jax.tree.leaves(wanted), strict=True):
        if np.shape(leaf) != like.shape:
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
    wanted = _shapes(lambda inputs: nn.Module.init(cell, jax.random.key(0), None, inputs)["params"], inputs)
    params, structure = variables["params"], cast(Any, jax.tree.structure(wanted))
    if wanted is None or jax.tree.structure(params) != structure:
        return
    shapes = zip(*(map(np.shape, jax.tree.leaves(tree)) for tree in (params, wanted)), strict=True)
    # Wider inputs want more rows of the matrices that read them, and nothing else.
    rows = {_more_rows(got, want) for got, want in shapes if got != want}
    if len(rows) == 1 and (more := rows.pop()) is not None:
        check_vector(inputs, len(inputs) + more)


def _shapes(function: Callable[[PyTree], PyTree], argument: PyTree) -> PyTree | None:
    """The shapes of what a function of a cell gives; `None` if it fails, as one does that draws random numbers."""
    try:
        return jax.eval_shape(function, argument)
    except Exception:
        return None


def _more_rows(got: tuple[int, ...], wanted: tuple[int, ...]) -> int | None:
    """How many rows more than wanted there are; `None` if the shapes differ otherwise."""
    is_same = got and len(got) == len(wanted) and got[1:] == wanted[1:]
    return got[0] - wanted[0] if is_same else None
