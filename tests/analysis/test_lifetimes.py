"""What trained agents do in the maze, from made-up files."""

import json

import numpy as np
import pytest
from PIL import Image

from experiments import plot
from mnm_jax.analysis import lifetimes
from mnm_jax.analysis.runs import LoadError, load_runs

NUM_STEPS = 12


def found_at(*steps):
    """The rewards of an episode that finds the reward after so many steps."""
    rewards = np.zeros(NUM_STEPS)
    rewards[np.array(steps, int) - 1] = 10
    return rewards


@pytest.fixture
def workdir(tmp_path):
    """A finished agent with a written memory, one without, and one that is still in training."""

    def write(model, eval_rewards, rewards=None, **arrays):
        directory = tmp_path / model
        directory.mkdir()
        task = {"size": 5, "episode_length": NUM_STEPS, "reward": 10.0, "wall_penalty": 0.0}
        config = {"task": task, "training": {"num_updates": 20, "batch_size": 3}}
        seeds = list(range(len(eval_rewards)))
        description = {"experiment": "maze", "model": model, "seeds": seeds, "config": config}
        (directory / "config.json").write_text(json.dumps(description))
        lines = [
            {"update": 10 * i, "seed": seed, "eval_episode_reward": value}
            for seed, values in enumerate(eval_rewards)
            for i, value in enumerate(values)
        ]
        (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (directory / "timing.jsonl").write_text('{"update": 20, "seconds": 7.2}\n')
        if rewards is not None:
            positions = np.tile(np.array([[1, 1], [1, 2]]), (NUM_STEPS, 1))[: NUM_STEPS + 1]
            np.savez(
                directory / "lifetimes.npz",
                update=20,
                rewards=np.array(rewards),
                positions=positions,
                reward_position=np.array([3, 3]),
                **arrays,
            )
        return directory

    rewards = [[found_at(6, 8, 11), found_at(4, 8)], [found_at(2, 4), found_at(4, 8)]]
    write("mnm_p", [[5, 12, 30], [5, 6, 11]], rewards, rewards_without_writing=np.zeros((2, 2, NUM_STEPS)))
    write("rnn", [[5, 6, 5], [5, 5, 7]], [[found_at(6), found_at(3)], [found_at(9), found_at()]])
    write("lstm", [[5, 6], [5, 5]])
    return tmp_path


def test_steps_to_visits_are_means_over_the_episodes_that_have_them():
    rewards = np.stack([found_at(6, 8, 11), found_at(4, 8), found_at(2)])
    # One of three has a third visit.
    np.testing.assert_allclose(lifetimes.steps_to_visits(rewards), [(6 + 4 + 2) / 3, (2 + 4) / 2])
    assert len(lifetimes.steps_to_visits(np.zeros((2, NUM_STEPS)))) == 0


def test_an_agent_is_summarized(workdir):
    agents = [agent for run in load_runs(workdir) if (agent := lifetimes.load(run)) is not None]
    first, second = lifetimes.summarize(agents)
    assert (first.model, first.num_seeds, first.steps) == ("mnm_p", 2, 20 * 3 * NUM_STEPS)
    assert first.reward == pytest.approx(22.5)
    assert (first.reward_low, first.reward_high) == (20, 25)
    assert first.first_visit == pytest.approx((6 + 4 + 2 + 4) / 4)
    assert first.later_visit == pytest.approx((2 + 3 + 4 + 2 + 4) / 5)
    assert first.reward_without_writing == 0
    # Half of 22.5: the first seed has it at update 10, the second never.
    assert first.half_steps == np.inf
    assert first.steps_per_second == pytest.approx(2 * 720 / 7.2)
    assert second.model == "rnn"
    assert np.isnan(second.reward_without_writing)
    assert second.reward == pytest.approx(7.5)


def test_figures_tables_and_films_are_made_from_the_files(workdir, capsys):
    plot.report(workdir)
    printed = capsys.readouterr().out
    assert "without lstm, for there is no lifetimes.npz" in printed
    assert "| MNM-p " in printed
    for name in ("learning_curves.png", "visits.png", "rewards.csv", "rewards.md"):
        assert (workdir / name).stat().st_size > 100
    with Image.open(workdir / "episode_mnm_p.gif") as film:
        assert film.n_frames > 1


def test_a_damaged_file_is_named(workdir):
    path = workdir / "rnn" / "lifetimes.npz"
    path.write_bytes(b"not an archive")
    run = next(run for run in load_runs(workdir) if run.model == "rnn")
    with pytest.raises(LoadError, match=str(path)):
        lifetimes.load(run)
