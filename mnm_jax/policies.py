"""A model used one step at a time, by whoever decides what it reads next.

`unroll` takes the inputs of a whole episode. An agent's inputs follow from what it did, so an environment asks for one
output after the other.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from mnm_jax._ways import initial_carry

PyTree = Any


class Policy(NamedTuple):
    """A model and its parameters, as two pure functions.

    Attributes:
      start: `start(inputs) -> carry`, the state at the start of an episode whose first inputs these are.
      step: `step(carry, inputs) -> (carry, output)`.
    """

    start: Callable[[PyTree], PyTree]
    step: Callable[[PyTree, PyTree], tuple[PyTree, jax.Array]]


def policy(cell: nn.Module, variables: PyTree) -> Policy:
    """Makes a cell a policy. `variables` are those that `cell.init` made."""

    def step(carry: PyTree, inputs: PyTree) -> tuple[PyTree, jax.Array]:
        result: Any = cell.apply(variables, carry, inputs)
        carry, (output, _) = result
        return carry, output

    return Policy(functools.partial(initial_carry, cell, variables), step)
