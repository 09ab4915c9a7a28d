"""Recurrent cells with one signature: `cell(carry, inputs) -> (carry, (output, trace))`, on one episode.

Types: parameters are made as float32, also under `jax_enable_x64`. The state at the start of an episode is in the type
of the parameters. Whatever is computed, the state, the output and the trace, is in the type of the parameters promoted
with that of the inputs (`jnp.promote_types`), and symbols, which are integers, leave it at that of the parameters. So
parameters and inputs in bfloat16 give bfloat16 throughout, and inputs in float64 give float64.

Within a linen module a cell goes through `nn.scan(..., variable_broadcast="params", split_rngs={"params": False})` from
`cell.initial_carry()` on, and through `nn.vmap`; `mnm_jax.unroll` does the same in less memory. `nn.RNN`, which wants
batches, does not take it.
"""

from mnm_jax.cells.attention import Attention, AttentionCarry
from mnm_jax.cells.chained import ChainedCarry, ChainedMNM
from mnm_jax.cells.controller import LSTMCarry, LSTMCell
from mnm_jax.cells.dnc import DNC, DNCCarry
from mnm_jax.cells.embedding import Embedding
from mnm_jax.cells.lstm import LSTM
from mnm_jax.cells.mnm import MNM, MNMCarry
from mnm_jax.cells.ntm import NTM, NTMCarry
from mnm_jax.cells.plastic import Plastic, PlasticCarry
from mnm_jax.cells.salu import SALU, SALUCarry
from mnm_jax.cells.slots import num_slots_matching
from mnm_jax.cells.trace import Trace
from mnm_jax.cells.written import WrittenCell

__all__ = [
    "DNC",
    "LSTM",
    "MNM",
    "NTM",
    "SALU",
    "Attention",
    "AttentionCarry",
    "ChainedCarry",
    "ChainedMNM",
    "DNCCarry",
    "Embedding",
    "LSTMCarry",
    "LSTMCell",
    "MNMCarry",
    "NTMCarry",
    "Plastic",
    "PlasticCarry",
    "SALUCarry",
    "Trace",
    "WrittenCell",
    "num_slots_matching",
]
