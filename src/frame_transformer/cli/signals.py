"""Signals that end a command."""

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

AUDIO = "frame_transformer.audio."
RETRY_SECONDS, PATIENCE_SECONDS = 0.02, 2.0


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Ends the command on Ctrl-C, SIGTERM and SIGHUP by an exception, so that unfinished files are removed.

    A signal that is ignored, such as SIGHUP under nohup, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    end = _End()
    for name in {"SIGINT", "SIGTERM", "SIGHUP"} & set(signal.Signals.__members__):
        if signal.getsignal(signal.Signals[name]) in (signal.SIG_DFL, signal.default_int_handler):
            end.handle(signal.Signals[name])
    try:
        yield
    finally:
        end.restore()


class _End:
    """A handler that raises SystemExit, though not while files are read or written, where PyAV may lose an exception or
    end the process at once: then it tries again soon. A second signal does not wait."""

    def __init__(self) -> None:
        self.number = 0
        self.deadline = 0.0
        self.previous: dict[signal.Signals, Any] = {}

    def handle(self, number: signal.Signals) -> None:
        self.previous.setdefault(number, signal.signal(number, self))

    def restore(self) -> None:
        if hasattr(signal, "SIGALRM") and signal.SIGALRM in self.previous:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if not self.number:
            self.number, self.deadline = number, time.monotonic() + PATIENCE_SECONDS
        elif number in (signal.SIGINT, signal.SIGTERM):
            self.deadline = 0.0
        if hasattr(signal, "SIGALRM") and time.monotonic() < self.deadline and _handles_audio(frame):
            self.handle(signal.SIGALRM)
            signal.setitimer(signal.ITIMER_REAL, RETRY_SECONDS)
        else:
            sys.exit(128 + self.number)


def _handles_audio(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith(AUDIO):
            return True
        frame = frame.f_back
    return False
