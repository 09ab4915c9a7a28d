"""What importing the package costs."""

import json
import subprocess
import sys

HEAVY = ("tensorflow", "tensorflow_datasets", "datasets", "matplotlib", "orbax")
# What only training, figures and programs need.
EXTRAS = ("absl", "filelock", "matplotlib", "ml_collections", "orbax", "scipy", "tensorboardX", "tqdm")

PROGRAM = f"""
import json, sys, time
import flax, jax, optax
before = time.perf_counter()
import mnm_jax
seconds = time.perf_counter() - before
print(json.dumps([seconds, [name for name in {HEAVY} if name in sys.modules]]))
"""

ATTEMPTS = 3
MAX_SECONDS = 1.0


def test_import_is_light():
    """Nothing heavy comes along, and the import takes at most a second longer than that of its dependencies."""
    seconds = []
    # The best of a few attempts: a busy machine can make any one of them slow.
    while len(seconds) < ATTEMPTS and (not seconds or min(seconds) > MAX_SECONDS):
        run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
        extra, heavy = json.loads(run.stdout)
        assert heavy == []
        seconds.append(extra)
    assert min(seconds) <= MAX_SECONDS


MISSING = """
import json, sys
sys.modules.update(dict.fromkeys({ours!r}))  # As if they were not installed.
import mnm_jax.models, mnm_jax.tasks
sys.modules.update(dict.fromkeys({theirs!r}))
messages = []
for module in {modules!r}:
    try:
        __import__(module)
    except (ImportError, SystemExit) as error:
        messages.append(str(error))
print(json.dumps(messages))
"""


def test_the_core_needs_no_extra_and_the_rest_says_which_it_needs():
    theirs = {"absl", "orbax", "scipy"}  # Flax and jax bring them in any case.
    modules = ["mnm_jax.training", "mnm_jax.analysis.curves", "experiments.main"]
    program = MISSING.format(ours=[*{*EXTRAS} - theirs], theirs=[*theirs], modules=modules)
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == [
        "mnm_jax.training needs orbax, tqdm: pip install 'mnm_jax[training]'",
        "mnm_jax.analysis needs matplotlib, scipy: pip install 'mnm_jax[experiments]'",
        "error: mnm-jax needs absl, filelock, matplotlib, ml_collections, orbax, tqdm: "
        "pip install 'mnm_jax[experiments]'",
    ]
