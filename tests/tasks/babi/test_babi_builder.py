"""The dataset of tensorflow-datasets: the same stories as the archive's, without TensorFlow."""

import itertools
import pickle
import sys

import pytest
import tensorflow_datasets as tfds

from mnm_jax.tasks import babi
from mnm_jax.tasks.babi import stories
from mnm_jax.tasks.babi.babi_dataset_builder import Builder


@pytest.fixture(scope="module")
def prepared(archive, tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("tensorflow_datasets")
    for config in babi.CONFIGS:
        builder = Builder(config=config, archive=archive, data_dir=data_dir)
        builder.download_and_prepare(file_format="array_record")
    return data_dir


def restore(examples):
    """The stories that the questions were asked of."""
    restored = []
    for (task, story_id), group in itertools.groupby(examples, lambda e: (int(e["task"]), int(e["story_id"]))):
        questions = list(group)
        assert [question["question_id"] for question in questions] == list(range(len(questions)))
        if story_id > 0:
            assert restored[-1].task == task
        statements = tuple(statement.decode() for statement in questions[-1]["story"])
        for question in questions:
            assert tuple(statement.decode() for statement in question["story"]) == statements[: len(question["story"])]
        restored.append(
            babi.Story(
                task,
                statements,
                tuple(
                    babi.Question(
                        question["question"].decode(),
                        question["answer"].decode(),
                        len(question["story"]),
                        tuple(int(fact) for fact in question["supporting_facts"]),
                    )
                    for question in questions
                ),
            )
        )
    return restored


@pytest.mark.parametrize("config", babi.CONFIGS)
def test_the_dataset_holds_the_stories_of_the_archive(archive, prepared, config):
    builder = Builder(config=config, data_dir=prepared)
    expected = babi.read_archive(archive, config)
    for split, examples in builder.as_data_source().items():
        assert restore(examples) == list(expected[split])
    assert builder.info.metadata["archive_sha256"] == stories.sha256(archive)
    assert builder.name == "babi"
    assert "tensorflow" not in sys.modules


def test_a_copy_in_another_process_has_the_same_archive(archive, prepared):
    builder = pickle.loads(pickle.dumps(Builder(config="en", archive=archive, data_dir=prepared)))
    assert builder._archive == archive


def test_what_another_archive_gave_is_not_taken_for_this_one(prepared, make_archive):
    name = f"tasks_1-20_v1-2/en/qa1_{babi.TASK_NAMES[1]}_test.txt"
    other = make_archive({name: "1 Ada went up.\n2 Where is Ada?\tup\t1\n"})
    with pytest.raises(ValueError, match=r"was prepared from the archive with SHA-256 .*; name another data_dir"):
        Builder(config="en", archive=other, data_dir=prepared)


def test_the_environment_names_the_archive(archive, tmp_path, monkeypatch):
    monkeypatch.setenv("BABI_ARCHIVE", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match="BABI_ARCHIVE="):
        Builder(config="en", data_dir=tmp_path)


def test_the_official_archive_is_downloaded_with_its_checksum():
    (url,) = Builder.url_infos
    assert url == stories.URL
    assert Builder.url_infos[url].checksum == babi.OFFICIAL_SHA256
    assert Builder.url_infos[url].size == 15_719_851


def test_a_download_that_fails_says_how_to_name_a_copy(tmp_path, monkeypatch):
    def fail(manager, url):
        raise tfds.download.DownloadError("404")

    monkeypatch.setattr(tfds.download.DownloadManager, "download", fail)
    message = r"could not be downloaded \(404\); name a copy of it by the argument archive, .* BABI_ARCHIVE"
    with pytest.raises(babi.ArchiveError, match=message):
        Builder(config="en", data_dir=tmp_path).download_and_prepare(file_format="array_record")
