"""What trained agents do with bandits, and what their memories do in training, from made-up files."""

import json
import shutil

import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments import plot
from mnm_jax.analysis import regrets
from mnm_jax.analysis.runs import LoadError, load_runs

NUM_PLAYS = 4
LOGGED = ("eval_rate", "eval_write_norm", "eval_memory_norm", "eval_memory_norm_end", "eval_error_after")
OF_ALL = ("train_gradient_norm", "train_gradient_norm_policy", "train_gradient_norm_value", "eval_entropy")


@pytest.fixture
def workdir(tmp_path):
    """Two agents, one with a written memory, and one that is still in training."""
    task = {"num_arms": 2, "episode_length": NUM_PLAYS, "discount": 0.8}
    task |= {"value_weight": 0.05, "concentration_weight": 0.03}
    config = {"task": task, "training": {"num_updates": 20, "batch_size": 3}}
    for model, logged in (("mnm_p", LOGGED + OF_ALL), ("rnn", OF_ALL), ("lstm", OF_ALL)):
        (tmp_path / model).mkdir()
        description = {"experiment": "bandits", "model": model, "seeds": [0, 1], "config": config}
        (tmp_path / model / "config.json").write_text(json.dumps(description))
        lines = [
            {"update": 10 * i, "seed": seed, "eval_episode_reward": 2 + i, "eval_value_error": 1.0}
            | dict.fromkeys(logged, 0.5 + i)
            for seed in (0, 1)
            for i in range(3)
        ]
        (tmp_path / model / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        if model != "lstm":
            rewards = np.ones((2, 5, NUM_PLAYS)) * np.array([1, 0.5])[:, None, None]
            played = np.tile([0.5, 0.3, 0.1, 0.0], (2, 5, 1))
            np.savez(tmp_path / model / "regrets.npz", update=20, rewards=rewards, regrets=played)
    return tmp_path


def test_an_agent_is_summarized(workdir):
    agents = [plays for run in load_runs(workdir) if (plays := regrets.load(run)) is not None]
    first, second = regrets.summarize(agents)
    assert (first.model, second.model) == ("mnm_p", "rnn")
    assert (first.num_seeds, first.steps) == (2, 20 * 3 * NUM_PLAYS)
    assert (first.reward, first.reward_low, first.reward_high) == (3, 2, 4)
    assert first.regret == pytest.approx(0.9)
    assert first.late_regret == pytest.approx(0.05)


def test_figures_and_tables_are_made_from_the_files(workdir, capsys):
    names = {path.name for path in plot.make_figures(workdir)}
    assert names == {"learning_curves.png", "steadiness.png", "regrets.md", "regrets.csv"}
    assert "regrets.*: without lstm, for there is no regrets.npz" in capsys.readouterr().out
    assert "| MNM-p |     2 |" in (workdir / "regrets.md").read_text()


def test_of_several_directories_of_one_model_none_is_lost(workdir, monkeypatch):
    shutil.copytree(workdir / "mnm_p", workdir / "again")
    named = {}
    monkeypatch.setattr(plot.steadiness, "figure", lambda runs, title: named.update(runs) or Figure())
    monkeypatch.setattr(plot.curves, "reward_curves", lambda *args: Figure())
    plot.make_figures(workdir)
    assert {name: run.directory.name for name, run in named.items()} == {"again": "again", "mnm_p": "mnm_p"}
    assert (workdir / "regrets.md").read_text().count("| MNM-p |") == 2
    shutil.rmtree(workdir / "again")
    named.clear()
    plot.make_figures(workdir)
    assert list(named) == ["MNM-p"]


def test_a_damaged_file_is_named(workdir):
    (workdir / "rnn" / "regrets.npz").write_bytes(b"no archive")
    with pytest.raises(LoadError, match=r"rnn/regrets\.npz is not what the experiment writes"):
        plot.make_figures(workdir)
