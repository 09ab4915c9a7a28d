"""Loading: what is held out, what is kept on disk, what it depends on."""

import dataclasses
import json
import shutil
import tarfile

import jax
import numpy as np
import pytest

from mnm_jax.tasks import babi
from mnm_jax.tasks.babi import data as data_lib
from mnm_jax.tasks.babi.data import hold_out
from mnm_jax.tasks.babi.stories import sha256


def forbid_reading(monkeypatch):
    """Makes it an error to read or download an archive."""

    def fail(*args):
        raise AssertionError("an archive was read")

    monkeypatch.setattr(data_lib.stories_lib, "read_archive", fail)
    monkeypatch.setattr(data_lib, "_download", fail)


def assert_same(a, b):
    assert a.summary() == b.summary()
    for split in ("train", "validation", "test"):
        jax.tree.map(np.testing.assert_array_equal, getattr(a, split).buckets, getattr(b, split).buckets)


def texts(data, split):
    """The episodes of a split as text."""
    return sorted(
        " ".join(data.vocabulary.symbols[symbol] for symbol in inputs[:length])
        for bucket in split.buckets
        for inputs, length in zip(bucket.inputs, bucket.lengths, strict=True)
    )


def test_a_stream_has_every_story_once(archive, tmp_path):
    data = babi.load("en", archive=archive, cache_directory=tmp_path)
    assert [split.num_episodes for split in (data.train, data.validation, data.test)] == [80, 20, 40]
    stories = babi.read_archive(archive, "en")
    num_questions = {split: sum(len(story.questions) for story in stories[split]) for split in stories}
    assert data.train.num_questions + data.validation.num_questions == num_questions["train"]
    assert data.test.num_questions == num_questions["test"]

    def text(story):
        sentences, first = [], 0
        for question in story.questions:
            sentences += [*story.statements[first : question.num_statements], question.text]
            first = question.num_statements
        return " ".join(sentences).lower().replace(".", " .").replace("?", " ?")

    assert texts(data, data.test) == sorted(map(text, stories["test"]))
    assert sorted(texts(data, data.train) + texts(data, data.validation)) == sorted(map(text, stories["train"]))


def test_a_question_is_an_episode_and_its_story_is_held_out_whole(archive, tmp_path):
    stream, question = (
        babi.load("en", (4, 5), layout, archive=archive, cache_directory=tmp_path) for layout in ("stream", "question")
    )
    for name in ("train", "validation", "test"):
        split = getattr(question, name)
        assert split.num_episodes == split.num_questions == getattr(stream, name).num_questions
    assert question.vocabulary == stream.vocabulary


def test_a_tenth_of_each_task_is_held_out():
    def story(task, i):
        return babi.Story(task, (f"Ada saw {i} of {task}.",), ())

    stories = [story(task, i) for task, n in ((1, 100), (2, 35), (3, 2)) for i in range(n)]
    train, validation = hold_out(stories, 0)
    assert [sum(story.task == task for story in validation) for task in (1, 2, 3)] == [10, 4, 1]
    assert sorted(train + validation) == sorted(stories)
    assert hold_out(stories, 0) == (train, validation)
    assert hold_out(stories, 1)[1] != validation
    # Nor does it matter which other tasks there are.
    assert hold_out(stories[100:], 0)[1] == validation[10:]
    with pytest.raises(ValueError, match="task 4 has one training story only"):
        hold_out([*stories, story(4, 0)], 0)


def test_the_second_time_no_archive_is_needed(archive, tmp_path, monkeypatch):
    data = babi.load("en", (1, 2), archive=archive, cache_directory=tmp_path / "here")
    assert data.archive_sha256 == sha256(archive)
    forbid_reading(monkeypatch)
    assert_same(data, babi.load("en", (2, 1), archive=archive, cache_directory=tmp_path / "here"))

    assert [path.suffix for path in (tmp_path / "here").iterdir()] == [".npz"]
    shutil.move(tmp_path / "here", tmp_path / "there")
    digest = sha256(archive)
    assert_same(data, babi.load("en", (1, 2), archive_sha256=digest, cache_directory=tmp_path / "there"))


def test_the_cache_depends_on_all_that_matters(archive, tmp_path, make_archive):
    def load(**changes):
        arguments = {"config": "en", "tasks": (1,), "archive": archive, **changes}
        return babi.load(**arguments, cache_directory=tmp_path)

    load()
    name = f"tasks_1-20_v1-2/en/qa1_{babi.TASK_NAMES[1]}_test.txt"
    other = make_archive({name: "1 Ada went to the barn.\n2 Where is Ada?\tattic\t1\n"})
    changes = ({"config": "en-10k"}, {"tasks": (2,)}, {"layout": "question"}, {"validation_seed": 1})
    for i, change in enumerate((*changes, {"archive": other}), 2):
        load(**change)
        assert len(list(tmp_path.glob("*.npz"))) == i
    assert load(archive=other).test.num_episodes == 1
    assert load().test.num_episodes == 2


def test_the_archive_is_the_one_of_the_environment(archive, tmp_path, monkeypatch):
    monkeypatch.setenv("BABI_ARCHIVE", str(archive))
    data = babi.load("en", (1,), cache_directory=tmp_path)
    assert data.archive_sha256 == sha256(archive)


def test_another_archive_than_asked_for_is_refused(archive, tmp_path):
    with pytest.raises(babi.ArchiveError, match=rf"{archive} has the SHA-256 {sha256(archive)}, not abc"):
        babi.load("en", (1,), archive=archive, archive_sha256="abc", cache_directory=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_of_the_cache_is_named(archive, tmp_path):
    babi.load("en", (1,), archive=archive, cache_directory=tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=rf"{path} is damaged; remove it"):
        babi.load("en", (1,), archive=archive, cache_directory=tmp_path)
    path.unlink()
    babi.load("en", (1,), archive=archive, cache_directory=tmp_path)


def test_without_a_cache_it_goes_on_with_a_warning_and_leaves_nothing(archive, tmp_path, monkeypatch):
    whole = babi.load("en", (1,), archive=archive, cache_directory=tmp_path / "here")

    def fail(file, **arrays):
        file.write(b"half")
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez_compressed", fail)
        with pytest.warns(UserWarning, match=r"no cache: .* \(no space left\); XDG_CACHE_HOME names another"):
            assert_same(whole, babi.load("en", (1,), archive=archive, cache_directory=tmp_path / "there"))
        assert not list((tmp_path / "there").iterdir())
    # A file stands where the directory would be.
    file = tmp_path / "file"
    file.touch()
    with pytest.warns(UserWarning, match="no cache: "):
        assert_same(whole, babi.load("en", (1,), archive=archive, cache_directory=file / "cache"))
    with pytest.raises(OSError, match=r"no archive is named, and .* cannot be put into .*XDG_CACHE_HOME"):
        babi.load("en", (1,), cache_directory=file / "cache")


def test_the_cache_is_where_the_system_keeps_them(archive, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for named, directory in (("", tmp_path / "home" / ".cache"), (str(tmp_path / "xdg"), tmp_path / "xdg")):
        monkeypatch.setenv("XDG_CACHE_HOME", named)
        babi.load("en", (1,), archive=archive)
        assert len(list((directory / "mnm_jax" / "babi").glob("*.npz"))) == 1
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # To be ignored, as its specification has it.
    monkeypatch.chdir(tmp_path)
    babi.load("en", (1,), archive=archive)
    assert not (tmp_path / "relative").exists()


def test_an_extracted_directory_gives_the_same_data(archive, tmp_path):
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    of_archive, of_directory = (
        babi.load("en", (1,), archive=path, cache_directory=tmp_path / "cache") for path in (archive, tmp_path)
    )
    assert of_directory.archive_sha256 == sha256(tmp_path) != of_archive.archive_sha256
    assert of_directory.vocabulary == of_archive.vocabulary
    jax.tree.map(np.testing.assert_array_equal, of_directory.test.buckets, of_archive.test.buckets)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"config": "en-1k"}, "config must be one of 'en', 'en-10k', got 'en-1k'"),
        ({"layout": "story"}, "layout must be one of 'stream', 'question', 'sentences', got 'story'"),
        ({"tasks": ()}, "tasks is empty"),
        ({"tasks": (1, 0)}, "tasks must be whole numbers of 1 to 20, got 0"),
    ],
)
def test_arguments_that_are_not_possible_are_named(archive, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        babi.load(**arguments, archive=archive, cache_directory=tmp_path)


def test_what_is_saved_with_a_run_is_json(archive, tmp_path):
    data = babi.load("en", (8,), archive=archive, cache_directory=tmp_path)
    summary = json.loads(json.dumps(data.summary()))
    assert summary == data.summary()
    assert summary["symbols"][:2] == [".", "?"]
    assert summary["answers"] == list(data.vocabulary.answers)
    assert summary["archive_sha256"] == sha256(archive)
    assert summary["splits"]["train"]["episodes"] == data.train.num_episodes
    names = {field.name for field in dataclasses.fields(data)} - {"train", "validation", "test", "vocabulary"}
    assert names <= set(summary)
