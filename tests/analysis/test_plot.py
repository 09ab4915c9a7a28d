import json
import pathlib
import re

import pytest
from matplotlib.figure import Figure

from experiments import command_line, plot
from mnm_jax.analysis.runs import LoadError


def test_makes_every_figure(write_run, tmp_path, capsys):
    write_run("mnm_p", [[0.1, 0.9], [0.1, 0.8]], errors=True, episode=True, word_length=2)
    write_run("lstm", [[0.1, 0.2]], num_pairs=(), word_length=2)
    paths = plot.make_figures(tmp_path)
    names = ["learning_curves.png", "takeoff.md", "takeoff.csv", "generalization.png", "similarity_mnm_p.png"]
    assert paths == [tmp_path / name for name in names]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths if path.suffix == ".png")
    assert "| MNM-p |" in (tmp_path / "takeoff.md").read_text()
    assert (tmp_path / "takeoff.csv").read_text().startswith("model,num_seeds,median,")
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}/generalization.png: without lstm, for there is no (whole) generalization.jsonl",
        f"{tmp_path}/similarity_*.png: without lstm, for there is no episode.npz",
    ]


def test_a_run_that_reads_in_a_chain_is_drawn_as_one(write_run, monkeypatch):
    directory = write_run("mnm_p", [[0.1, 0.9]], num_pairs=(), episode=True)
    drawn = []
    monkeypatch.setattr(
        plot.similarity, "figure", lambda *_, **options: drawn.append(options["is_chained"]) or Figure()
    )
    for relation_size in (None, 0, 2):
        description = json.loads((directory / "config.json").read_text())
        if relation_size is not None:  # Runs of before have no such setting.
            description["config"]["model"] = {"relation_size": relation_size}
        (directory / "config.json").write_text(json.dumps(description))
        plot.make_figures(directory.parent)
    assert drawn == [False, False, True]


def test_same_files_same_bytes_in_every_format(write_run, tmp_path):
    write_run("mnm_p", [[0.1, 0.9], [0.1, 0.8]], errors=True, num_pairs=())
    first = {path: path.read_bytes() for path in plot.make_figures(tmp_path, formats=("png", "pdf", "svg"))}
    names = ("learning_curves.png", "learning_curves.pdf", "learning_curves.svg", "takeoff.md", "takeoff.csv")
    assert list(first) == [tmp_path / name for name in names]
    for suffix, begin in {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}.items():
        assert first[tmp_path / f"learning_curves.{suffix}"].startswith(begin)
    again = plot.make_figures(tmp_path, formats=("png", "pdf", "svg"))
    assert list(first.values()) == [path.read_bytes() for path in again]
    with pytest.raises(ValueError, match="wants some of png, pdf, svg, got 'jpg'"):
        plot.make_figures(tmp_path, formats=("jpg",))


def test_what_the_task_says_reaches_the_figures(write_run, tmp_path, monkeypatch):
    calls = {}

    def record(name):
        original = getattr(plot.curves, name)

        def call(*args):
            calls[name] = args
            return original(*args)

        monkeypatch.setattr(plot.curves, name, call)

    record("learning_curves")
    record("generalization_curves")
    write_run("lstm", [[0.1, 0.9]], num_pairs=(1, 2), num_queries=3)
    plot.make_figures(tmp_path)
    _, title, levels, metrics = calls["learning_curves"]
    task = "4 pairs of single-character words, alphabets of 10 and 10, 3 queries"
    assert title == f"Learning curves\n{task}"
    assert levels["chance"]["word_accuracy"] == pytest.approx(0.1)
    assert metrics == ("word_accuracy",)
    _, title, levels, trained_num_pairs, _ = calls["generalization_curves"]
    assert title == f"Accuracy at other numbers of pairs than in training\ntrained on {task}"
    # Who remembers the words of one pair is right; of two, half of the time but for the chance of equal words.
    words = {num_pairs: level["word_accuracy"] for num_pairs, level in levels["words but not pairing"].items()}
    assert words == pytest.approx({1: 1.0, 2: 0.55})
    assert trained_num_pairs == 4


def test_runs_of_different_tasks_are_an_error(write_run, tmp_path):
    write_run("mnm_p", [[0.1]])
    write_run("lstm", [[0.1]], num_pairs=(), word_length=2)
    with pytest.raises(LoadError, match="mnm_p and lstm have different tasks"):
        plot.make_figures(tmp_path)


def test_program_prints_paths_and_table(write_run, tmp_path, capsys):
    write_run("lstm", [[0.1, 0.9]], num_pairs=())
    plot.main(["plot", str(tmp_path)])
    output = capsys.readouterr().out
    assert f"\n{tmp_path}/learning_curves.png\n" in output
    assert output.endswith((tmp_path / "takeoff.md").read_text())


def test_program_writes_where_it_is_told(write_run, tmp_path, capsys, monkeypatch):
    write_run("lstm", [[0.1, 0.9]], num_pairs=())
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    plot.main(["plot", f"~/{tmp_path.name}"], f"~/{tmp_path.name}-figures")
    figures = tmp_path.with_name(f"{tmp_path.name}-figures")
    assert f"{figures}/learning_curves.png\n" in capsys.readouterr().out
    assert (figures / "learning_curves.png").exists()
    assert sorted(tmp_path.rglob("*")) == before


def test_program_adds_nothing_to_what_comes_with_the_repository(tmp_path):
    committed = pathlib.Path(plot.__file__).parent / "results" / "tiny"
    before = sorted(committed.rglob("*"))
    with pytest.raises(command_line.UsageError, match=r"tiny comes with the package; --output=DIR says where"):
        plot.main(["plot", str(committed)])
    plot.main(["plot", str(committed)], str(tmp_path))
    assert sorted(committed.rglob("*")) == before
    assert (tmp_path / "learning_curves.png").exists()


def test_program_says_where_it_cannot_write(write_run, tmp_path):
    write_run("lstm", [[0.1, 0.9]], num_pairs=())
    (tmp_path / "file").touch()
    with pytest.raises(command_line.UsageError, match=r"^--output=.*file/below cannot be written to: "):
        plot.main(["plot", str(tmp_path)], str(tmp_path / "file" / "below"))
    (tmp_path / "takeoff.md").mkdir()
    with pytest.raises(command_line.UsageError, match=f"^{re.escape(str(tmp_path))} cannot be written to: "):
        plot.main(["plot", str(tmp_path)])
    with pytest.raises(command_line.UsageError, match=r"no directory .*x: wanted one that holds"):
        plot.main(["plot", str(tmp_path / ("x" * 300))])
    with pytest.raises(command_line.UsageError, match="--output=DIR takes one WORKDIR"):
        plot.main(["plot", "a", "b"], "c")


def test_a_file_that_cannot_be_read_is_not_blamed_on_the_output(write_run, tmp_path):
    metrics = write_run("lstm", [[0.1, 0.9]]) / "metrics.jsonl"
    metrics.unlink()
    metrics.mkdir()
    for output in (None, str(tmp_path / "figures")):
        with pytest.raises(command_line.UsageError, match=f"^{re.escape(str(metrics))} cannot be read: Is a directory"):
            plot.main(["plot", str(tmp_path)], output)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "usage: python -m experiments.plot WORKDIR [WORKDIR...] [--output=DIR] [--formats=png,pdf,svg]"),
        (["nowhere"], "no directory nowhere: wanted one that holds MODEL/config.json and MODEL/metrics.jsonl"),
    ],
)
def test_program_without_runs_says_what_is_wrong(arguments, message):
    with pytest.raises(command_line.UsageError) as caught:
        plot.main(["plot", *arguments])
    assert str(caught.value) == message
