"""Recurrent cells with one signature: `cell(carry, inputs) -> (carry, (output, trace))`, on one episode."""

from mnm_jax.cells.embedding import Embedding
from mnm_jax.cells.lstm import LSTM
from mnm_jax.cells.mnm import MNM, MNMCarry, Trace

__all__ = ["LSTM", "MNM", "Embedding", "MNMCarry", "Trace"]
