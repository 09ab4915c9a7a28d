"""The command `mnm-jax`; all that programs share and that defines no flags is imported, so that each starts at once."""

from experiments import plot  # noqa: F401
from experiments.main import run  # noqa: F401
