"""Several processes that train together, on one machine."""

import json
import signal
import socket

import numpy as np
import programs
import pytest

from mnm_jax import training

DICTIONARY = [
    *("-m", "experiments.dictionary", "--models=lstm", "--num_seeds=1"),
    *("--config.task.num_pairs=1", "--config.task.source_alphabet_size=1", "--config.task.target_alphabet_size=2"),
    *("--config.model.controller_size=3", "--config.model.memory_size=3", "--config.training.num_updates=3"),
    *("--config.training.batch_size=4", "--config.training.evaluate_every=2"),
    "--config.training.evaluation_episodes=4",
]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    return tmp_path_factory.mktemp("compiled")


def start_two(arguments, compiled, workdirs, num_devices):
    """Two processes, each with its own working directory, so that one can see who writes."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    together = f"--coordinator_address=localhost:{port}", "--num_processes=2"
    return [
        programs.start([*arguments, f"--workdir={workdir}", *together, f"--process_id={i}"], compiled, num_devices)
        for i, workdir in enumerate(workdirs)
    ]


def finish(processes):
    results = []
    try:
        for process in processes:
            results.append(programs.finish(process, timeout=240))
    finally:
        for process in processes:
            process.kill()
    return results


def metrics(workdir):
    return [json.loads(line) for line in (workdir / "lstm" / "metrics.jsonl").read_text().splitlines()]


def test_two_processes_that_share_the_episodes_train_as_one(compiled, tmp_path):
    workdirs = tmp_path / "first", tmp_path / "second"
    (_, out, _), (_, silence, _) = results = finish(
        start_two([*DICTIONARY, "--parallel=data"], compiled, workdirs, num_devices=1)
    )
    assert [code for code, _, _ in results] == [0, 0], results
    code, _, err = programs.finish(programs.start([*DICTIONARY, f"--workdir={tmp_path / 'one'}"], compiled))
    assert code == 0, err
    together, alone = metrics(workdirs[0]), metrics(tmp_path / "one")
    assert [line.keys() for line in together] == [line.keys() for line in alone]
    for line, wanted in zip(together, alone, strict=True):
        np.testing.assert_allclose(list(line.values()), list(wanted.values()), rtol=1e-5)
    assert "lstm: finished at update 3 of 3" in out
    assert "lstm" not in silence
    assert not workdirs[1].exists()
    written, wanted = (
        {path.relative_to(workdir) for path in workdir.rglob("*") if "checkpoints" not in path.parts}
        for workdir in (workdirs[0], tmp_path / "one")
    )
    assert written == wanted


def test_two_processes_that_share_the_seeds_train_as_one_and_stop_and_go_on_together(compiled, tmp_path):
    arguments = [*programs.RECALL, "--parallel=seeds", "--resume"]
    code, _, err = programs.finish(
        programs.start([*arguments, f"--workdir={tmp_path / 'one'}"], compiled, num_devices=2)
    )
    assert code == 0, err
    shared = tmp_path / "shared"
    stopped = finish(start_two([*arguments, "--max_minutes=0"], compiled, [shared] * 2, num_devices=1))
    assert [code for code, _, _ in stopped] == [0, 0], stopped
    assert "stopped by --max_minutes at update 1 of 6" in stopped[0][1]
    results = finish(start_two(arguments, compiled, [shared] * 2, num_devices=1))
    assert [code for code, _, _ in results] == [0, 0], results
    assert (shared / "lstm" / "metrics.jsonl").read_bytes() == (tmp_path / "one/lstm/metrics.jsonl").read_bytes()


def test_a_signal_to_one_process_ends_both(compiled, tmp_path):
    arguments = [*programs.RECALL, "--parallel=seeds", "--config.training.num_updates=100_000_000"]
    processes = start_two([*arguments, "--models=lstm,attention"], compiled, [tmp_path] * 2, num_devices=1)
    path = tmp_path / "lstm" / "metrics.jsonl"
    programs.wait_until(lambda: path.exists() and '{"update": 4,' in path.read_text(), processes[0])
    processes[1].send_signal(signal.SIGTERM)
    results = finish(processes)
    assert [code for code, _, _ in results] == [143, 143], results
    update = training.Checkpoints(tmp_path / "lstm" / "checkpoints").latest()
    assert f"lstm: stopped by another process at update {update} of 100000000" in results[0][1]
