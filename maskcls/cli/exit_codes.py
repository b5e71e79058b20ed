"""Error messages and exit codes of commands."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

from maskcls.system.console import error_console, exit_on_error, is_main_process
from maskcls.system.signals import ends_early, exit_code, report_killed_workers_once, stop_on_signals
from maskcls.system.streams import prepare_streams


def run_command(main: Callable[[], Any]) -> Callable[[], Any]:
    """Wrap a function as a command: exit code 2 after an error's message, 128 + the number of a signal.

    A run that a W&B sweep ends early has exit code 0.
    """

    @functools.wraps(main)
    def guarded() -> Any:
        report_killed_workers_once()
        prepare_streams()
        try:
            with stop_on_signals():
                return exit_on_error(main)
        except KeyboardInterrupt as stop:
            if is_main_process():
                message = "interrupted; run the same command to resume from the last completed epoch"
                error_console.print(message, markup=False)
            sys.exit(0 if ends_early(stop) else exit_code(stop))

    return guarded
