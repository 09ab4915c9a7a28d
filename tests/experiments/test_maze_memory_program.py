"""The figures of what agents remember in the maze: where they are written, and in which formats."""

import dataclasses
import json
from unittest import mock

import pytest

from experiments import command_line, maze_memory
from mnm_jax.tasks import MazeTask

SEED = {
    "knowledge": {"by_step": [0.1, 0.9], "by_visits": [0.2, 0.9], "chance": 0.125},
    "following": {
        "found_before": [0.0, 0.5, 1],
        "found_after": [0.0, 0.2, 0.3],
        "before": [5.0, 2],
        "after": [],
        "arrivals_at_old": [2.0],
        "visits": None,
    },
}
NUMBERS = {"task": {"size": 5, "episode_length": 6}, "episodes": 8, "agents": {"rnn": {"update": 3, "seeds": [SEED]}}}


def test_figures_are_drawn_again_in_every_format(tmp_path, capsys):
    (tmp_path / "maze_memory.json").write_text(json.dumps(NUMBERS))
    maze_memory.main(["maze_memory"], str(tmp_path), ("png", "svg"))
    paths = [tmp_path / f"{name}.{suffix}" for name in ("knowledge", "following") for suffix in ("png", "svg")]
    assert capsys.readouterr().out.splitlines() == list(map(str, paths))
    for path in paths:
        assert path.read_bytes().startswith({".png": b"\x89PNG", ".svg": b"<?xml"}[path.suffix])


def test_agents_that_were_measured_before_stay(tmp_path, monkeypatch):
    path = tmp_path / "maze_memory.json"
    path.write_text(json.dumps(NUMBERS))
    lstm = {"update": 4, "seeds": [SEED, SEED]}
    monkeypatch.setattr(maze_memory, "measure_all", lambda *_: NUMBERS | {"agents": {"lstm": lstm}})
    monkeypatch.setattr(maze_memory, "_EPISODES", mock.Mock(value=8))
    for _ in range(2):
        maze_memory.main(["maze_memory", "runs"], str(tmp_path))
        assert json.loads(path.read_text())["agents"] == NUMBERS["agents"] | {"lstm": lstm}


OLDER = {"rnn": {"update": 3, "seeds": [SEED | {"following": {"before": [5.0]}}]}}


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ("{", r"maze_memory\.json cannot be read: Expecting property name"),
        ("[]", r"maze_memory\.json cannot be read: "),
        (json.dumps({"task": {}, "episodes": 8}), r"maze_memory\.json cannot be read: 'agents' is missing"),
        (
            json.dumps(NUMBERS | {"agents": OLDER}),
            "cannot be read: 'following' of an agent lacks after, arrivals_at_old,",
        ),
        (
            json.dumps(NUMBERS | {"episodes": 9}),
            r"^--episodes=8: .*/maze_memory\.json has agents with 9 episodes; want",
        ),
    ],
)
def test_numbers_that_do_not_belong_together_are_refused_before_anything_is_measured(
    tmp_path, monkeypatch, contents, message
):
    (tmp_path / "maze_memory.json").write_text(contents)
    monkeypatch.setattr(maze_memory, "measure_all", None)
    monkeypatch.setattr(maze_memory, "_EPISODES", mock.Mock(value=8))
    with pytest.raises(command_line.UsageError, match=message):
        maze_memory.main(["maze_memory", "runs"], str(tmp_path))
    assert (tmp_path / "maze_memory.json").read_text() == contents


def test_an_agent_of_another_maze_is_refused_before_it_is_measured(monkeypatch):
    run = mock.Mock(experiment="maze", model="rnn", seeds=(0,), directory="runs/rnn")
    monkeypatch.setattr(maze_memory, "load_runs", lambda _: [run])
    monkeypatch.setattr(maze_memory.training, "load", lambda *_, **__: mock.Mock(task=MazeTask(size=7)))
    monkeypatch.setattr(maze_memory, "measure", None)
    with pytest.raises(
        command_line.UsageError, match=r"^runs/rnn has another maze than the agents in maze_memory\.json: "
    ):
        maze_memory.measure_all(["runs"], 8, dataclasses.asdict(MazeTask(size=5)))


def test_where_it_cannot_write_it_does_not_measure(tmp_path, monkeypatch):
    monkeypatch.setattr(maze_memory, "measure_all", None)
    (tmp_path / "file").touch()
    with pytest.raises(command_line.UsageError, match=r"^--output=.*/file cannot be written to: "):
        maze_memory.main(["maze_memory", "runs"], str(tmp_path / "file"))


def test_without_numbers_it_says_how_they_are_made(tmp_path):
    with pytest.raises(command_line.UsageError, match=r"maze_memory\.json cannot be read: .*; usage: python -m exper"):
        maze_memory.main(["maze_memory"], str(tmp_path))
