"""Metalearned Neural Memory in JAX and Flax."""

from mnm_jax import cells, contract, inputs, interface, memory, objectives, rules, writers
from mnm_jax.policies import Policy, policy
from mnm_jax.unrolling import Unrolled, unroll, unroll_batch

__version__ = "0.1.0"

__all__ = [
    "Policy",
    "Unrolled",
    "cells",
    "contract",
    "inputs",
    "interface",
    "memory",
    "objectives",
    "policy",
    "rules",
    "unroll",
    "unroll_batch",
    "writers",
]
