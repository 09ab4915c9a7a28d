"""A writer that takes a minute to compile, for programs that shall not wait for it."""

import dataclasses
import time

from experiments import launcher
from mnm_jax import writers

launcher._PATIENCE_SECONDS = 0.5


@dataclasses.dataclass(frozen=True)
class Slow(writers.Writer):
    def write(self, *arguments):
        time.sleep(60)
        return writers.gradient().write(*arguments)
