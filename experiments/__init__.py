"""Programs that train models and show what they learned."""

from mnm_jax import _extras

try:
    _extras.require("mnm-jax", "experiments", "absl", "filelock", "matplotlib", "ml_collections", "orbax", "tqdm")
except ModuleNotFoundError as error:
    raise SystemExit(f"error: {error}") from error  # Whoever starts a program gets one line.
