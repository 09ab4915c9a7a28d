"""Polite ends: SIGTERM and Ctrl-C ask a program to stop; a second Ctrl-C stops it at once."""

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import NoReturn, Self

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# How long an end at once waits for whoever reads what was printed.
_PATIENCE_SECONDS = 0.5


class Interruption:
    """While it is entered, notes SIGTERM and SIGINT instead of letting them end the program.

    A handler in Python would not run while a compiled function does. So the signals are read from the descriptor that
    the interpreter writes their numbers to, by a thread.

    Attributes:
      signal: the signal that came, if one did.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._ends_at_once = False
        # Or a signal might be noted right after `ending_at_once` had looked for one, and nobody would ask again.
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        """Begins to listen."""
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._old_descriptor = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        # A handler must be there for the number to be written; it need not do anything.
        self._old_handlers = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Puts everything back. A signal that came before is in `signal` afterwards."""
        for number, handler in self._old_handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._old_descriptor)
        self._writer.close()
        self._listener.join(_PATIENCE_SECONDS)

    @property
    def exit_code(self) -> int:
        """What a shell expects of a program that a signal ended; 0 if none came."""
        return 0 if self.signal is None else 128 + self.signal

    @contextlib.contextmanager
    def ending_at_once(self) -> Iterator[None]:
        """While this is entered, a signal ends the program where it is. For what can be done again at any time."""
        with self._lock:
            self._ends_at_once = True
            came = self.signal
        if came is not None:  # It came after it had been asked for the last time.
            _end(came)
        try:
            yield
        finally:
            with self._lock:
                self._ends_at_once = False

    def _listen(self) -> None:
        while data := self._reader.recv(1):
            received = signal.Signals(data[0])
            if received == signal.SIGINT and self.signal is not None:
                end_at_once(128 + received)
            if received not in _SIGNALS:
                continue
            with self._lock:
                ends_at_once, is_first = self._ends_at_once, self.signal is None
                if is_first and not ends_at_once:
                    self.signal = received
            if ends_at_once:
                _end(received)
            elif is_first:
                again = "; once more to stop at once" if received == signal.SIGINT else ""
                print(f"\n{received.name}: stopping after this chunk{again}", file=sys.stderr, flush=True)
        self._reader.close()


def end_at_once(code: int) -> NoReturn:
    """Ends the program whatever its threads do; what was printed is not lost, if somebody reads it."""
    # In a thread, for the main one may hold the stream, and wait for a reader that does not read.
    flushing = threading.Thread(target=_flush, daemon=True)
    flushing.start()
    flushing.join(_PATIENCE_SECONDS)
    os._exit(code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # Its reader may have gone.
            stream.flush()


def _end(received: signal.Signals) -> NoReturn:
    with contextlib.suppress(OSError, ValueError):
        print(f"\n{received.name}: ended; all training is saved", file=sys.stderr)
    end_at_once(128 + received)
