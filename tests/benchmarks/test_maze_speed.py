"""The speed of agents, on the smallest of them."""

from benchmarks import maze
from mnm_jax import models
from mnm_jax.tasks import MazeTask


def test_an_update_takes_longer_than_acting_alone():
    task = MazeTask(size=5, episode_length=20)
    speed = maze.measure("rnn", task, models.ModelSettings(4, 4), batch_size=4, repeats=25)
    assert 0 < speed.acting.clock < speed.update.clock
    assert 0 < speed.acting.processor < speed.update.processor
