"""Metalearned Neural Memory in JAX and Flax."""

from mnm_jax import cells, interface, memory, objectives, writers
from mnm_jax.policy import Policy, policy
from mnm_jax.unroll import Unrolled, unroll

__all__ = ["Policy", "Unrolled", "cells", "interface", "memory", "objectives", "policy", "unroll", "writers"]
