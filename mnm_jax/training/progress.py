"""What a run says of itself while it goes on, and how it can be stopped where it cannot look up."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import tqdm

_POLL_SECONDS = 0.1


class CompilationStopped(Exception):  # noqa: N818 - it is no error.
    """A run was to stop while it compiled, and did not wait for that. Whatever it had learned is saved."""


class Progress:
    """Tells on standard error how a run goes on: a bar in a terminal, elsewhere a line for each evaluation.

    Of several processes only the first one tells.
    """

    def __init__(self, description: str, num_updates: int, headline: str) -> None:
        self._description = description
        self._num_updates = num_updates
        self._headline = headline
        self._is_shown = jax.process_index() == 0
        self._update = self._first_update = 0
        self._start, self._compiling_seconds = time.monotonic(), 0.0
        self._bar = tqdm.tqdm(disable=True)

    def begin(self, update: int) -> None:
        """The updates begin, or go on, after so many."""
        self._update = self._first_update = update
        self._start, self._compiling_seconds = time.monotonic(), 0.0
        is_shown = self._is_shown and sys.stderr.isatty()
        self._bar = tqdm.tqdm(
            desc=self._description, total=self._num_updates, initial=update, unit="update", disable=not is_shown
        )

    def say(self, text: str) -> None:
        """Prints a line."""
        if self._is_shown:
            name = f"{self._description}: " if self._description else ""
            self._bar.write(f"{name}{text}", file=sys.stderr)
            sys.stderr.flush()

    @contextlib.contextmanager
    def compiling(self, what: str) -> Iterator[None]:
        """Says what is compiled and made for the first time, and how long that took."""
        self.say(f"compiling {what}")
        start = time.monotonic()
        yield
        seconds = time.monotonic() - start
        self._compiling_seconds += seconds
        self.say(f"compiled {what} in {seconds:.1f} s")

    def advance(self, update: int) -> None:
        """So many updates were made."""
        self._bar.update(update - self._update)
        self._update = update

    def evaluated(self, value: float) -> None:
        """An evaluation gave the headline metric this value, the mean over seeds."""
        self._bar.set_postfix({self._headline: f"{value:.3f}"})
        if self._bar.disable and self._update > self._first_update:
            seconds = max(time.monotonic() - self._start - self._compiling_seconds, 1e-9)
            speed = (self._update - self._first_update) / seconds
            left = tqdm.tqdm.format_interval((self._num_updates - self._update) / speed)
            self.say(
                f"update {self._update} of {self._num_updates}, {self._headline} {value:.3f}, "
                f"{speed:.3g} updates per second, {left} left"
            )

    def close(self) -> None:
        """Leaves the bar as it is."""
        self._bar.close()


def call_stoppable(function: Callable[[], Any], should_give_up: Callable[[], bool] | None) -> Any:
    """Calls a function that may take long to compile, which nothing can interrupt.

    Args:
      function: what to call. With `should_give_up` it runs in a thread, which sees the global settings of JAX but no
        `with` around this call. When it is not waited for it is left alone: the program should then end by `os._exit`.
      should_give_up: asked ten times a second. `None`, or several processes, which can only stop together: waits.

    Returns:
      What the function gave.

    Raises:
      CompilationStopped: if it is not waited for.
    """
    if should_give_up is None or jax.process_count() > 1:
        return function()
    results: list[Any] = []
    errors: list[BaseException] = []

    def call() -> None:
        try:
            results.append(function())
        except BaseException as error:  # Raised where the call was made.
            errors.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_POLL_SECONDS)
        if thread.is_alive() and should_give_up():
            raise CompilationStopped
    if errors:
        raise errors[0]
    return results[0]
