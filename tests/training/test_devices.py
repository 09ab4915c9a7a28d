"""Episodes or seeds over devices: the same training as on one."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mnm_jax import training
from mnm_jax.training import devices
from mnm_jax.training.update import _own_share

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What `devices_program.py` prints, on eight devices."""
    completed = subprocess.run(
        [
            sys.executable,
            str(pathlib.Path(__file__).with_name("devices_program.py")),
            str(tmp_path_factory.mktemp("runs")),
        ],
        env=os.environ
        | {
            "PYTHONPATH": str(ROOT),
            "JAX_PLATFORMS": "cpu",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert completed.returncode == 0, completed.stderr
    return json.loads(completed.stdout.splitlines()[-1])


def test_episodes_over_devices_train_as_on_one_device(results):
    assert results["data"] <= 1e-4
    assert results["data_float64"] <= 1e-9


def test_candidates_are_shared_out_and_chosen_among_all(results):
    assert results["data_candidates"] <= 1e-4 < results["candidates_matter"]


def test_an_evaluation_is_shared_out_too(results):
    assert max(results["evaluation"]) <= 1e-5


@pytest.mark.parametrize(("num_episodes", "share"), [(8, 1), (11, 2), (3, 1)])
def test_each_device_evaluates_its_share_and_no_more(num_episodes, share):
    episodes = jnp.arange(1.0, num_episodes + 1)
    own, weights = jax.vmap(lambda _: _own_share(episodes, "devices"), axis_name="devices")(jnp.arange(8))
    assert own.shape == weights.shape == (8, share)
    assert set(own[weights > 0].tolist()) == set(episodes.tolist())
    assert float(jnp.mean(own * weights)) == pytest.approx((num_episodes + 1) / 2)


def test_episodes_of_a_bucket_are_shared_out_too(results):
    assert max(results["bucket"]) <= 1e-4


def test_seeds_over_devices_train_bit_for_bit_as_each_would_alone(results):
    assert results["seeds_equal_seeds_alone"]
    assert results["seeds"] <= 1e-5


def test_seeds_in_turn_train_bit_for_bit_as_each_would_alone(results):
    assert results["seeds_in_turn_equal_seeds_alone"]


def test_a_seed_in_turn_is_done_before_the_next_begins(monkeypatch):
    events = []
    monkeypatch.setattr(jax, "block_until_ready", lambda seed: events.append(("done", seed)) or seed)
    assert devices._in_turn(lambda seed: events.append(("begun", seed)) or seed, (0, 1)) == (0, 1)
    assert events == [("begun", 0), ("done", 0), ("begun", 1), ("done", 1)]


def test_an_arrangement_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="parallel must be one of"):
        training.place(None, None, training.TrainingSettings(num_updates=1), "all")


def test_a_run_goes_on_with_other_devices_than_it_began_with(results):
    for stages in results["stages"]:
        assert stages["distance"] <= 1e-4
        assert stages["is_finished"]
        assert stages["shapes"] == [8]
        assert stages["lines"] == 3 * 8


@pytest.mark.parametrize(
    ("parallel", "batch_size", "num_seeds", "message"),
    [
        ("data", 12, 1, "batch_size=12 cannot be shared out evenly over 8 devices; the nearest that can: 8 or 16$"),
        ("data", 3, 8, "batch_size=3 cannot be shared out evenly over 8 devices; the nearest that can: 8$"),
        ("seeds", 1, 17, "num_seeds=17 cannot be shared out evenly over 8 devices; the nearest that can: 16 or 24$"),
        ("all", 8, 8, "parallel must be one of 'none', 'in_turn', 'data', 'seeds', got 'all'$"),
    ],
)
def test_what_cannot_be_shared_out_evenly_is_refused_with_what_can(
    parallel, batch_size, num_seeds, message, monkeypatch
):
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    settings = training.TrainingSettings(num_updates=1, batch_size=batch_size)
    with pytest.raises(ValueError, match=f"^{message}"):
        training.check_divisible(parallel, settings, num_seeds)


def test_what_can_be_shared_out_is_not_refused(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 8)
    for parallel, batch_size, num_seeds in (("data", 16, 3), ("seeds", 3, 16), ("none", 3, 3), ("in_turn", 3, 3)):
        assert training.check_divisible(parallel, training.TrainingSettings(1, batch_size), num_seeds) is None


def test_processes_agree_on_numbers_of_any_size_exactly(monkeypatch):
    def gather(mine):
        mine = np.asarray(jnp.asarray(mine))  # What JAX would send.
        return np.stack([mine, mine])

    values = [2**24 + 1, -(2**24) - 1, 2**50 + 1, 0.1, float("inf"), True]
    assert training.max_over_processes(values) == values
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(devices.multihost_utils, "process_allgather", gather)
    assert training.max_over_processes(values) == values


@pytest.mark.parametrize("parallel", ["none", "in_turn"])
def test_one_device_for_several_processes_is_refused(parallel, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    message = f"parallel='{parallel}' uses one device, but there are several processes; want"
    with pytest.raises(ValueError, match=message):
        training.check_divisible(parallel, training.TrainingSettings(num_updates=1), 1)
