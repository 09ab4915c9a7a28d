"""What every test may use."""

import os

# Several processes may run tests on one accelerator, so none may take all of its memory at the start.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import pytest

# The property suite is no test module, but its assertions shall be as talkative as theirs.
pytest.register_assert_rewrite("writer_suite")

# Accelerators round the factors of a matrix product to fewer bits by default; the tolerances here do not allow for it.
jax.config.update("jax_default_matmul_precision", "highest")


@pytest.fixture(scope="module")
def quick_compilation():
    """Compiles a module's tests with little optimization: they run small programs, and each only a few times."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def float64():
    """Runs a test in double precision."""
    with jax.enable_x64(True):
        yield
