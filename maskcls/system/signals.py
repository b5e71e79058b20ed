"""Signal handling: SIGTERM and SIGHUP stop a command like Ctrl-C, each with its own exit code."""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NAMES = ("SIGTERM", "SIGHUP")  # sent by SLURM, Kubernetes and `timeout`; sent when the terminal closes
GRACE = 0.3  # seconds to wait for a signal of the process group that killed a child first


UNWINDING = 10.0  # seconds a stopped process gets to unwind; a later signal raises again, or its parent kills it


class Stopped(KeyboardInterrupt):
    """Signal that stops the command, raised in the main thread."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.code = 128 + number


def exit_code(stop: KeyboardInterrupt) -> int:
    """Return the exit code of a stopped command, as in a shell: 128 + signal number."""
    return stop.code if isinstance(stop, Stopped) else 128 + signal.SIGINT


def ends_early(stop: BaseException | None) -> bool:
    """Return True if a W&B sweep ends its run early: its agent sends SIGTERM, and a code above 0 is a crash to it.

    With 0 the run is finished for W&B, and its search uses the best score so far
    (https://docs.wandb.ai/models/sweeps/signal-handling-sweep-runs).
    """
    return isinstance(stop, Stopped) and stop.code == 128 + signal.SIGTERM and "WANDB_SWEEP_ID" in os.environ


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Context manager that turns SIGTERM and SIGHUP into Stopped.

    Further signals within UNWINDING seconds are ignored; a later one raises again, because Python drops an exception
    that a handler raises in a finalizer. A signal that is already ignored, as under nohup, stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
    handlers = {number: signal.getsignal(number) for number in numbers}
    caught = [number for number in numbers if handlers[number] is signal.SIG_DFL]
    owner, since = os.getpid(), -math.inf

    def stop(number: int, frame: Any) -> None:
        nonlocal since
        if os.getpid() != owner:  # in a forked process the default action applies
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
            signal.signal(number, handlers[number])


def report_killed_workers_once() -> None:
    """Silence torch's error of a killed loader worker where Python cannot raise it, as in a finalizer.

    That error, or the signal that killed the worker too, is reported already. Other such errors are printed as ever.
    """

    def report(unraised: Any) -> None:
        if "DataLoader worker" not in str(unraised.exc_value):
            sys.__unraisablehook__(unraised)

    sys.unraisablehook = report


def await_signal(error: Exception) -> Exception:
    """Wait a moment after an error and return it: a signal to the process group may have reached a child process first.

    torch raises the error of a killed loader worker in a signal handler, sometimes only here, after that of the broken
    connection to the worker: then it is returned.
    """
    try:
        time.sleep(GRACE)
    except RuntimeError as cause:
        return cause
    return error
