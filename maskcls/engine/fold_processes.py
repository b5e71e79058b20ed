"""Folds side by side: each in a process of its own, which ends with this one."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.console import Console

from maskcls.components.hardware import Hardware
from maskcls.components.logger import LogFn
from maskcls.core.config import Config
from maskcls.core.errors import MaskclsError, RunError, as_user_error
from maskcls.data.pixel_cache import Pixels, load_pixels
from maskcls.engine import fold
from maskcls.storage.run import Run
from maskcls.system import console, distributed
from maskcls.system.files import file_lock
from maskcls.system.processes import exit_with_parent
from maskcls.system.signals import UNWINDING, await_signal, exit_code, stop_on_signals


def train_fold(
    cfg: Config, place: Run, table: pd.DataFrame, photos: Pixels, k: int, hardware: Hardware, log: LogFn
) -> None:
    """Train fold k under a lock that the first rank holds for all of them."""
    held = file_lock(place.lock_path(k), lambda: console.info("this fold is trained elsewhere; waiting"))
    with held if console.is_main_process() else nullcontext():
        distributed.barrier()
        fold.train_fold(cfg, place, table, photos, k, hardware, log)


def train_folds(cfg: Config, place: Run, table: pd.DataFrame, wanted: Sequence[int], at_once: int, log: LogFn) -> None:
    """Train folds in processes, `at_once` at a time, which share this one's threads; a child's fault is raised here.

    The processes end where this one does, however it ends.
    """
    context, waiting = multiprocessing.get_context("spawn"), list(wanted)
    threads = max(torch.get_num_threads() // at_once, 1)
    running: dict[Any, tuple[int, Any]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                mine, theirs = context.Pipe(duplex=False)
                process = context.Process(target=fold_worker, args=(cfg, place, table, waiting[0], threads, theirs))
                process.start()
                theirs.close()  # so that the end of the process is the end of the pipe
                running[mine] = (waiting.pop(0), process)
            for pipe in wait(list(running)):
                if not receive(pipe, *running[pipe], log):
                    del running[pipe]
    finally:
        for pipe, (_, process) in running.items():
            pipe.close()  # nobody reads it any more: a child that sends would wait for ever
            process.terminate()
        for _, process in running.values():
            process.join(UNWINDING)
            process.kill()  # of no effect on one that has ended
            process.join()


def receive(pipe: Any, k: int, process: Any, log: LogFn) -> bool:
    """Take what a fold's process says and tell whether it goes on: an epoch's numbers, or the fault that ended it."""
    try:
        said = pipe.recv()
    except EOFError:
        process.join()
        if process.exitcode:
            raise RunError(f"the process of fold {k} ended with code {process.exitcode}: ask again to go on") from None
        return False
    if isinstance(said, MaskclsError):
        raise said
    log(said)
    return True


def fold_worker(cfg: Config, place: Run, table: pd.DataFrame, k: int, threads: int, pipe: Connection) -> None:
    """Train one fold in this process, which ends with its parent."""
    exit_with_parent()
    torch.set_num_threads(threads)
    # without bars: those of several folds would overwrite each other
    console.console = Console(highlight=False, emoji=False, soft_wrap=True, force_terminal=False)
    try:
        with stop_on_signals():
            photos = load_pixels(table, cfg.crop, Path(cfg.cache_dir))
            whole = cfg.hardware.build()
            share = replace(whole, workers=-(-whole.workers // whole.folds_at_once))
            train_fold(cfg, place, table, photos, k, share, pipe.send)
    except BrokenPipeError:  # the parent is ending, and has said why
        sys.exit(1)
    except KeyboardInterrupt as stop:  # the parent has it too, and says so; leaving this way ends the loader's workers
        sys.exit(exit_code(stop))
    except Exception as error:
        await_signal()
        pipe.send(as_user_error(error))  # a bug is raised here, with its trace
