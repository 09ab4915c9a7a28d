"""Checkpoints: the newest are kept, damage and full disks are survived, and what is wrong is said."""

import contextlib
import os
import re
import resource

import numpy as np
import pytest
from recall import SEEDS, SETTINGS, TASK, assert_equal, build, damage

from mnm_jax import training

pytestmark = pytest.mark.usefixtures("quick_compilation")


def make_state(update, size=1000):
    params = {"kernel": np.random.default_rng(update).normal(size=(2, size)).astype(np.float32)}
    return {"params": params, "update": np.array([update, update])}


@pytest.fixture
def checkpoints(tmp_path):
    """Two checkpoints, at the updates 3 and 7."""
    checkpoints = training.Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(3, make_state(3), 1.5)
    checkpoints.save(7, make_state(7), 2.5)
    return checkpoints


@contextlib.contextmanager
def full_disk(num_bytes):
    """No file can grow beyond a size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_the_newest_are_kept_and_the_last_one_is_loaded(checkpoints):
    state, seconds, _ = checkpoints.load(make_state(0))
    assert_equal(state, make_state(7))
    assert seconds == 2.5
    newest_two = training.Checkpoints(checkpoints.directory, keep=2)
    newest_two.save(8, make_state(8))
    newest_two.save(10, make_state(10))
    assert newest_two.updates() == [8, 10]
    assert newest_two.latest() == 10


def test_what_was_not_saved_to_the_end_is_no_checkpoint(checkpoints):
    unfinished = checkpoints.directory / "9.orbax-checkpoint-tmp-12"
    unfinished.mkdir()
    assert checkpoints.latest() == 7
    assert checkpoints.unfinished() == [unfinished]
    checkpoints.save(8, make_state(8))
    assert checkpoints.unfinished() == []
    assert checkpoints.updates() == [3, 7, 8]


@pytest.mark.parametrize("how", ["truncated", "flipped"])
def test_a_damaged_checkpoint_is_passed_over_with_a_warning_and_set_aside(how, checkpoints):
    damage(checkpoints.directory / "7", how)
    message = re.escape(f"{checkpoints.directory / '7'} is damaged (") + r".*\); going on from update 3"
    with pytest.warns(UserWarning, match=message):
        checkpoints.load(make_state(0))  # Who only looks changes nothing.
    assert checkpoints.updates() == [3, 7]
    with pytest.warns(UserWarning, match=message):
        state, seconds, _ = checkpoints.load(make_state(0), set_aside=True)
    assert_equal(state, make_state(3))
    assert seconds == 1.5
    assert sorted(path.name for path in checkpoints.directory.iterdir()) == ["3", "7.damaged"]
    checkpoints.save(7, make_state(7))
    assert_equal(checkpoints.load(make_state(0))[0], make_state(7))


def test_a_checkpoint_whose_arrays_were_exchanged_is_damaged(checkpoints):
    (checkpoints.directory / "3" / "state").rename(checkpoints.directory / "3" / "old")
    (checkpoints.directory / "7" / "state").rename(checkpoints.directory / "3" / "state")
    (checkpoints.directory / "3" / "old").rename(checkpoints.directory / "7" / "state")
    with pytest.raises(training.RestoreError, match=r"7 is damaged \(its checksum is wrong\).*3 is damaged \("):
        checkpoints.load(make_state(0))


def test_without_a_whole_checkpoint_all_damaged_ones_are_named(checkpoints):
    damage(checkpoints.directory / "3", "truncated")
    damage(checkpoints.directory / "7", "flipped")
    with pytest.raises(training.RestoreError) as error:
        checkpoints.load(make_state(0))
    message = str(error.value)
    assert message.startswith("no whole checkpoint is left: ")
    assert f"{checkpoints.directory / '3'} is damaged (" in message
    assert f"{checkpoints.directory / '7'} is damaged (" in message
    assert message.endswith(f"; remove {checkpoints.directory} to begin anew")
    assert checkpoints.updates() == [3, 7]


def test_a_state_of_another_training_is_refused_with_the_arrays_that_differ(checkpoints):
    other = make_state(0, size=4)
    other["best"] = other.pop("update").astype(np.float32)
    with pytest.raises(training.RestoreError) as error:
        checkpoints.load(other)
    assert str(error.value) == (
        f"{checkpoints.directory / '7'} is of another training: best was absent and is float32[2]; "
        "params.kernel was float32[2, 1000] and is float32[2, 4]; update was int64[2] and is absent"
    )
    assert checkpoints.updates() == [3, 7]


def test_what_a_state_depends_on_is_compared(checkpoints):
    checkpoints.save(9, make_state(9), identity={"seeds": [0, 1], "learning_rate": 0.1})
    checkpoints.load(make_state(0), {"seeds": [0, 1], "learning_rate": 0.1})
    with pytest.raises(training.RestoreError, match=r"9 is of another training: seeds was \[0, 1\] and is \[0, 7\]$"):
        checkpoints.load(make_state(0), {"seeds": [0, 7], "learning_rate": 0.1})


def test_a_second_checkpoint_at_the_same_update_is_refused(checkpoints):
    with pytest.raises(training.SaveError, match=r"cannot save update 7 in .*; the one at update 7 is left"):
        checkpoints.save(7, make_state(8))


def test_checkpoints_are_named_when_missing(tmp_path):
    checkpoints = training.Checkpoints(tmp_path / "none")
    assert checkpoints.latest() is None
    with pytest.raises(FileNotFoundError, match=f"no checkpoint in {tmp_path / 'none'}"):
        checkpoints.load({})


def test_a_checkpoint_that_finds_no_room_leaves_the_older_ones_as_they_were(checkpoints):
    with full_disk(20_000), pytest.raises(training.SaveError) as error:
        checkpoints.save(9, make_state(9, size=100_000))
    assert str(error.value).startswith(f"cannot save update 9 in {checkpoints.directory}: ")
    assert "File too large" in str(error.value)
    assert str(error.value).endswith("; the one at update 7 is left")
    assert len(str(error.value).splitlines()) == 1
    assert sorted(path.name for path in checkpoints.directory.iterdir()) == ["3", "7"]
    assert_equal(checkpoints.load(make_state(0))[0], make_state(7))
    checkpoints.save(9, make_state(9))
    assert checkpoints.latest() == 9


def test_a_first_checkpoint_that_finds_no_room_says_that_there_is_none(tmp_path):
    checkpoints = training.Checkpoints(tmp_path)
    with full_disk(20_000), pytest.raises(training.SaveError, match=r"; there is no older checkpoint$"):
        checkpoints.save(9, make_state(9, size=100_000))
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_finds_no_room_for_its_metrics_says_so_and_goes_on_when_there_is(tmp_path):
    def train(directory, **arguments):
        return training.run(TASK, build("lstm"), SETTINGS, SEEDS, directory, **arguments)

    whole = train(tmp_path / "whole")
    wanted = (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    pieces = tmp_path / "pieces"
    metrics = pieces / "metrics.jsonl"
    train(pieces, max_seconds=0)
    with contextlib.ExitStack() as stack:

        def fill_the_disk():
            stack.enter_context(full_disk(metrics.stat().st_size + 100))
            return False

        with pytest.raises(training.SaveError) as error:
            train(pieces, should_stop=fill_the_disk)
    assert str(error.value) == f"cannot write {metrics}: File too large; the checkpoints are as they were"
    # A line was begun.
    cut_off = metrics.read_bytes()
    assert cut_off.count(b"\n") == len(SEEDS)
    assert not cut_off.endswith(b"\n")
    assert training.Checkpoints(pieces / "checkpoints").updates() == [1]
    assert_equal(train(pieces).state, whole.state)
    assert metrics.read_bytes() == wanted


@pytest.mark.parametrize("name", ["metrics.jsonl", "timing.jsonl"])
def test_a_run_that_cannot_shorten_its_files_says_so(name, tmp_path):
    training.run(TASK, build("lstm"), SETTINGS, SEEDS, tmp_path, max_seconds=0)
    (tmp_path / f"{name}.{os.getpid()}.tmp").mkdir()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    wanted = f"cannot write {tmp_path / name}: Is a directory; the checkpoints are as they were"
    with pytest.raises(training.SaveError, match=f"^{re.escape(wanted)}$"):
        training.run(TASK, build("lstm"), SETTINGS, SEEDS, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
