"""The benchmark of every model's speed and memory, on the smallest sizes."""

from benchmarks import cells


def test_a_model_has_a_speed_and_a_step_takes_memory():
    speed = cells.speed("lstm", 4, 2, 3, repeats=3)
    assert speed.by_clock > 0
    assert speed.by_processor > 0
    # The plain gradient keeps at least the state of each step: c and h, in single precision.
    assert cells.bytes_per_sample_step("lstm", 8, 2, 3, reversible=False) >= 2 * 3 * 4
