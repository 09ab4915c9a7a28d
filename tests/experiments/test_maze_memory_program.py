"""The figures of what agents remember in the maze: where they are written, and in which formats."""

import json
from unittest import mock

import pytest

from experiments import command_line, maze_memory

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


@pytest.mark.parametrize(("episodes", "known"), [(8, {"rnn", "lstm"}), (9, {"lstm"})])
def test_agents_that_were_measured_before_in_the_same_episodes_stay(tmp_path, monkeypatch, episodes, known):
    path = tmp_path / "maze_memory.json"
    path.write_text(json.dumps(NUMBERS))
    new = NUMBERS | {"episodes": episodes, "agents": {"lstm": {"update": 4, "seeds": [SEED]}}}
    monkeypatch.setattr(maze_memory, "measure_all", lambda *_: new)
    monkeypatch.setattr(maze_memory, "_EPISODES", mock.Mock(value=episodes))
    for _ in range(2):
        maze_memory.main(["maze_memory", "runs"], str(tmp_path))
        assert json.loads(path.read_text())["agents"].keys() == known
    path.write_text("{")  # Nothing to keep.
    maze_memory.main(["maze_memory", "runs"], str(tmp_path))
    assert json.loads(path.read_text()) == new


def test_where_it_cannot_write_it_does_not_measure(tmp_path, monkeypatch):
    monkeypatch.setattr(maze_memory, "measure_all", None)
    (tmp_path / "file").touch()
    with pytest.raises(command_line.UsageError, match=r"^--output=.*/file cannot be written to: "):
        maze_memory.main(["maze_memory", "runs"], str(tmp_path / "file"))


def test_without_numbers_it_says_how_they_are_made(tmp_path):
    with pytest.raises(command_line.UsageError, match=r"maze_memory\.json cannot be read: .*; usage: python -m exper"):
        maze_memory.main(["maze_memory"], str(tmp_path))
