"""What a step may read beside a symbol or a vector."""

from typing import NamedTuple

import jax


class Sentence(NamedTuple):
    """Several symbols, read in one step.

    Attributes:
      symbols: `[W]`, their numbers; where there are fewer than `W`, negative numbers after them.
    """

    symbols: jax.Array
