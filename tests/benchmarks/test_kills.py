"""A training that is killed again and again ends as if nothing had happened."""

from benchmarks import kills


def test_a_training_that_is_killed_and_resumed_ends_as_one_in_one_go(tmp_path):
    num_kills, num_during_save, same_parameters, same_metrics = kills.torture(
        "dictionary", tmp_path, num_kills=1, num_during_save=1, seed=0
    )
    assert num_kills >= 1
    assert num_during_save >= 1
    assert same_parameters
    assert same_metrics
