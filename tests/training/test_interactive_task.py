"""Training on episodes that the model acts itself."""

import dataclasses
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from recall import SEEDS, SETTINGS, assert_equal, build

from mnm_jax import training
from mnm_jax.tasks import MazeTask
from mnm_jax.training.episodes import Episodes
from mnm_jax.training.update import _Updates

pytestmark = pytest.mark.usefixtures("quick_compilation")

TASK = MazeTask(size=5, episode_length=5)


def test_a_run_cut_anywhere_equals_the_whole_run_byte_for_byte(tmp_path):
    cell = build("mnm_p", TASK)
    whole = training.run(TASK, cell, SETTINGS, SEEDS, tmp_path / "whole")
    for _ in range(2):
        stops = itertools.chain([False], itertools.repeat(True))
        life = training.run(TASK, cell, SETTINGS, SEEDS, tmp_path / "cut", should_stop=lambda stops=stops: next(stops))
    life = training.run(TASK, cell, SETTINGS, SEEDS, tmp_path / "cut")
    assert life.update == whole.update == SETTINGS.num_updates
    assert_equal(life.state, whole.state)
    one, other = ((tmp_path / run / "metrics.jsonl").read_bytes() for run in ("whole", "cut"))
    assert one == other


def test_idle_updates_are_measured_and_change_nothing():
    cell = build("lstm", TASK)
    placement = training.place(TASK, cell, dataclasses.replace(SETTINGS, idle_updates=2, adam_epsilon=1e3))
    start = placement.collect(placement.init(SEEDS))
    state, measured, bad_updates = placement.train_chunk(placement.init(SEEDS), 2)
    idle = placement.collect(state)
    assert_equal((idle.params, idle.opt_state), (start.params, start.opt_state))
    assert (placement.collect(measured)["gradient_norm"] > 0).all()
    assert (placement.collect(bad_updates) == -1).all()
    assert (idle.sums["num_measured"] == 2).all()
    assert (idle.sums["num_applied"] == 0).all()
    after = placement.collect(placement.train_chunk(state, 1)[0])
    assert (after.sums["num_measured"] == 3).all()
    assert (after.sums["num_applied"] == 1).all()
    changes = jax.tree.map(lambda new, old: np.abs(new - old).max(), after.params, start.params)
    # Without so large an epsilon the first step of Adam would be as large as the learning rate.
    assert 0 < max(jax.tree.leaves(changes)) < 0.1 * SETTINGS.learning_rate


def test_norms_of_the_gradient_are_told_by_part():
    cell = build("lstm", TASK)
    updates = _Updates(Episodes(TASK, cell, 0.0), SETTINGS, training.default_optimizer(SETTINGS), None)
    grads = {
        "embedding": {"kernel": jnp.ones((2, 2))},
        "output": {"kernel": jnp.full((2, 5), 3.0), "bias": jnp.zeros(5)},
    }
    norms = updates.gradient_norms(grads)
    expected = {"": (4 + 90) ** 0.5, "_embedding": 2, "_policy": 72**0.5, "_value": 18**0.5}
    assert norms.keys() == {f"gradient_norm{name}" for name in expected}
    for name, norm in expected.items():
        np.testing.assert_allclose(norms[f"gradient_norm{name}"], norm, rtol=1e-6)


def test_an_evaluation_tells_what_a_memory_does():
    class Trace(NamedTuple):
        rate: jax.Array
        write_norm: jax.Array
        memory_norm: jax.Array

    class Example(NamedTuple):
        length: int

    episodes = Episodes(TASK, build("lstm", TASK), 0.0)
    trace = Trace(
        jnp.array([0.1, 0.3, 9]), jnp.array([[3.0, 4], [0, 1], [9, 9]]), jnp.array([[0.0, 1], [4, 3], [9, 9]])
    )
    watched = episodes.watch(trace, Example(2))
    expected = {"rate": 0.2, "write_norm": 3, "memory_norm": 3, "memory_norm_end": 5}
    assert watched.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(watched[name], value, rtol=1e-6)
    assert episodes.watch((), Example(2)) == {}


@pytest.mark.parametrize(("options", "wanted"), [({"embedding_dropout": 0.1}, "0"), ({"candidates": 2}, "1")])
def test_what_would_not_be_the_gradient_of_what_was_acted_is_refused(options, wanted):
    settings = dataclasses.replace(SETTINGS, **options)
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} must be {wanted} for a task whose episodes the model acts itself"):
        training.make_functions(TASK, build("lstm", TASK), settings)
