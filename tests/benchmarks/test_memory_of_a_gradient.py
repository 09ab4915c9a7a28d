"""The benchmark of memory measures something, and the memory-saving unroll takes the less of it."""

import pytest

from benchmarks import footprint

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.mark.parametrize("model", ["mnm_p", "salu", "attention", "dnc"])
def test_the_saving_gradient_takes_less(model):
    cell = footprint.make_cell(model, 16, 2, 1, 60)
    plain, saving = (footprint.temporary_bytes(cell, 60, 4, reversible=flag) for flag in (False, True))
    assert 0 < saving < plain / 2


def test_the_peak_is_that_of_a_process_with_jax():
    assert 1e7 < footprint.peak_bytes(footprint.make_cell("mnm_p", 4, 1, 1, 3), 3, 1) < 1e11
