"""The rule of types that all cells share; see `mnm_jax.cells`."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mnm_jax._trees import cast

PyTree = Any


def in_parameter_type(cell: nn.Module, carry: PyTree) -> PyTree:
    """A state at the start of an episode, its floating-point leaves in the type of the cell's parameters.

    Args:
      cell: bound to its variables. Without any, as in `init`, its parameters are about to be made, as float32.
      carry: the state.
    """
    params = jax.tree.leaves(cell.variables.get("params", {}))
    dtype = jnp.result_type(*params) if params else jnp.float32
    return cast(carry, dtype)
