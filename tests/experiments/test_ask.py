"""Questions asked at a trained bAbI model."""

import io
import pathlib
import re
import sys

import jax
import numpy as np
import pytest
from absl import flags
from test_command_line import ROOT, run_all

import mnm_jax as mnm
from experiments import ask, command_line
from mnm_jax import models, training
from mnm_jax.analysis.similarity import cosine_similarity
from mnm_jax.inputs import Sentence
from mnm_jax.tasks.babi import ArchiveError, Babi
from mnm_jax.tasks.babi.stories import sha256

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tasks" / "babi"))

from small_archive import make_contents, write_archive

pytestmark = pytest.mark.usefixtures("quick_compilation")

if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()

STORY = ["Ada went to the cellar.", "Where is Ada?", "Ben went to the yard", "Where is Ben?"]
WORDS = re.findall(r"\S+", "ada went to the cellar . where is ada ? ben went to the yard . where is ben ?")


@pytest.fixture(scope="module", params=["mnm_p", "lstm"])
def loaded(request, tmp_path_factory):
    """An untrained model."""
    return load_untrained(request.param, "stream", tmp_path_factory)


def load_untrained(model, layout, tmp_path_factory, **options):
    directory = tmp_path_factory.mktemp("ask")
    archive = write_archive(directory / "archive.tar.gz", make_contents())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BABI_ARCHIVE", str(archive))
        patch.setenv("HOME", str(directory))
        task = Babi((1, 2), layout=layout, archive_sha256=sha256(archive))
        configuration = training.Configuration(
            "babi", model, (0,), task, models.ModelSettings(4, 4, **options), training.TrainingSettings(num_updates=1)
        )
        cell = configuration.cell()
        symbol = np.int32(0)
        if layout == "sentences":
            symbol = Sentence(np.zeros(task.loaded.train.buckets[0].inputs.shape[2], np.int32))
        variables = cell.init(jax.random.key(0), None, symbol)
    return training.Loaded(cell, variables, task, 0, configuration)


def test_a_question_is_answered_as_the_model_does(loaded):
    symbols = [number for line in STORY for number in ask.encode(line, loaded.task.loaded.vocabulary)]
    assert [loaded.task.loaded.vocabulary.symbols[symbol] for symbol in symbols] == WORDS
    answer, probability, resembling = ask.ask(loaded, symbols)
    _, outputs, trace = mnm.unroll(loaded.cell, loaded.variables, np.array(symbols))
    probabilities = np.asarray(jax.nn.softmax(outputs[-1]))
    assert answer == loaded.task.loaded.vocabulary.answers[probabilities.argmax()]
    assert probability == pytest.approx(probabilities.max(), rel=1e-4)
    if not trace:
        assert resembling == []
        return
    similarities = cosine_similarity(trace.read_keys, trace.write_keys, include_same_step=True)[-1]
    assert len(resembling) == 3
    for step, value in resembling:
        assert value == pytest.approx(similarities[step], abs=1e-4)
        assert sum(similarities[:-1] > value + 1e-4) < 3


def test_a_model_that_reads_sentences_is_asked_likewise(tmp_path_factory):
    loaded = load_untrained("mnm_p", "sentences", tmp_path_factory)
    first, last = ask.answer_all(loaded, STORY)
    width = loaded.task.loaded.train.buckets[0].inputs.shape[2]
    rows = [ask.encode(line, loaded.task.loaded.vocabulary) for line in STORY]
    inputs = Sentence(np.array([row + [-1] * (width - len(row)) for row in rows], np.int32))
    probabilities = np.asarray(jax.nn.softmax(mnm.unroll(loaded.cell, loaded.variables, inputs).outputs))
    for text, step in ((first, 1), (last, 3)):
        answer = loaded.task.loaded.vocabulary.answers[probabilities[step].argmax()]
        assert text.splitlines()[0] == f"{answer} ({probabilities[step].max():.1%})"
    shown = {line.split("  ")[2] for line in last.splitlines()[1:]}
    assert shown == {"ada went to the cellar .", "where is ada ?", "ben went to the yard ."}
    (complaint,) = ask.answer_all(loaded, ["Ada went to the yard the yard the yard the yard."])
    assert complaint == f"not read: 12 words and marks are more than the {width} of any it learned"


def test_a_chain_of_reads_is_shown_read_by_read(tmp_path_factory):
    chained = {"num_layers": 2, "num_heads": 3, "relation_size": 2, "num_reads": 2}
    loaded = load_untrained("mnm_p", "sentences", tmp_path_factory, **chained)
    symbols = [number for line in STORY for number in ask.encode(line, loaded.task.loaded.vocabulary)]
    *_, resembling = ask.ask(loaded, symbols)
    assert len(resembling) == 2
    steps = Sentence(ask._split(loaded.task, symbols))
    trace = mnm.unroll(loaded.cell, loaded.variables, steps).trace
    for key, (step, value) in zip(np.asarray(trace.read_keys[-1]), resembling, strict=True):
        written = np.asarray(trace.write_keys[1:])  # What step 0 decided is written at step 1.
        similarities = written @ key / (np.linalg.norm(written, axis=-1) * np.linalg.norm(key))
        assert value == pytest.approx(float(similarities.max()), abs=1e-4)
        assert similarities[step].max() == similarities.max()
    assert ask.ask(loaded, symbols[-4:])[2] == []


def test_a_story_is_read_line_by_line(loaded):
    first, again, *rest = ask.answer_all(loaded, [*STORY[:2], "", *STORY[:2], "Where is Adda?", *STORY[2:]])
    assert first == again
    assert re.match(r"[a-z,]+ \(\d+\.\d%\)", first)
    assert len(rest) == 2
    assert rest[0] == "not read: the word 'adda' is unknown; near it: ada"
    *_, last = ask.answer_all(loaded, STORY)
    assert rest[1] == last


def test_lines_of_the_data_are_read_as_they_are(loaded):
    pasted = [
        "1 Ada went to the cellar.",
        "2 Where is Ada? \tcellar\t1",
        "3 Ben went to the yard.",
        "4 Where is Ben? yard 3",
    ]
    typed = list(ask.answer_all(loaded, STORY))
    given = list(ask.answer_all(loaded, [*pasted, *pasted]))
    assert given[:2] == given[2:]  # Where the numbers begin again a story does.
    for answer, alone, right in zip(given, typed, ("cellar", "yard"), strict=False):
        first, *rest = alone.splitlines()
        same = "the same" if first.split()[0] == right else "another"
        assert answer.splitlines() == [f"{first}; given: {right}, {same}", *rest]


@pytest.mark.parametrize(
    ("line", "parsed"),
    [
        ("1 Mary moved to the bathroom.", (1, "Mary moved to the bathroom.", None)),
        ("2 Where is Mary?\tbathroom\t1", (2, "Where is Mary?", "bathroom")),
        ("12 What is she carrying? \tFootball,milk\t1 10", (12, "What is she carrying?", "football,milk")),
        ("3 Where is Mary?  bathroom   1", (3, "Where is Mary?", "bathroom")),
        ("Where is Mary?\tbathroom", (None, "Where is Mary?", "bathroom")),
        ("Where is Mary? ", (None, "Where is Mary?", None)),
        ("5 Where is Mary?", (5, "Where is Mary?", None)),
        ("Mary moved to the bathroom", (None, "Mary moved to the bathroom", None)),
        ("   ", (None, "", None)),
    ],
)
def test_a_line_has_number_sentence_and_answer(line, parsed):
    assert ask.parse_line(line) == parsed


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("?", "a mark alone is no sentence"),
        (" . ?", "a mark alone is no sentence"),
        ("Where is Ada", "is it a question? Then end it with a question mark, or else with a full stop"),
        ("Ada went to the café.", "the word 'café' is unknown"),
        ("Ada's hat went.", "the word \"ada's\" is unknown; near it: ada; the word 'hat' is unknown"),
    ],
)
def test_what_cannot_be_read_is_said_and_not_stored(loaded, line, message):
    *complaints, answer = ask.answer_all(loaded, [STORY[0], line, STORY[1]], "story.txt")
    assert len(complaints) == 1
    assert complaints[0].startswith(f"not read: story.txt, line 2: {message}")
    assert [answer] == list(ask.answer_all(loaded, STORY[:2]))


def test_punctuation_that_no_story_has_is_left_out(loaded):
    vocabulary = loaded.task.loaded.vocabulary
    assert ask.encode('"Ada", went: to the cellar!', vocabulary) == ask.encode(STORY[0], vocabulary)


def test_a_file_that_is_no_utf8_shows_its_words(loaded, tmp_path):
    path = tmp_path / "story.txt"
    path.write_bytes("\ufeffAda went to the cellar.\r\n".encode() + "Ben left the café.\n".encode("latin-1"))
    lines = ask._read_file(str(path))
    assert lines == ["Ada went to the cellar.", "Ben left the caf\\xe9."]
    (complaint,) = ask.answer_all(loaded, lines, "story.txt")
    assert complaint.startswith("not read: story.txt, line 2: ")
    assert r"the word 'caf\xe9' is unknown" in complaint
    path.write_bytes("Ada went.".encode("utf-16"))
    with pytest.raises(command_line.UsageError, match=r"--story=.*story\.txt is no text in UTF-8"):
        ask._read_file(str(path))


def test_a_long_story_is_said_to_be_read(loaded, monkeypatch, capsys):
    monkeypatch.setattr(ask, "_LONG", 15)
    list(ask.answer_all(loaded, STORY))
    assert capsys.readouterr().err == "Reading 20 words and marks ...\n"


@pytest.mark.parametrize("end", ["Ctrl-D", "Ctrl-C"])
def test_at_a_terminal_it_says_hello_and_ends(loaded, monkeypatch, capsys, end):
    lines = iter(STORY[:2])

    def type_line(prompt):
        for line in lines:
            return line
        raise EOFError if end == "Ctrl-D" else KeyboardInterrupt

    terminal = io.TextIOWrapper(io.BytesIO())
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdin", terminal)
    # Not every system can edit lines.
    monkeypatch.setitem(sys.modules, "readline", None)
    if end == "Ctrl-D":
        monkeypatch.delitem(sys.modules, "readline")
    monkeypatch.setattr("builtins.input", type_line)
    monkeypatch.setattr(training, "load", lambda run, seed, best: loaded)
    if end == "Ctrl-D":
        ask.answer("RUN")
    else:
        with pytest.raises(KeyboardInterrupt):  # See `command_line.run`.
            ask.answer("RUN")
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("Tell RUN a story")
    assert "Ctrl-D ends this." in out
    assert (sys.modules.get("readline") is not None) == (end == "Ctrl-D")
    assert next(ask.answer_all(loaded, STORY[:2])) in out


def test_the_model_that_comes_with_the_package_answers(tmp_path, monkeypatch):
    monkeypatch.setenv("BABI_ARCHIVE", str(tmp_path / "none"))
    loaded = training.load("babi_chained", best=True)
    lines = ["Mary moved to the bathroom.", "John went to the hallway.", "Where is Mary?"]
    (answer,) = ask.answer_all(loaded, lines)
    assert answer.startswith("bathroom (")


def test_a_run_without_its_vocabulary_needs_the_archive(tmp_path, monkeypatch):
    def load(task):
        raise ArchiveError("there is none")

    monkeypatch.setattr("mnm_jax.tasks.babi.task._load", load)
    configuration = training.Configuration(
        "babi", "lstm", (0,), Babi((4,)), models.ModelSettings(4, 4), training.TrainingSettings(num_updates=1)
    )
    (tmp_path / "config.json").write_text(configuration.to_json())
    message = f"{tmp_path} holds no vocabulary.json, so the archive is needed: there is none"
    with pytest.raises(command_line.UsageError, match=message):
        ask.answer(str(tmp_path))


def test_a_word_is_shown_in_its_sentence():
    assert ask._in_its_sentence(WORDS, 4) == "ada went to the [cellar] ."
    assert ask._in_its_sentence(WORDS, 5) == "ada went to the cellar [.]"
    assert ask._in_its_sentence(WORDS, len(WORDS) - 1) == "where is ben [?]"


def test_mistakes_are_one_line(tmp_path):
    tiny = str(ROOT / "experiments" / "results" / "tiny")
    results = run_all(
        [["--ask=none"], [f"--ask={tiny}"], ["--ask=none", "--story=story.txt"], ["--story=story.txt"], ["--seed=1"]],
        tmp_path,
        "experiments.babi",
    )
    messages = (
        "none is not the directory of one run: no config.json in it; the runs that come with the package are ",
        "results/tiny was trained on dictionary, not on bAbI",
        "No such file or directory: 'story.txt'",
        "--story goes with --ask=RUN",
        "--seed goes with --ask=RUN",
    )
    for (code, out, err), message in zip(results, messages, strict=True):
        assert (code, out) == (2, "")
        assert err.startswith("error: ")
        assert message in err
