"""The command line of the dictionary experiment: its errors, and a whole tiny run of it."""

import dataclasses
import fcntl
import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

from experiments import workdirs
from mnm_jax import models, training
from mnm_jax.tasks import Dictionary, MazeTask

ROOT = pathlib.Path(__file__).parents[2]
TINY = [
    "--config.task.num_pairs=2",
    "--config.task.source_alphabet_size=3",
    "--config.task.target_alphabet_size=3",
    "--config.model.controller_size=4",
    "--config.model.memory_size=3",
    "--config.model.num_layers=2",
    "--config.training.batch_size=2",
    "--config.training.evaluation_episodes=4",
    "--config.training.evaluate_every=1",
]


def run_all(command_lines, directory, module="experiments.dictionary", **environment):
    """Runs command lines one after the other; (exit code, standard output, standard error) of each."""
    completed = subprocess.run(
        [sys.executable, str(pathlib.Path(__file__).with_name("command_lines.py")), module],
        input="".join(json.dumps(arguments) + "\n" for arguments in command_lines),
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(directory)]),
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            "JAX_COMPILATION_CACHE_DIR": f"{directory}_compiled",
        }
        | environment,
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=400,
        check=True,
    )
    return [tuple(json.loads(line)) for line in completed.stdout.splitlines()]


USED = ["--workdir=used", "--resume", "--models=lstm", "--num_seeds=1", "--config.task.num_pairs=4"]
WRONG = {
    "no workdir": ([], "--workdir=DIR is missing"),
    "misspelt key": (
        ["--workdir=new", "--config.task.num_pair=3"],
        "--config.task.num_pair: no such key; config.task has num_pairs, num_queries, .*word_length",
    ),
    "misspelt section": (["--workdir=new", "--config.tsk.a=3"], "--config.tsk.a: no such key; config has model, task"),
    "misspelt model": (
        ["--workdir=new", "--models=lstm,lstn"],
        "unknown model 'lstn'; choose from mnm_p, .*attention, .*rnn, .*, or module:function for a writer",
    ),
    "misspelt configuration": (
        ["--workdir=new", "--config=dem"],
        "unknown configuration 'dem'; choose from demo, .*takeoff, .*pairs16_length4",
    ),
    "configuration after a space": (
        ["--workdir=new", "--config", "none.py"],
        "--config=none.py: there is no such file",
    ),
    "impossible weight": (["--workdir=new", "--config.model.meta_weight=-1"], "meta_weight must be finite and not neg"),
    "workdir below a file": (["--workdir=file/below"], "--workdir=file/below is not a directory"),
    "no such file": (["--workdir=new", "--config=none.py:demo"], "--config=none.py:demo: there is no such file"),
    "too many words": (
        ["--workdir=new", "--config.task.num_pairs=11"],
        "num_pairs=11 distinct source words cannot be made: source_alphabet_size=10 and word_length=1 allow at most 10",
    ),
    "not a number": (["--workdir=new", "--config.task.num_pairs=many"], "--config.task.num_pairs=many: invalid"),
    "misspelt flag": (
        ["--workdir=new", "--num_seed=3"],
        "Unknown command line flag 'num_seed'. Did you mean: num_seeds",
    ),
    "no seeds": (["--workdir=new", "--num_seeds=0"], "--num_seeds=0: 0 is not a positive integer"),
    "no models": (["--workdir=new", "--models="], "--models is empty; choose from mnm_p"),
    "stray argument": (["--workdir=new", "demo"], "unexpected argument 'demo'"),
    "not a writer": (["--workdir=new", "--models=os:getcwd"], "model 'os:getcwd': makes a str, not a Writer"),
    "no such module": (
        ["--workdir=new", "--models=none:rule"],
        "'none:rule': cannot make a writer: No module .* PYTHONPATH",
    ),
    "wrong option": (
        ["--workdir=new", "--config.model.rate_per=day"],
        "rate_per must be one of 'step', 'head', 'layer'",
    ),
    "workdir in use": (["--workdir=used"], "--workdir=used exists; pass --resume to go on in it, or name another"),
    "workdir is a file": (["--workdir=file"], "--workdir=file is not a directory"),
    "workdir that cannot be written": (["--workdir=/proc/self/new"], "--workdir=/proc/self/new cannot be written to"),
    "writer that is not there any more": (
        ["--workdir=lonely", "--resume"],
        "lonely/lstm/config.json: model 'gone:Rule': cannot make a writer: No module named 'gone'; .* on PYTHONPATH",
    ),
    "another configuration": (
        ["--workdir=used", "--resume", "--models=lstm", "--num_seeds=2", "--config.task.num_pairs=8"],
        "used/lstm was made otherwise: config.task.num_pairs was 4 and is 8; seeds was \\[0\\] and is \\[0, 1\\]",
    ),
    "another first seed": (
        ["--workdir=used", "--resume", "--first_seed=1"],
        "used/lstm was made otherwise: seeds was \\[0\\] and is \\[1\\]",
    ),
    "another task beside": (
        ["--workdir=used", "--resume", "--models=salu", "--config.task.num_pairs=8"],
        "used/lstm was made otherwise: config.task.num_pairs was 4 and is 8",
    ),
    "a whole configuration": (
        ["--workdir=used", "--resume", "--config", "demo"],
        "used/lstm was made otherwise: config.task.num_pairs was 4 and is 8; seeds was \\[0\\] and is \\[0, 1, 2\\]",
    ),
    "fewer updates": (
        [*USED, "--config.training.num_updates=999"],
        "used/lstm was made otherwise: config.training.num_updates was 1000 and is 999",
    ),
    "longer and otherwise": (
        [*USED, "--config.training.num_updates=2000", "--config.training.batch_size=3"],
        "used/lstm was made otherwise: config.training.batch_size was 32 and is 3",
    ),
    "longer cosine": (
        ["--workdir=cosine", *USED[1:], "--config.training.schedule=cosine", "--config.training.num_updates=2000"],
        "cosine/lstm was made otherwise: config.training.num_updates was 1000 and is 2000",
    ),
    "of another program": (
        ["--workdir=foreign", "--resume"],
        "--workdir=foreign was made for maze, not for dictionary",
    ),
    "configuration cut off": (
        ["--workdir=broken", "--resume"],
        "broken/lstm/config.json is not the configuration of a run: JSONDecodeError",
    ),
    "no such sharing": (
        ["--workdir=new", "--parallel=all"],
        "--parallel=all: value should be one of <none.in_turn.data.seeds>",
    ),
    "no such way to go on": (
        ["--workdir=new", "--on_nonfinite=hope"],
        "--on_nonfinite=hope: value should be one of <stop.skip>",
    ),
    "no time between saves": (["--workdir=new", "--save_minutes=0"], "save_minutes must be a number above 0, got 0.0"),
    "no updates between saves": (["--workdir=new", "--save_updates=0"], "--save_updates=0: 0 is not a positive int"),
    "no checkpoints": (["--workdir=new", "--keep_checkpoints=0"], "--keep_checkpoints=0: 0 is not a positive integer"),
    "no time": (["--workdir=new", "--max_minutes=-1"], "--max_minutes=-1: -1.0 is not a non-negative number"),
    "seeds that cannot be shared": (
        ["--workdir=new", "--num_seeds=3", "--parallel=seeds"],
        "num_seeds=3 cannot be shared out evenly over 8 devices; the nearest that can: 8",
    ),
    "episodes that cannot be shared": (
        ["--workdir=new", "--config.training.batch_size=12", "--parallel=data"],
        "batch_size=12 cannot be shared out evenly over 8 devices; the nearest that can: 8 or 16",
    ),
    "a lonely process": (
        ["--workdir=new", "--process_id=0"],
        "--coordinator_address, --num_processes is missing: several processes need all of --coordinator_address, "
        "--num_processes, --process_id",
    ),
    "a process too many": (
        ["--workdir=new", "--coordinator_address=localhost:1", "--num_processes=2", "--process_id=2"],
        "--process_id=2 must be below --num_processes=2",
    ),
    "no tensorboardX": (
        ["--workdir=new", "--tensorboard"],
        r"--tensorboard needs tensorboardX: pip install 'mnm_jax\[tensorboard\]'",
    ),
}

# What another process trains in.
TAKEN = ["--workdir=taken", "--models=lstm", "--resume", *TINY]


@pytest.fixture(scope="module")
def mistakes(tmp_path_factory):
    directory = tmp_path_factory.mktemp("mistakes")
    (directory / "file").write_text("precious")
    (directory / "tensorboardX.py").write_text("raise ImportError")
    (directory / "taken").mkdir()
    used = training.Configuration(
        "dictionary",
        "lstm",
        (0,),
        Dictionary(num_pairs=4),
        models.ModelSettings(32, 32),
        training.TrainingSettings(num_updates=1000),
    )
    cosine = dataclasses.replace(used, training=training.TrainingSettings(num_updates=1000, schedule="cosine"))
    foreign = dataclasses.replace(used, experiment="maze", task=MazeTask())
    lonely = dataclasses.replace(used, model="gone:Rule")
    contents = {
        "used": used.to_json(),
        "lonely": lonely.to_json(),
        "cosine": cosine.to_json(),
        "foreign": foreign.to_json(),
        "broken": '{"exper',
    }
    for name, text in contents.items():
        (directory / name / "lstm").mkdir(parents=True)
        (directory / name / "lstm" / "config.json").write_text(text)
    with (directory / "taken" / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
        results = run_all(
            [*(arguments for arguments, _ in WRONG.values()), TAKEN],
            directory,
            JAX_PLATFORMS="cpu",
            XLA_FLAGS=f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8",
            PYTHONDONTWRITEBYTECODE="1",
        )
    after = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    assert not (directory / "new").exists()
    assert before == after
    return dict(zip((*WRONG, "taken"), results, strict=True)), directory


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_one_line_that_says_what_is_allowed_and_touches_nothing(name, mistakes):
    code, out, err = mistakes[0][name]
    assert code == 2
    assert out == ""
    assert re.fullmatch(f"error: .*{WRONG[name][1]}.*\n", err), err


def test_a_tiny_run_writes_everything_and_is_extended(tmp_path):
    readme = (ROOT / "README.md").read_text()
    writer = next(block for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "class Hebbian" in block)
    (tmp_path / "hebbian.py").write_text(writer)
    common = ["--workdir=run", "--num_seeds=2", "--models=hebbian:Hebbian", *TINY]
    first, longer = run_all(
        [
            [*common, "--config.training.num_updates=1"],
            ["--workdir=run", "--config.training.num_updates=2", "--resume"],  # The rest is what the directory holds.
        ],
        tmp_path,
        JAX_COMPILATION_CACHE_DIR=str(tmp_path / "compiled"),
        JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
    )
    workdir = tmp_path / "run"
    for code, out, err in (first, longer):
        assert code == 0, err
        assert not re.search(r"^I\d{4} ", err, re.MULTILINE), err  # What other libraries log.
        assert "| hebbian:Hebbian" in out
        assert "learning_curves.png" in out
    assert "hebbian:Hebbian: going on after update 1\n" in longer[2]
    change = "run/hebbian.Hebbian: config.training.num_updates was 1 and is 2\n"
    assert longer[1].startswith(change)
    assert change not in first[1]
    run = workdir / "hebbian.Hebbian"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [(line["update"], line["seed"]) for line in lines] == [(u, s) for u in (0, 1, 2) for s in (0, 1)]
    evaluated = [json.loads(line) for line in (run / "generalization.jsonl").read_text().splitlines()]
    assert [(line["num_pairs"], line["seed"]) for line in evaluated] == [(p, s) for p in (2, 3) for s in (0, 1)]
    with np.load(run / "episode.npz") as episode:
        assert len(episode["labels"]) == len(episode["write_keys"]) == len(episode["error_after"]) > 0
    figures = {"learning_curves.png", "generalization.png", "takeoff.md", "takeoff.csv"}
    assert figures <= {path.name for path in workdir.iterdir()}
    assert list(workdir.glob("similarity_*Hebbian*.png"))


def test_a_workdir_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    below = tmp_path / "file" / "below"
    with pytest.raises(workdirs.LockError, match=f"^--workdir={below} cannot be made: Not a directory$"):
        workdirs.lock(below).__enter__()


def test_two_programs_do_not_train_in_one_directory(mistakes):
    results, directory = mistakes
    code, _, err = results["taken"]
    assert code == 1
    assert err == "error: --workdir=taken: another process is training in it\n"
    assert [path.name for path in (directory / "taken").iterdir()] == [".lock"]
