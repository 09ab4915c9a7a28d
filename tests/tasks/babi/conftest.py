"""What the tests of the bAbI data share."""

import pytest
from small_archive import make_contents, write_archive


@pytest.fixture(autouse=True)
def no_archive_named(monkeypatch):
    monkeypatch.delenv("BABI_ARCHIVE", raising=False)


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    return write_archive(tmp_path_factory.mktemp("archive") / "babi.tar.gz", make_contents())


@pytest.fixture
def make_archive(tmp_path):
    """Makes an archive that is changed: contents by name, `None` where a file is to be missing."""

    def make(changes):
        contents = make_contents() | changes
        return write_archive(tmp_path / "changed.tar.gz", {k: v for k, v in contents.items() if v is not None})

    return make
