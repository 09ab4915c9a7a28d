"""Metalearned Neural Memory in JAX and Flax."""

from mnm_jax import cells, interface, memory, objectives, writers
from mnm_jax.unroll import Unrolled, unroll

__all__ = ["Unrolled", "cells", "interface", "memory", "objectives", "unroll", "writers"]
