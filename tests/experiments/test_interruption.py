"""Signals and time budgets: a program that is asked to stop saves, says where, and can be resumed."""

import math
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
import types

import programs
import pytest
from absl import app

from experiments import command_line, launcher
from experiments.interruption import Interruption, end_at_once
from mnm_jax import models, training
from mnm_jax.tasks import Dictionary

BLOCKED = """
import hashlib, time
from experiments.interruption import Interruption
with Interruption() as interruption:
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    return tmp_path_factory.mktemp("compiled")


def recall(workdir, compiled, *arguments):
    return programs.start([*programs.RECALL, f"--workdir={workdir}", "--resume", *arguments], compiled)


def last_update(directory):
    """The last update in `metrics.jsonl`; -1 if there is none yet."""
    path = directory / "metrics.jsonl"
    updates = re.findall(r'^\{"update": (\d+), .*\}$', path.read_text() if path.exists() else "", re.MULTILINE)
    return int(updates[-1]) if updates else -1


def test_a_signal_saves_and_says_where_and_what_was_saved_goes_on(compiled, tmp_path):
    lstm = tmp_path / "lstm"
    checkpoints = training.Checkpoints(lstm / "checkpoints")
    for number, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        before = checkpoints.latest() or 0  # Nothing is learned before the first update.
        process = recall(tmp_path, compiled, "--config.training.num_updates=100_000_000")
        programs.wait_until(lambda before=before: last_update(lstm) > before, process)
        process.send_signal(number)
        returncode, out, err = programs.finish(process)
        assert returncode == code, err
        update = checkpoints.latest()
        assert update > before
        assert re.search(
            rf"^lstm: stopped by {number.name} at update {update} of 100000000 after .* minutes, .* seconds of it for "
            rf"checkpoints; saved in {lstm}/checkpoints; go on with --resume$",
            out,
            re.MULTILINE,
        )
        again = "; once more to stop at once" * (number == signal.SIGINT)
        assert f"\n{number.name}: stopping after this chunk{again}\n" in err
        assert "Traceback" not in err
        assert "reported" not in out


def test_the_end_of_the_time_is_no_error_and_resuming_finishes(compiled, tmp_path):
    arguments = "--config.training.num_updates=3", "--config.training.evaluate_every=2"
    code, out, err = programs.finish(recall(tmp_path, compiled, *arguments, "--max_minutes=0"))
    assert code == 0, err
    assert "lstm: stopped by --max_minutes at update 1 of 3 after " in out
    assert f"; saved in {tmp_path}/lstm/checkpoints; go on with --resume\n" in out
    assert not (tmp_path / "lstm" / "product").exists()
    code, out, err = programs.finish(recall(tmp_path, compiled, *arguments))
    assert code == 0, err
    assert "lstm: finished at update 3 of 3 after " in out
    assert out.endswith("reported\n")
    assert last_update(tmp_path / "lstm") == 3
    assert (tmp_path / "lstm" / "product").read_text() == "3"


def test_nobody_waits_for_a_compilation(compiled, tmp_path):
    """While something is compiled, a signal and the end of the time take effect within seconds."""
    arguments = [*programs.RECALL, f"--workdir={tmp_path}", "--models=slow:Slow"]
    process = programs.start(arguments, compiled)
    assert process.stderr.readline() == "slow:Slow: compiling the first evaluation for 2 seeds\n"
    process.send_signal(signal.SIGINT)
    start = time.monotonic()
    code, out, err = programs.finish(process)
    assert time.monotonic() - start < 10
    assert code == 130, err
    stopped = "while it compiled; what it had learned is saved; go on with --resume\n"
    assert f"slow:Slow: stopped by SIGINT {stopped}" in out
    start = time.monotonic()
    code, out, err = programs.finish(programs.start([*arguments, "--resume", "--max_minutes=0"], compiled))
    assert time.monotonic() - start < 50
    assert code == 0, err
    assert f"slow:Slow: stopped by --max_minutes {stopped}reported\n" in out


@pytest.mark.parametrize(
    ("block", "read"),
    [("hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)", "printed"), ("sys.stdout.write('x' * 1_000_000)", None)],
    ids=["busy", "waits for a reader"],
)
def test_what_can_be_done_again_is_ended_at_once(block, read, compiled):
    program = f"""
import hashlib, sys
from experiments.interruption import Interruption
sys.stdout = open(1, "w", closefd=False)  # With a buffer, whatever the environment says.
with Interruption() as interruption, interruption.ending_at_once():
    print("ready", flush=True)
    print("printed", end="")
    {block}
"""
    process = programs.start(["-c", program], compiled)
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.05)  # For what follows.
    process.send_signal(signal.SIGTERM)
    try:
        assert process.wait(timeout=10) == 143
    finally:
        process.kill()
    assert process.stderr.read() == "\nSIGTERM: ended; all training is saved\n"
    assert read is None or process.stdout.read() == read


def test_an_end_at_once_is_one_though_nobody_reads(monkeypatch):
    def flush():
        raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", types.SimpleNamespace(flush=flush))
    flushed = []
    monkeypatch.setattr(sys, "stderr", types.SimpleNamespace(flush=lambda: flushed.append(True)))
    monkeypatch.setattr(os, "_exit", lambda code: flushed.append(code))
    end_at_once(143)
    assert flushed == [True, 143]


def test_a_signal_that_is_noted_while_a_block_that_ends_at_once_begins_is_not_lost(monkeypatch):
    """The listener has found that nothing ends at once yet, and is about to note the signal, when the block begins."""
    is_noting, has_begun = threading.Event(), threading.Event()
    ended = []

    def end(code):
        ended.append(code)
        raise SystemExit

    class Slow(Interruption):
        @property
        def signal(self):
            return vars(self).get("noted")

        @signal.setter
        def signal(self, received):
            if received is not None:
                is_noting.set()
                has_begun.wait(0.2)
            vars(self)["noted"] = received

    monkeypatch.setattr(os, "_exit", end)
    with Slow() as interruption:
        signal.raise_signal(signal.SIGTERM)
        assert is_noting.wait(10)
        with pytest.raises(SystemExit), interruption.ending_at_once():
            has_begun.set()
    assert ended == [143]


def test_a_signal_after_the_last_report_still_has_its_exit_code(monkeypatch, capfd, tmp_path):
    monkeypatch.setattr(launcher, "_train_unfinished", lambda *args: False)
    monkeypatch.setattr(launcher, "_report", lambda *args: signal.raise_signal(signal.SIGTERM))
    experiment = launcher.Experiment("dictionary", "", lambda task, settings: None, lambda *args: None, (), print)
    with pytest.raises(SystemExit) as end:
        launcher._train_and_report(experiment, tmp_path, [], training.RunOptions())
    assert end.value.code == 143
    assert capfd.readouterr().err == "\nSIGTERM: stopping after this chunk\n"


def test_ctrl_c_where_nothing_trains_leaves_no_traceback(monkeypatch, capsys):
    """Such as while the data is read, or measured by a program that does not train."""
    monkeypatch.setattr(sys, "argv", ["program"])
    monkeypatch.setattr(app, "run", lambda main, flags_parser: main(["program"]))
    with pytest.raises(SystemExit) as end:
        command_line.run(lambda argv: signal.raise_signal(signal.SIGINT), document="")
    assert end.value.code == 130
    assert capsys.readouterr() == ("", "\n")


@pytest.mark.parametrize("comes", ["before", "during"])
def test_ctrl_c_ends_what_follows_a_training_at_once(comes, monkeypatch, capfd, tmp_path):
    """Before: after the training had been asked for the last time whether it was to stop."""
    exits = queue.Queue()

    def end(code):
        exits.put(code)
        if threading.current_thread() is threading.main_thread():
            raise SystemExit

    def interrupt_and_wait():
        signal.raise_signal(signal.SIGINT)
        deadline = time.monotonic() + 10
        while interruption.signal is None and exits.empty() and time.monotonic() < deadline:
            time.sleep(0.01)

    def train(*args, **kwargs):
        if comes == "before":
            interrupt_and_wait()
        return training.Report(None, 1, {}, is_finished=True, is_interrupted=False, saving_seconds=0.0)

    def conclude(configuration, report, directory):
        assert comes == "during"
        interrupt_and_wait()
        raise SystemExit

    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(training, "run", train)
    experiment = launcher.Experiment("dictionary", "", lambda task, settings: None, conclude, (), print)
    settings = models.ModelSettings(2, 2), training.TrainingSettings(num_updates=1)
    configuration = training.Configuration("dictionary", "lstm", (0,), Dictionary(num_pairs=2), *settings)
    with Interruption() as interruption, pytest.raises(SystemExit):
        launcher._train(experiment, configuration, tmp_path, training.RunOptions(), math.inf, interruption)
    assert exits.get(timeout=10) == 130
    assert capfd.readouterr().err.count("\nSIGINT: ended; all training is saved\n") == 1


def test_a_second_interrupt_ends_the_program_at_once_even_within_a_long_call(compiled):
    process = programs.start(["-c", BLOCKED], compiled)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline() == "\n"
    assert process.stderr.readline() == "SIGINT: stopping after this chunk; once more to stop at once\n"
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.5)
    process.send_signal(signal.SIGINT)
    assert programs.finish(process, timeout=10)[0] == 130


def test_a_second_sigterm_changes_nothing_and_all_is_as_before_at_the_end(capfd):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with Interruption() as interruption:
        assert (interruption.signal, interruption.exit_code) == (None, 0)
        for number in (signal.SIGTERM, signal.SIGTERM):
            signal.raise_signal(number)
            end = time.monotonic() + 10
            while interruption.signal is None and time.monotonic() < end:
                time.sleep(0.01)
            assert (interruption.signal, interruption.exit_code) == (signal.SIGTERM, 143)
        time.sleep(0.1)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    assert capfd.readouterr().err == "\nSIGTERM: stopping after this chunk\n"
    assert signal.set_wakeup_fd(-1) == -1
