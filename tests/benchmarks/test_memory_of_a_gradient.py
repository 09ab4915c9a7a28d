"""The benchmark of memory measures something, and the reversible unroll takes the less of it."""

import mnm_jax as mnm
from benchmarks import memory


def test_the_reversible_gradient_takes_less():
    spec = mnm.memory.Spec(16, 16, (16,))
    cell = mnm.cells.MNM(2, 16, spec, memory.WRITERS["MNM-p"], vocabulary_size=5)
    plain, reversible = (memory.temporary_bytes(cell, 60, 4, reversible=flag) for flag in (False, True))
    # The plain gradient keeps the memory of every step at least once, the other one less than that in all.
    assert reversible < 4 * spec.num_weights * 60 * 4 < plain
