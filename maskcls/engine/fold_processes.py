"""Folds in parallel processes, which end with this one."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from maskcls.components.loggers.base import LogFn
from maskcls.core.config import Config
from maskcls.core.errors import MaskclsError, RunError, as_user_error
from maskcls.data.pixel_cache import load_pixels
from maskcls.engine.experiment import Experiment
from maskcls.engine.fold import train_fold
from maskcls.storage.run import Run
from maskcls.system import console
from maskcls.system.processes import exit_with_parent
from maskcls.system.signals import UNWINDING, await_signal, exit_code, report_killed_workers_once, stop_on_signals


def train_in_processes(
    experiment: Experiment, folds: Sequence[int], num_processes: int, log: LogFn,
    should_stop: Callable[[Run, int], bool],
) -> None:  # fmt: skip
    """Train folds in `num_processes` processes that share this one's threads; an error in one is raised here.

    After `should_stop` no further fold is started. The processes end with this one, however it ends.
    """
    context, remaining = multiprocessing.get_context("spawn"), list(folds)
    threads = max(torch.get_num_threads() // num_processes, 1)
    running: dict[Any, tuple[int, Any]] = {}
    try:
        while remaining or running:
            while remaining and len(running) < num_processes:
                receiver, sender = context.Pipe(duplex=False)
                k = remaining.pop(0)
                args = (experiment.cfg, experiment.run, experiment.table, k, threads, sender)
                process = context.Process(target=fold_worker, args=args)
                process.start()
                sender.close()  # so that the end of the process is the end of the pipe
                running[receiver] = (k, process)
            for pipe in wait(list(running)):
                if not receive(pipe, *running[pipe], log):
                    k, _ = running.pop(pipe)
                    remaining = [] if should_stop(experiment.run, k) else remaining
    finally:
        for pipe, (_, process) in running.items():
            pipe.close()  # without a reader: a process that sends would wait forever
            process.terminate()
        for _, process in running.values():
            process.join(UNWINDING)
            process.kill()  # no effect on a process that has ended
            process.join()


def receive(pipe: Any, k: int, process: Any, log: LogFn) -> bool:
    """Log the epoch that the process of fold k sends, or raise its error; return False at its end."""
    try:
        message = pipe.recv()
    except EOFError:
        process.join()
        if code := process.exitcode:
            hint = "Run the same command to resume"
            raise RunError(f"fold {k}: its process exited with code {code}. {hint}") from None
        return False
    if isinstance(message, MaskclsError):
        raise message
    log(message)
    return True


def fold_worker(cfg: Config, run: Run, table: pd.DataFrame, k: int, threads: int, pipe: Connection) -> None:
    """Train fold k in this process, which ends with its parent."""
    exit_with_parent()
    torch.set_num_threads(threads)
    console.share_terminal()
    report_killed_workers_once()
    try:
        with stop_on_signals():
            pixels = load_pixels(table, cfg.crop, Path(cfg.cache_dir))
            hardware = cfg.hardware.build()
            hardware = replace(hardware, workers=-(-hardware.workers // hardware.folds_at_once))
            train_fold(Experiment(cfg, run, table, pixels, hardware), k, pipe.send)
    except BrokenPipeError:  # the parent is ending and has reported why
        sys.exit(1)
    except KeyboardInterrupt as stop:  # the parent reports it too; this exit ends the loader's workers
        sys.exit(exit_code(stop))
    except Exception as error:
        error = await_signal(error)
        pipe.send(as_user_error(error))  # a bug is raised here, with its traceback
