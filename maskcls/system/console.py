"""Terminal output: messages, tables, progress bars (plain lines outside a terminal), errors and durations."""

from __future__ import annotations

import functools
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from maskcls.core.errors import ConfigError, DataError, MaskclsError, as_user_error
from maskcls.system.redaction import redact
from maskcls.system.signals import await_signal

CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
is_terminal = sys.stdout is not None and sys.stdout.isatty()  # None where standard output is closed
WIDE = None if is_terminal or "COLUMNS" in os.environ else 160  # a file or a pipe has no width
console = Console(highlight=False, emoji=False, soft_wrap=True, width=WIDE)
error_console = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)


heading = ""  # prefix of the fold names in progress output
prefix = ""  # of each line, of a process that shares the terminal with others


@contextmanager
def progress_prefix(name: str) -> Iterator[None]:
    """Context manager that puts a prefix before the names of folds."""
    global heading
    heading, previous = f"{name} · ", heading
    try:
        yield
    finally:
        heading = previous


def share_terminal() -> None:
    """Print no progress bars: those of several processes would overwrite each other."""
    global console
    console = Console(highlight=False, emoji=False, soft_wrap=True, force_terminal=False, width=WIDE)


@contextmanager
def line_prefix(text: str) -> Iterator[None]:
    """Context manager that puts a prefix before each line of a process that shares the terminal with others."""
    global console, prefix
    before = console, prefix
    share_terminal()
    prefix = f"{text} "
    try:
        yield
    finally:
        console, prefix = before


def is_main_process() -> bool:
    """Return True if this process has rank 0, the only rank that prints."""
    return os.environ.get("RANK", "0") == "0"


def escape_controls(text: str, keep: str = "\n\t") -> str:
    """Return a text with its control characters escaped, such as \\x1b, except those in `keep`.

    The name of a file may contain terminal sequences: colors, titles, cursor moves, or a change of writing direction.
    """
    return CONTROLS.sub(lambda match: match[0] if match[0] in keep else ascii(match[0])[1:-1], text)


def escape_value(value: Any) -> Any:
    """Return a template value with control characters escaped in text; markup is returned unchanged."""
    return escape_controls(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def info(text: str, style: str = "") -> None:
    """Print a line on rank 0, without interpreting markup."""
    if is_main_process():
        console.print(escape_controls(prefix + redact(text)), style=style or None, markup=False)


@functools.cache
def info_once(text: str) -> None:
    """Print a message only the first time that this process emits it."""
    info(text, "yellow")


@functools.cache
def warn_once(text: str) -> None:
    """Print a warning to standard error on rank 0, only the first time that this process emits it."""
    if is_main_process():
        error_console.print(escape_controls(prefix + redact(f"warning: {text}")), style="yellow", markup=False)


def track(items: Iterable[Any], total: int, what: str = "drawing") -> Iterator[Any]:
    """Yield items under a progress bar that disappears at the end."""
    if not console.is_terminal or not is_main_process():
        yield from items
        return
    with build_progress() as progress:
        task = progress.add_task(what, total=total, info="")
        for item in items:
            yield item
            progress.advance(task)


def build_progress() -> Progress:
    """Return an empty rich Progress with the columns of all progress bars."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn())
    return Progress(*columns, TimeRemainingColumn(), TextColumn("{task.fields[info]}"), console=console, transient=True)


class FoldProgress:
    """Progress of one fold: a bar over its batches and a line for each epoch."""

    def __init__(self, label: str, batches: int, done: int = 0) -> None:
        label = self.label = heading + label
        self.seen, self.info = 0, ""
        self.started_at = time.monotonic()
        self.progress = build_progress() if console.is_terminal and is_main_process() else None
        self.task = self.progress.add_task(label, total=batches, completed=done, info="") if self.progress else None

    def __enter__(self) -> FoldProgress:
        if self.progress:
            self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.progress:
            self.progress.stop()

    def __call__(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Yield batches while updating the bar and the rate in images/s."""
        self.seen, self.started_at = 0, time.monotonic()
        for batch in batches:
            yield batch
            self.seen += len(batch[0]) * int(os.environ.get("WORLD_SIZE", 1))  # each rank gets its share of the batch
            if self.progress and self.task is not None:
                rate = self.seen / max(time.monotonic() - self.started_at, 1e-9)
                self.progress.update(self.task, advance=1, info=f"{self.info} {rate:.0f} images/s")

    def epoch(self, row: dict[str, Any], epochs: int) -> None:
        """Print the metrics of an epoch."""
        self.info = f"loss {row['loss']:.3f} F1 {row['f1']:.3f}"
        names = [key.removesuffix("_f1") for key in row if key.endswith("_f1") and key != "train_f1"]
        attributes = " ".join(f"{name} {row[f'{name}_f1']:.2f}" for name in names if len(names) > 1)
        train = f"train F1 {row['train_f1']:.3f}  " if "train_f1" in row else ""
        info(
            f"{self.label} epoch {row['epoch']}/{epochs}  loss {row['loss']:.4f}  val loss {row['val_loss']:.4f}  "
            f"{train}F1 {row['f1']:.3f}  accuracy {row['accuracy']:.3f}  "
            f"{attributes}{'  ' if attributes else ''}{row['images_per_second']:.0f} images/s"
        )


def print_table(title: str, head: Sequence[str], rows: Iterable[Sequence[Any]], left: int = 1) -> None:
    """Print a table; columns after the first `left` are right-aligned, and floats have four digits.

    On a narrow terminal text wraps and lines may be longer than the terminal, but numbers are never cut. Cells are
    plain text: markup and control characters are escaped and secrets are redacted.
    """
    if not is_main_process():
        return
    cells = [[f"{cell:.4f}" if isinstance(cell, float) else cell_text(str(cell)) for cell in row] for row in rows]
    table = Table(title=escape(escape_controls(prefix + redact(title))), title_justify="left", header_style="bold")
    for i, name in enumerate(head):
        min_width = max((len(word) for row in [head, *cells] for word in row[i].split()), default=1)
        options: Any = {"justify": "left"} if i < left else {"justify": "right", "min_width": min_width}
        table.add_column(name, overflow="fold", **options)
    for row in cells:
        table.add_row(*row)
    console.print(table, crop=False)


def cell_text(text: str) -> str:
    """Return the text of a cell, escaped for rich."""
    return escape(escape_controls(redact(text)))


def print_error(error: MaskclsError, prefix: str = "") -> None:
    """Print an error, with a hint if the locale cannot encode the file names in it."""
    error_console.print(escape_controls(redact(f"{prefix}{error}")), style="red", markup=False)
    if isinstance(error, DataError) and (encoding := missing_encoding(str(error))):
        error_console.print(
            f"this locale ({encoding}) cannot encode some characters above. Set PYTHONUTF8=1", style="red"
        )


def missing_encoding(text: str) -> str | None:
    """Return the file system encoding if it cannot encode the letters of a text, else None."""
    encoding = sys.getfilesystemencoding()
    try:
        "".join(filter(str.isalpha, text)).encode(encoding)
    except UnicodeEncodeError:
        return encoding
    return None


def exit_on_error(main: Callable[[], Any]) -> Any:
    """Return the result of a command, or print its error and exit with its code, 2 for most."""
    try:
        return main()
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if not isinstance(error, ConfigError | DataError):
            error = await_signal(error)
        shown = as_user_error(error)
        print_error(shown)
        sys.exit(shown.exit_code)


def format_duration(seconds: float | None) -> str:
    """Return a duration such as "3 min 20 s", or an empty text for None."""
    if seconds is None:
        return ""
    total = round(seconds)
    hours, minutes = divmod(total // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {total % 60} s" if minutes else f"{seconds:.1f} s"
