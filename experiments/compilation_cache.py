"""Compiled programs, kept for later runs."""

import hashlib
import pathlib
import platform
import sys
import tempfile

import jax

from mnm_jax import _paths

# The least recently used ones make room.
_MAX_BYTES = 2**31


def use() -> None:
    """Lets JAX keep compiled programs in the user's cache directory, unless it was told another.

    A directory that cannot be written is warned of.
    """
    if jax.config.jax_compilation_cache_dir is not None:  # type: ignore[attr-defined]  # JAX defines it at run time.
        return
    directory = _paths.user_cache() / "mnm_jax" / "xla" / _processor()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        print(f"warning: {directory} cannot be written, so compiled programs are not kept: {error}", file=sys.stderr)
        return
    jax.config.update("jax_compilation_cache_max_size", _MAX_BYTES)
    jax.config.update("jax_compilation_cache_dir", str(directory))


def _processor() -> str:
    """A name for the processor: several kinds may share a home directory, and none can run the programs of another."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        description = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        description = platform.processor()
    return f"{platform.machine()}-{hashlib.sha256(description.encode()).hexdigest()[:12]}"
