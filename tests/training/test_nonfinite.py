"""Losses and gradients that are not finite: the run stops, or leaves these updates out, for these seeds only."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from recall import SEEDS, SETTINGS, Flawed, assert_equal, build, draws

from mnm_jax import training

pytestmark = pytest.mark.usefixtures("quick_compilation")

# Of seed 1, one episode of the updates 1, 4 and 5 has a bad loss, and one of update 2 a bad gradient.
TASK = Flawed(
    bad_losses=tuple(draws(1, update)[i] for update, i in ((1, 0), (4, 3), (5, 2))), bad_gradients=draws(1, 2)[1:2]
)
SKIP = training.RunOptions(on_nonfinite="skip", save_updates=1)
CELL = build("lstm")


def lines(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def skipping(tmp_path_factory):
    directory = tmp_path_factory.mktemp("skipping")
    return training.run(TASK, CELL, SETTINGS, SEEDS, directory, SKIP), directory


def of_seed(state, i):
    return jax.tree.map(lambda leaf: leaf[i], state)


def test_skipping_leaves_the_other_seeds_as_if_nothing_had_been_bad(skipping, tmp_path):
    report, directory = skipping
    # The same compiled program, with a seed of good episodes only in place of the bad one.
    seeds = (SEEDS[0], 2, SEEDS[2])
    good = training.run(TASK, CELL, SETTINGS, seeds, tmp_path)
    assert good.is_finished
    for i in (0, 2):
        assert_equal(of_seed(report.state, i), of_seed(good.state, i))
        assert [line for line in lines(directory) if line["seed"] == seeds[i]] == [
            line for line in lines(tmp_path) if line["seed"] == seeds[i]
        ]


def test_skipped_updates_are_counted_and_leave_no_trace_in_the_seed(skipping):
    report, directory = skipping
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((report.state.params, report.state.opt_state)))
    np.testing.assert_array_equal(report.state.update, [6, 6, 6])
    counts = {(line["update"], line["seed"]): line["train_num_skipped"] for line in lines(directory)[3:]}
    assert counts == {(4, 0): 0, (4, 1): 2, (4, 5): 0, (6, 0): 0, (6, 1): 2, (6, 5): 0}
    # Means over the updates that were made; of none, there is no mean.
    losses = {(line["update"], line["seed"]): line["train_loss"] for line in lines(directory)[3:]}
    assert losses.pop((6, 1)) is None
    assert all(loss > 0 for loss in losses.values())


def test_a_skipped_update_changes_no_parameter_and_the_next_one_does(skipping):
    del skipping
    placement = training.place(TASK, CELL, SETTINGS)
    state, params, bad = placement.init(SEEDS), [], []
    for _ in range(4):
        params.append(placement.collect(state).params)
        state, _, bad_updates = placement.train_chunk(state, 1)
        bad.append(placement.collect(bad_updates).tolist())
    params.append(placement.collect(state).params)
    assert bad == [[-1, -1, -1], [-1, 1, -1], [-1, 2, -1], [-1, -1, -1]]
    assert_equal(of_seed(params[1], 1), of_seed(params[2], 1))
    assert_equal(of_seed(params[2], 1), of_seed(params[3], 1))
    for before, after, i in ((0, 1, 1), (3, 4, 1), (1, 2, 0), (2, 3, 2)):
        with pytest.raises(AssertionError):
            assert_equal(of_seed(params[before], i), of_seed(params[after], i))


def test_a_step_that_is_not_finite_is_left_out_though_loss_and_gradient_are(tmp_path):
    # It never gets past its third step.
    optimizer = optax.scale_by_schedule(lambda count: jnp.where(count == 2, jnp.nan, -0.1))
    report = training.run(TASK, CELL, SETTINGS, (0,), tmp_path, SKIP, optimizer=optimizer)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((report.state.params, report.state.opt_state)))
    assert [line["train_num_skipped"] for line in lines(tmp_path)[1:]] == [2, 2]


@pytest.mark.parametrize(
    ("save_updates", "saved"),
    [(1, "the last good checkpoint is at update 1 in {}"), (None, "no checkpoint was saved yet in {}")],
)
def test_stopping_names_seed_update_and_checkpoint_and_skipping_goes_on_from_there(
    save_updates, saved, skipping, tmp_path
):
    report, directory = skipping
    options = training.RunOptions(save_updates=save_updates)
    wanted = f"loss, gradient or step not finite: seed 1 at update 1; {saved.format(tmp_path / 'checkpoints')}"
    for _ in range(2):
        with pytest.raises(training.NonFiniteError, match=f"^{re.escape(wanted)}$"):
            training.run(TASK, CELL, SETTINGS, SEEDS, tmp_path, options)
    resumed = training.run(TASK, CELL, SETTINGS, SEEDS, tmp_path, SKIP)
    assert_equal(resumed.state, report.state)
    assert (tmp_path / "metrics.jsonl").read_bytes() == (directory / "metrics.jsonl").read_bytes()
