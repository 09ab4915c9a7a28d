"""Questions asked at a trained bAbI model."""

import pathlib
import re
import sys

import jax
import numpy as np
import pytest
from test_command_line import ROOT, run_all

import mnm_jax as mnm
from experiments import ask
from mnm_jax import models, training
from mnm_jax.analysis.similarity import cosine_similarity
from mnm_jax.tasks.babi import Babi
from mnm_jax.tasks.babi.stories import sha256

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tasks" / "babi"))

from small_archive import make_contents, write_archive

pytestmark = pytest.mark.usefixtures("quick_compilation")

STORY = ["Ada went to the cellar.", "Where is Ada?", "Ben went to the yard", "Where is Ben?"]
WORDS = re.findall(r"\S+", "ada went to the cellar . where is ada ? ben went to the yard . where is ben ?")


@pytest.fixture(scope="module", params=["mnm_p", "lstm"])
def loaded(request, tmp_path_factory):
    """An untrained model."""
    directory = tmp_path_factory.mktemp("ask")
    archive = write_archive(directory / "archive.tar.gz", make_contents())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BABI_ARCHIVE", str(archive))
        patch.setenv("HOME", str(directory))
        task = Babi((1, 2), archive_sha256=sha256(archive))
        configuration = training.Configuration(
            "babi", request.param, (0,), task, models.ModelSettings(4, 4), training.TrainingSettings(num_updates=1)
        )
        cell = configuration.cell()
        variables = cell.init(jax.random.key(0), None, np.int32(0))
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


def test_a_story_is_read_line_by_line(loaded):
    first, again, *rest = ask.answer_all(loaded, [*STORY[:2], "", *STORY[:2], "Where is Adda?", *STORY[2:]])
    assert first == again
    assert re.match(r"[a-z,]+ \(\d+\.\d%\)", first)
    assert len(rest) == 2
    assert rest[0] == "not read: the word 'adda' is unknown; near it: ada"
    *_, last = ask.answer_all(loaded, STORY)
    assert rest[1] == last


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
        "none is not the directory of one run: no config.json in it",
        "results/tiny was trained on dictionary, not on bAbI",
        "No such file or directory: 'story.txt'",
        "--story goes with --ask=RUN",
        "--seed goes with --ask=RUN",
    )
    for (code, out, err), message in zip(results, messages, strict=True):
        assert (code, out) == (2, "")
        assert err.startswith("error: ")
        assert message in err
