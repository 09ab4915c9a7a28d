"""Reading the archive: what a story is, and what is refused."""

import pytest

from mnm_jax.tasks.babi import ArchiveError, Question, Story, read_archive
from mnm_jax.tasks.babi.stories import TASK_NAMES, named_archive, parse

TEXT = (
    "1 Ada went to the barn.\n"
    "2 Ben took the hat there.\n"
    "3 Where is Ada? \tbarn\t1\n"
    "4 Ada is no longer in the barn.\n"
    "5 What has Ben got?\tHat,coat\t2 1 4\n"
    "1 Cleo went up.\n"
    "2 Where is Cleo?\tattic\t1\n"
)


def test_parse_gives_stories_with_their_questions():
    assert parse(TEXT.encode(), 7, "qa7.txt") == [
        Story(
            7,
            ("Ada went to the barn.", "Ben took the hat there.", "Ada is no longer in the barn."),
            (Question("Where is Ada?", "barn", 2, (0,)), Question("What has Ben got?", "Hat,coat", 3, (1, 0, 2))),
        ),
        Story(7, ("Cleo went up.",), (Question("Where is Cleo?", "attic", 1, (0,)),)),
    ]


@pytest.mark.parametrize(
    ("line", "new", "message"),
    [
        (1, "Ada went to the barn.", "line 1: not a number, a blank and a sentence: 'Ada went to the barn.'"),
        (1, "2 Ada went to the barn.", "line 1: number 2 after 0"),
        (2, "2", "line 2: not a number"),
        (2, "", "line 2: not a number"),
        (2, "3 Ben took the hat there.", "line 2: number 3 after 1"),
        (2, "2 Ben took the hat there", "line 2: not a sentence with a full stop"),
        (2, "2 Ben took 3 hats.", "line 2: not a sentence with a full stop"),
        (2, "2 Where is Ada?", "line 2: not a sentence with a full stop, nor a question with its answer"),
        (3, "3 Where is Ada\tbarn\t1", "line 3: not a question with a question mark"),
        (3, "3 Where is Ada?\tbarn", "line 3: not a question, its answer and its supporting lines"),
        (3, "3 Where is Ada?\t\t1", "line 3: not a question, its answer"),
        (3, "3 Where is Ada?\tbarn,\t1", "line 3: not a question, its answer"),
        (3, "3 Where is Ada?\tbarn\tone", "line 3: not a question, its answer"),
        (3, "3 Where is Ada?\tbarn\t4", "line 3: a supporting line that is not a statement before the question"),
        (5, "5 What has Ben got?\that\t3", "line 5: a supporting line that is not a statement before the question"),
        (5, "5 Ben is late.", "line 6: number 1 after 5, and a story ends with a question"),
        (7, "2 Cleo is late.", "line 7: the file ends within a story, before its question"),
    ],
)
def test_a_malformed_line_is_named(line, new, message):
    lines = TEXT.splitlines()
    lines[line - 1] = new
    with pytest.raises(ArchiveError) as error:
        parse("\n".join(lines).encode(), 7, "qa7.txt")
    assert str(error.value).startswith(f"qa7.txt, {message}")


def test_an_empty_file_is_refused():
    with pytest.raises(ArchiveError, match=r"qa7\.txt is empty"):
        parse(b"", 7, "qa7.txt")


def test_the_tasks_of_an_archive_come_in_the_order_asked_for(archive):
    stories = read_archive(archive, "en", (3, 2))
    assert [story.task for story in stories["train"]] == [3] * 5 + [2] * 5
    assert [story.task for story in stories["test"]] == [3] * 2 + [2] * 2
    first = stories["train"][0]
    assert first.statements == ("Ada went to the yard.",)
    assert first.questions == (Question("Where is Ada?", "yard", 1, (0,)),)


def test_a_line_of_the_archive_is_named(make_archive):
    name = f"tasks_1-20_v1-2/en-10k/qa2_{TASK_NAMES[2]}_train.txt"
    broken = make_archive({name: "1 Ada went up.\n2 Where is\n"})
    with pytest.raises(ArchiveError, match=rf"^{name}, line 2: "):
        read_archive(broken, "en-10k")
    read_archive(broken, "en")
    read_archive(broken, "en-10k", (1, 3))


def test_a_missing_file_is_named(make_archive):
    name = f"tasks_1-20_v1-2/en/qa20_{TASK_NAMES[20]}_test.txt"
    broken = make_archive({name: None})
    with pytest.raises(ArchiveError) as error:
        read_archive(broken, "en")
    assert str(error.value) == f"{broken} has no file {name}"


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:-4],
        lambda content: content[: len(content) // 2] + b"?" + content[len(content) // 2 + 1 :],
        lambda content: b"no archive",
        lambda content: b"",
    ],
    ids=["half", "without the last bytes", "one byte changed", "other", "empty"],
)
def test_a_damaged_archive_is_refused(archive, tmp_path, damage):
    broken = tmp_path / "broken.tar.gz"
    broken.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(ArchiveError, match=r"broken\.tar\.gz is truncated or damaged"):
        read_archive(broken, "en")


def test_an_unknown_configuration_or_task_is_refused(archive):
    with pytest.raises(ValueError, match="config must be one of 'en', 'en-10k', got 'fr'"):
        read_archive(archive, "fr")
    with pytest.raises(ValueError, match=r"task must be one of 1, .*, 20, got 21"):
        read_archive(archive, "en", (1, 21))


def test_an_archive_is_named_by_argument_or_environment(archive, tmp_path, monkeypatch):
    assert named_archive(None) is None
    with pytest.raises(FileNotFoundError, match=r"archive=.*/none: there is no such file"):
        named_archive(tmp_path / "none")
    monkeypatch.setenv("BABI_ARCHIVE", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match=r"BABI_ARCHIVE=.*/none: there is no such file"):
        named_archive(None)
    assert named_archive(archive) == archive
    monkeypatch.setenv("BABI_ARCHIVE", str(archive))
    assert named_archive(None) == archive
