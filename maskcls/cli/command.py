"""Commands: errors as messages, exit codes."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

from maskcls.system.console import error_console, exit_on_error, is_main_process
from maskcls.system.signals import exit_code, stop_on_signals
from maskcls.system.streams import prepare_streams


def hushed(unraised: Any) -> None:
    """Leave out what torch's loader says while it ends after one of its workers was killed: that is told already."""
    if "DataLoader worker" not in str(unraised.exc_value):
        sys.__unraisablehook__(unraised)


def run_command(main: Callable[[], Any]) -> Callable[[], Any]:
    """Make a command of a function: a fault is its sentence and exit code 2, a signal 128 + its number."""

    @functools.wraps(main)
    def guarded() -> Any:
        sys.unraisablehook = hushed
        prepare_streams()
        try:
            with stop_on_signals():
                return exit_on_error(main)
        except KeyboardInterrupt as stop:
            if is_main_process():
                error_console.print("stopped; the same command goes on from the last whole epoch", markup=False)
            sys.exit(exit_code(stop))

    return guarded
