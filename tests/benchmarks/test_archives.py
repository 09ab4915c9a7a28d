"""Archives that were tampered with are read, or refused in one line."""

from benchmarks import archives


def test_a_tampered_archive_is_read_or_refused_in_one_line(tmp_path):
    outcome = archives.run(tmp_path, num_archives=300, seed=1)
    assert outcome.failures == []
    assert outcome.read.total() + outcome.refused.total() == 300
    # Each kind of change is among them, and changes that do no harm are.
    assert set(outcome.refused) >= set(archives.KINDS) - {"bombs"}
    assert outcome.read.total() > 10
    assert not list(tmp_path.glob("*.gz"))


def test_the_archive_is_whole_before_it_is_changed(tmp_path):
    path = tmp_path / "archive.tar.gz"
    path.write_bytes(archives.gzip.compress(archives.pack(archives.make_contents())))
    data = archives.babi.load("en", (1, 2), archive=path, cache_directory=tmp_path)
    assert (data.train.num_episodes, data.validation.num_episodes, data.test.num_episodes) == (6, 2, 4)
