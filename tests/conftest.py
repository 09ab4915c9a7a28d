"""What every test may use."""

import gc
import os
import subprocess
import sys

# Several processes may run tests on one accelerator, so none may take all of its memory at the start.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import jax
import pytest

# The property suite is no test module, but its assertions shall be as talkative as theirs.
pytest.register_assert_rewrite("writer_suite")

# Nearly all the time of the tests is compilation, and on a CPU most of that is for speed that small programs do not
# need. What `XLA_FLAGS` says already comes later and wins.
QUICK_XLA = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"


def set_quick_xla():
    """For this process and all that it starts. A jaxlib without these flags would end, so another process tries."""
    program = [sys.executable, "-c", "import jax; jax.devices('cpu')"]
    flags = f"{QUICK_XLA} {os.environ.get('XLA_FLAGS', '')}".strip()
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    if subprocess.run(program, env=environment, capture_output=True).returncode == 0:
        os.environ["XLA_FLAGS"] = flags


# Workers of pytest-xdist have it from the process that started them.
if QUICK_XLA not in os.environ.get("XLA_FLAGS", ""):
    set_quick_xla()

# Tracing makes millions of small objects that stay: looking through them for what may go takes a twentieth of the time.
gc.set_threshold(200_000, 50, 50)

# Two devices, for tests of what is spread over several. Where accelerators are, those are taken.
jax.config.update("jax_num_cpu_devices", 2)

# Accelerators round the factors of a matrix product to fewer bits by default; the tolerances here do not allow for it.
jax.config.update("jax_default_matmul_precision", "highest")


# Those that take longest; most of them start processes.
SLOWEST = (
    "test_processes.py",
    "test_babi.py",
    "test_settings.py",
    "test_kills.py",
    "test_training.py",
    "test_speed.py",
    "test_unroll.py",
    "test_bucketed_task.py",
    "test_mnm.py",
    "test_writers.py",
    "test_devices.py",
)


def pytest_collection_modifyitems(items):
    """The slowest files come first: a worker that began one of them at the end would keep the others waiting."""
    items.sort(key=lambda item: SLOWEST.index(item.path.name) if item.path.name in SLOWEST else len(SLOWEST))


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
