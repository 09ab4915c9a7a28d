"""The program that measures capacity: its subjects, its files and its errors."""

import csv
import json

import jax
import numpy as np
import pytest
from test_command_line import run_all

from experiments import capacity
from mnm_jax import models, training
from mnm_jax.analysis import capacity_figures, style
from mnm_jax.analysis.capacity import Curve, Curves, Interference, Measured, Overwriting
from mnm_jax.analysis.output import Output
from mnm_jax.tasks.dictionary import Dictionary

pytestmark = pytest.mark.usefixtures("quick_compilation")

SETTINGS = models.ModelSettings(controller_size=4, memory_size=3, num_layers=2)
TASK = Dictionary(num_pairs=3, source_alphabet_size=4, target_alphabet_size=4)
OPTIONS = capacity.Options(max_pairs=4, num_draws=2)


def write_run(directory, model, settings=SETTINGS):
    """What a training leaves, but for its checkpoints."""
    directory.mkdir(parents=True)
    run = training.Configuration("dictionary", model, (0, 1), TASK, settings, training.TrainingSettings(num_updates=10))
    (directory / "config.json").write_text(run.to_json())


@pytest.fixture
def untrained_runs(monkeypatch):
    """Runs are loaded as they would be before their first update."""

    def load(directory, *, seed):
        configuration = training.Configuration.load(directory)
        cell = configuration.cell()
        variables = jax.jit(cell.init)(jax.random.key(seed), None, np.int32(0))
        return training.Loaded(cell, variables, configuration.task, 0, configuration)

    monkeypatch.setattr(training, "load", load)


def made_up(model, kind, height=0.5):
    numbers, cosines = np.array([1.0, 2, 4]), np.array([-1.0, 0, 1])
    lines = {name: Curve(numbers, *[np.full(3, height)] * 3) for name in Curves._fields}
    lines |= {name: Curve(numbers - 1, *[np.full(3, height)] * 3) for name in Overwriting._fields}
    lines |= {name: Curve(cosines, *[np.full(3, height)] * 3) for name in Interference._fields}
    held = (2.0, 1.5, 2.5) if kind != "reference" else (4.0, 4.0, 4.0)
    return Measured(model, kind, 3, 3, 18, 36, 2, 2, 4, {"rate": 0.5}, [], held, (3.0, 2.0, 4.0), lines)


RESULTS = [
    made_up("delta_rule", "reference"),
    *(made_up("mnm_g", kind) for kind in ("trained", "own", "tuned", "untrained")),
    made_up("titans", "untrained"),
    made_up("ntm", "reference"),
]


def test_a_run_is_measured_trained_and_untrained(tmp_path, untrained_runs):
    write_run(tmp_path / "demo/gated_delta", "gated_delta")
    (directory,) = capacity.find_runs([str(tmp_path / "demo")])
    trained, untrained = capacity.load_subjects(directory, 2)
    assert trained.own.pairs.keys.shape == (2, 2, 4, trained.store.key_size)  # Of four words.
    assert set(trained.setting) == {"rate", "keep"}
    results = capacity.measure(trained, OPTIONS)
    assert [result.kind for result in results] == ["trained", "own", "tuned"]
    assert [result.num_seeds for result in results] == [2, 2, 2]
    assert len(results[-1].tried) == len(trained.candidates)
    # Trained for nothing, its memory is still empty, but for the rate that its controller has.
    assert capacity.measure(untrained, OPTIONS)[0].held == pytest.approx(results[-1].held)


def test_what_it_is_compared_with_has_as_many_floats(tmp_path):
    subjects = {subject.model: subject for subject in capacity.references(SETTINGS)}
    assert list(subjects) == ["delta_rule", "outer_product", "salu", "ntm", "dnc", "attention"]
    for subject in subjects.values():
        assert 0 <= subject.store.num_weights() - SETTINGS.memory_spec.num_weights < 8


def test_models_without_such_a_memory_are_left_out(tmp_path, capsys):
    write_run(tmp_path / "lstm", "lstm")
    with pytest.raises(ValueError, match=r"nothing to measure in .*lstm: wanted a model with an MNM or a SALU"):
        capacity.measure_all([str(tmp_path / "lstm")], OPTIONS)
    assert "lstm: left out" in capsys.readouterr().out


def test_memories_of_different_sizes_are_measured_apart(tmp_path, untrained_runs):
    write_run(tmp_path / "a", "gated_delta")
    write_run(tmp_path / "b", "gated_delta", models.ModelSettings(controller_size=4, memory_size=5, num_layers=2))
    with pytest.raises(ValueError, match=r"the memories of .*a and .*b differ in size, .*: measure them apart"):
        capacity.measure_all([str(tmp_path / "a"), str(tmp_path / "b")], OPTIONS)


def test_everything_is_drawn_again_from_the_numbers(tmp_path):
    capacity.save(RESULTS, tmp_path / "capacity.json")
    into = Output(tmp_path)
    capacity.draw(capacity.load(tmp_path / "capacity.json"), into)
    assert [path.name for path in into.paths] == [
        "held.md",
        "held.csv",
        *(f"{name}.png" for name in ("held", "capacity", "forgetting", "overwriting", "interference")),
    ]
    lines = (tmp_path / "held.md").read_text().splitlines()
    names = [line.split("|")[1].strip() for line in lines[2:9]]
    assert names == [
        "MNM-g, trained",
        "MNM-g, trained, own pairs",
        "MNM-g, trained, best rate",
        "MNM-g, untrained, best rate",
        "Titans, untrained, best rate",
        "NTM",
        "Delta rule, linear",
    ]
    assert "| at least 4.0 (4.0 to 4.0) |" in lines[-3]
    with (tmp_path / "held.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(rows[0][name]) for name in ("held", "held_per_thousand", "load_low")] == pytest.approx(
        [2, 111.11, 0.125]
    )


def test_figures_are_titled_and_labelled():
    for name, make in capacity_figures.FIGURES.items():
        figure = make(RESULTS)
        assert figure.get_suptitle().splitlines()[1].startswith("2 seeds, 2 draws each"), name
        bottom = [axes for axes in figure.axes if axes.get_xlabel()]
        assert bottom, name
    titles = [axes.get_title(loc="left").replace("\n", ", ") for axes in capacity_figures.overwriting(RESULTS).axes]
    assert "MNM-g, trained, own pairs" in titles
    assert "MNM-g, trained, best rate" not in titles  # What a rate changes is in the other figures.


def test_every_memory_is_named_where_its_line_ends():
    found, _, _, _, compared, _ = capacity_figures.capacity(RESULTS).axes
    assert {text.get_text() for text in found.texts} == {
        "trained",
        "trained, own pairs",
        "trained, best rate",
        "untrained, best rate",
    }
    drawn = {line.get_label(): line.get_color() for line in compared.get_lines() if line.get_label()[0] != "_"}
    assert {text.get_text() for text in compared.texts} == drawn.keys() == {"NTM", "Delta rule, linear"}
    assert set(drawn.values()) <= {look.color for look in style.KNOWN.values()}
    first, _, last, *_ = capacity_figures.forgetting(RESULTS).axes
    names = [text.get_text() for axes in (first, last) for text in axes.texts]
    assert len(names) == len(set(names)) == 4


WRONG = {
    "no output": (["run"], "--output=DIR is missing; usage: python -m experiments.capacity RUN [RUN...] --output=DIR"),
    "no run": (["nowhere", "--output=new"], "nowhere holds no run: wanted config.json in it, or in a directory in it"),
    "nothing measured": (["--output=new"], "--output=new: no capacity.json to draw from; usage: "),
    "other numbers": (["--output=other"], "other/capacity.json does not hold what this program measures: KeyError"),
    "unknown format": (
        ["run", "--output=new", "--formats=jpg"],
        "flag --formats=jpg: takes one or more of png, pdf, svg",
    ),
    "too few pairs": (["run", "--output=new", "--max_pairs=1"], "flag --max_pairs=1: "),
    "output is a file": (["run", "--output=file"], "--output=file cannot be written to: "),
    "no checkpoint": (["run", "--output=new"], "no checkpoint in "),
}


@pytest.fixture(scope="module")
def mistakes(tmp_path_factory):
    directory = tmp_path_factory.mktemp("mistakes")
    write_run(directory / "run", "mnm_p")
    (directory / "file").touch()
    (directory / "other").mkdir()
    (directory / "other/capacity.json").write_text(json.dumps([{"model": "mnm_p"}]))
    results = run_all([arguments for arguments, _ in WRONG.values()], directory, "experiments.capacity")
    return dict(zip(WRONG, results, strict=True))


@pytest.mark.parametrize("name", WRONG)
def test_errors_are_one_line(name, mistakes):
    code, _, err = mistakes[name]
    assert code == 2
    assert err.startswith(f"error: {WRONG[name][1]}")
    assert err.count("\n") == 1
