"""Reading the archive: what a story is, and what is refused."""

import contextlib
import gzip
import http.server
import shutil
import socket
import tarfile
import threading

import pytest

from mnm_jax.tasks.babi import ArchiveError, Question, Story, read_archive, stories
from mnm_jax.tasks.babi.stories import CONFIGS, TASK_NAMES, named_archive, parse, sha256

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
        (2, f"{'9' * 5000} Ben took the hat there.", "line 2: not a number"),
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
    for task in (21, 0, True, 1.0, "1"):
        with pytest.raises(ValueError, match=f"tasks must be whole numbers of 1 to 20, got {task!r}"):
            read_archive(archive, "en", (1, task))
    with pytest.raises(ValueError, match="tasks is empty"):
        read_archive(archive, "en", ())


def extract(archive, directory):
    with tarfile.open(archive) as tar:
        tar.extractall(directory, filter="data")
    return directory


@pytest.mark.parametrize("top", ["", "tasks_1-20_v1-2"])
def test_a_directory_into_which_it_was_extracted_is_an_archive_too(archive, tmp_path, top):
    directory = extract(archive, tmp_path) / top
    assert named_archive(directory) == directory
    assert read_archive(directory, "en", (1, 2)) == read_archive(archive, "en", (1, 2))
    digest = sha256(directory)
    shutil.move(tmp_path / "tasks_1-20_v1-2", tmp_path / "moved" / "tasks_1-20_v1-2")
    assert sha256(tmp_path / "moved") == digest
    changed = next((tmp_path / "moved").rglob("qa1_*_test.txt"))
    changed.write_text("1 Ada went up.\n2 Where is Ada?\tup\t1\n")
    assert sha256(tmp_path / "moved") != digest
    changed.unlink()
    with pytest.raises(ArchiveError, match=r"moved has no file tasks_1-20_v1-2/en.*/qa1_.*_test\.txt"):
        [read_archive(tmp_path / "moved", config) for config in CONFIGS]


def test_an_archive_packed_from_within_its_directory_is_read(archive, tmp_path):
    extract(archive, tmp_path)
    packed = tmp_path / "packed.tar.gz"
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(tmp_path / "tasks_1-20_v1-2", "./tasks_1-20_v1-2")
    with tarfile.open(packed) as tar:
        assert all(member.name.startswith("./") for member in tar)
    assert read_archive(packed, "en") == read_archive(archive, "en")


def member_of_another_kind(kind, size=0):
    """Makes the first file of the archive something else."""
    member = tarfile.TarInfo(f"tasks_1-20_v1-2/en/qa1_{TASK_NAMES[1]}_train.txt")
    member.type, member.size, member.linkname = kind, size, "/etc/passwd"
    return member


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (member_of_another_kind(tarfile.SYMTYPE), "_train.txt is no file"),
        (member_of_another_kind(tarfile.LNKTYPE), "_train.txt is no file"),
        (member_of_another_kind(tarfile.DIRTYPE), "_train.txt is no file"),
        (member_of_another_kind(tarfile.FIFOTYPE), "_train.txt is no file"),
        (member_of_another_kind(tarfile.REGTYPE, 2**40), "_train.txt has 1099511627776 bytes, more than 33554432"),
    ],
    ids=["symbolic link", "hard link", "directory", "pipe", "bomb"],
)
def test_what_is_no_file_or_too_large_is_refused(tmp_path, member, message):
    path = tmp_path / "changed.tar.gz"
    with gzip.open(path, "wb") as file:
        file.write(member.tobuf() + bytes(1024))
    with pytest.raises(ArchiveError, match=f"{path}: tasks_1-20_v1-2/en/.*{message}"):
        read_archive(path, "en", (1,))


def test_what_is_too_much_to_unpack_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(stories, "_MAX_ARCHIVE", 2**22)
    monkeypatch.setattr(stories, "_MAX_MEMBERS", 100)
    path = tmp_path / "bomb.tar.gz"
    with gzip.open(path, "wb") as file:
        file.write(bytes(2**23))
    with pytest.raises(ArchiveError, match=r"bomb\.tar\.gz: more than 4194304 bytes"):
        read_archive(path, "en")
    with tarfile.open(path, "w:gz") as tar:
        for i in range(101):
            tar.addfile(tarfile.TarInfo(str(i)))
    with pytest.raises(ArchiveError, match=r"bomb\.tar\.gz: more than 100 files"):
        read_archive(path, "en")


class TestDownload:
    @pytest.fixture
    def address(self, archive, monkeypatch):
        """Serves the small archive, and takes it for the official one; the address is plain HTTP, as that of theirs."""

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *args):
                super().__init__(*args, directory=archive.parent)

            def log_message(self, *args):
                pass

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            url = f"http://127.0.0.1:{server.server_port}/{archive.name}"
            monkeypatch.setattr(stories, "URL", url)
            monkeypatch.setattr(stories, "OFFICIAL_SHA256", sha256(archive))
            yield url
            server.shutdown()

    def test_comes_once_and_whole(self, address, archive, tmp_path):
        path = stories.download(tmp_path / "here")
        assert path.read_bytes() == archive.read_bytes()
        assert list((tmp_path / "here").iterdir()) == [path]

    @pytest.mark.usefixtures("address")
    def test_another_archive_than_the_official_one_is_not_taken(self, tmp_path, monkeypatch):
        monkeypatch.setattr(stories, "OFFICIAL_SHA256", "0" * 64)
        with pytest.raises(ArchiveError, match=f"has the SHA-256 [0-9a-f]{{64}}, not {'0' * 64}; name a copy"):
            stories.download(tmp_path)
        assert not list(tmp_path.iterdir())

    def test_what_is_not_there_is_named(self, address, tmp_path, monkeypatch):
        monkeypatch.setattr(stories, "URL", f"{address}.gz")
        with pytest.raises(ArchiveError, match=r"could not be downloaded \(HTTP Error 404.*name a copy"):
            stories.download(tmp_path)

    def test_is_given_up_where_nobody_answers(self, tmp_path, monkeypatch):
        monkeypatch.setattr(stories, "_PATIENCE", 0.2)
        with socket.create_server(("127.0.0.1", 0)) as server:  # It takes a connection, and that is all.
            monkeypatch.setattr(stories, "URL", f"http://127.0.0.1:{server.getsockname()[1]}/babi.tar.gz")
            with pytest.raises(ArchiveError, match=r"could not be downloaded \(.*name a copy of it"):
                stories.download(tmp_path)
        assert stories._PATIENCE < 20

    @pytest.mark.parametrize(
        ("answer", "message"),
        [
            (b"HTTP/1.0 200 OK\r\nContent-Length: 15719851\r\n\r\n", "not all of it arrived in 0.3 seconds"),
            (b"220 no HTTP\r\n", "the answer is not as HTTP has it: BadStatusLine"),
        ],
        ids=["trickles", "of another kind"],
    )
    def test_is_given_up_where_it_does_not_come(self, answer, message, tmp_path, monkeypatch):
        monkeypatch.setattr(stories, "_DEADLINE", 0.3)
        given_up = threading.Event()

        def serve(server):
            connection, _ = server.accept()
            connection.settimeout(10)
            with connection, contextlib.suppress(OSError):
                connection.sendall(answer)
                while not given_up.wait(0.02):
                    connection.sendall(b".")

        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(10)  # Or a download that never came would keep the tests waiting.
            thread = threading.Thread(target=serve, args=(server,), daemon=True)
            thread.start()
            monkeypatch.setattr(stories, "URL", f"http://127.0.0.1:{server.getsockname()[1]}/babi.tar.gz")
            try:
                with pytest.raises(ArchiveError, match=rf"could not be downloaded \({message}.*\); name a copy of it"):
                    stories.download(tmp_path)
            finally:
                given_up.set()
                thread.join(timeout=10)
                assert not thread.is_alive()
        assert not list(tmp_path.iterdir())


def test_an_archive_is_named_by_argument_or_environment(archive, tmp_path, monkeypatch):
    assert named_archive(None) is None
    with pytest.raises(FileNotFoundError, match=r"archive=.*/none: there is no such file"):
        named_archive(tmp_path / "none")
    monkeypatch.setenv("BABI_ARCHIVE", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError, match=r"BABI_ARCHIVE=.*/none: there is no such file"):
        named_archive(None)
    monkeypatch.setenv("BABI_ARCHIVE", "x" * 5000)
    with pytest.raises(FileNotFoundError, match=r"BABI_ARCHIVE=x+: there is no such file"):
        named_archive(None)
    assert named_archive(archive) == archive
    monkeypatch.setenv("HERE", str(archive.parent))
    assert named_archive(f"$HERE/{archive.name}") == archive
    monkeypatch.setenv("HOME", str(archive.parent))
    assert named_archive(f"~/{archive.name}") == archive
    monkeypatch.setenv("BABI_ARCHIVE", str(archive))
    assert named_archive(None) == archive
