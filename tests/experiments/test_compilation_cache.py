"""Compiled programs are kept where the user's caches are, and a run goes on without if they cannot be."""

import jax
import jax.numpy as jnp
import pytest

from experiments import compilation_cache


@pytest.fixture
def untold(monkeypatch):
    """JAX was not told where to keep anything, and keeps whatever it may."""
    options = {
        "jax_compilation_cache_dir": None,
        "jax_compilation_cache_max_size": -1,
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
    before = {name: getattr(jax.config, name) for name in options}
    for name, value in options.items():
        jax.config.update(name, value)
    jax.experimental.compilation_cache.compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    jax.experimental.compilation_cache.compilation_cache.reset_cache()


@pytest.fixture
def events():
    """What JAX tells of its cache."""
    told = []

    def listen(event, **_):
        told.append(event.rpartition("/")[2])

    jax.monitoring.register_event_listener(listen)
    yield told
    jax.monitoring.unregister_event_listener(listen)


def test_programs_are_kept_below_xdg_cache_home_and_found_again(untold, events, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compilation_cache.use()
    (directory,) = (tmp_path / "mnm_jax" / "xla").iterdir()
    assert jax.config.jax_compilation_cache_dir == str(directory)
    hits = []
    for _ in range(2):
        events.clear()
        assert jax.jit(lambda x: jnp.sin(x) + 12345.0)(0.0) == 12345.0
        hits.append(events.count("cache_hits"))
    assert hits[0] < hits[1]


def test_programs_are_kept_at_home_otherwise_and_where_jax_was_told(untold, tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    compilation_cache.use()
    assert jax.config.jax_compilation_cache_dir.startswith(f"{tmp_path}/.cache/mnm_jax/xla/")
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "told"))
    compilation_cache.use()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "told")


def test_what_cannot_be_written_is_warned_of(untold, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").write_text("precious")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    compilation_cache.use()
    assert jax.config.jax_compilation_cache_dir is None
    err = capsys.readouterr().err
    assert err.startswith(f"warning: {tmp_path}/file/mnm_jax/xla/")
    assert "cannot be written, so compiled programs are not kept: " in err
    assert err.count("\n") == 1
