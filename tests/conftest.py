"""What every test may use."""

import jax
import pytest

# The property suite is no test module, but its assertions shall be as talkative as theirs.
pytest.register_assert_rewrite("writer_suite")

# Accelerators round the factors of a matrix product to fewer bits by default; the tolerances here do not allow for it.
jax.config.update("jax_default_matmul_precision", "highest")


@pytest.fixture
def float64():
    """Runs a test in double precision."""
    with jax.enable_x64(True):
        yield
