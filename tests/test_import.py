"""What importing the package costs."""

import json
import subprocess
import sys

HEAVY = ("tensorflow", "tensorflow_datasets", "datasets", "matplotlib", "orbax")

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
