"""Signals that stop a command: SIGTERM and SIGHUP unwind it as Ctrl-C does, each with an exit code of its own."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NAMES = ("SIGTERM", "SIGHUP")  # what SLURM, Kubernetes and `timeout` send; a closed terminal
GRACE = 0.3  # seconds between the death of a child and the signal that killed it, where both had the same one


UNWINDING = 10.0  # seconds in which a stopped process unwinds: a later signal raises again, or its parent kills it


class Stopped(KeyboardInterrupt):
    """A signal that ends the command, raised wherever the main thread was."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.code = 128 + number


def exit_code(stop: KeyboardInterrupt) -> int:
    """Return the exit code of a stopped command, by the shell's rule: 128 + the signal's number."""
    return stop.code if isinstance(stop, Stopped) else 128 + signal.SIGINT


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Context manager that turns SIGTERM and SIGHUP into Stopped.

    Signals that follow at once do not disturb the unwinding; after UNWINDING seconds the next one raises again, for
    Python drops an exception that a handler raises within a finalizer. A signal that is ignored already, as under
    nohup, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    caught = [number for number in numbers if before[number] is signal.SIG_DFL]
    owner, since = os.getpid(), -math.inf

    def stop(number: int, frame: Any) -> None:
        nonlocal since
        if os.getpid() != owner:  # a forked process ends as if there were no handler
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if time.monotonic() - since > UNWINDING:
            since = time.monotonic()
            raise Stopped(number)

    for number in caught:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in caught if math.isinf(since) else ():
            signal.signal(number, before[number])


def await_signal() -> None:
    """Wait a moment after a failure: a signal to the whole process group may have reached a child before this one."""
    time.sleep(GRACE)
