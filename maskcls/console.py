"""The terminal: one console, progress bars on a terminal (plain lines elsewhere), faults as sentences."""

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

from maskcls.errors import ConfigError, DataError, MaskclsError, mended
from maskcls.secrets import redacted
from maskcls.signals import await_signal, exit_code, stop_on_signals
from maskcls.streams import prepare_streams

CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
is_terminal = sys.stdout is not None and sys.stdout.isatty()  # None where standard output is closed
WIDE = None if is_terminal or "COLUMNS" in os.environ else 160  # a file or a pipe has no width of its own
console = Console(highlight=False, emoji=False, soft_wrap=True, width=WIDE)
errors = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)


heading = ""  # what the work at hand is a part of, before the name of each fold


@contextmanager
def within(name: str) -> Iterator[None]:
    """Put a heading before the names of folds."""
    global heading
    heading, before = f"{name} · ", heading
    try:
        yield
    finally:
        heading = before


def main_rank() -> bool:
    """Tell whether this process is the one that talks."""
    return os.environ.get("RANK", "0") == "0"


def escape_controls(text: str, keep: str = "\n\t") -> str:
    """Return a text whose control characters are spelled out, such as \\x1b; those of `keep` and all letters stay.

    A file's name may hold what a terminal obeys: colours, titles, moves of the cursor, another direction of writing.
    """
    return CONTROLS.sub(lambda match: match[0] if match[0] in keep else ascii(match[0])[1:-1], text)


def escape_value(value: Any) -> Any:
    """Return a value of a page's template, a text of it without control characters; what is markup stays."""
    return escape_controls(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def say(text: str, style: str = "") -> None:
    """Print a line, from the first rank only; its text is never read as markup."""
    if main_rank():
        console.print(escape_controls(redacted(text)), style=style or None, markup=False)


@functools.cache
def say_once(text: str) -> None:
    """Print a remark that a process makes again and again only at its first time."""
    say(text, "yellow")


def track(items: Iterable[Any], total: int, what: str = "drawing") -> Iterator[Any]:
    """Yield items under a progress bar that goes when it is done."""
    if not console.is_terminal or not main_rank():
        yield from items
        return
    with bars() as progress:
        task = progress.add_task(what, total=total, info="")
        for item in items:
            yield item
            progress.advance(task)


def bars() -> Progress:
    """Return an empty set of progress bars in the house style."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn())
    return Progress(*columns, TimeRemainingColumn(), TextColumn("{task.fields[info]}"), console=console, transient=True)


class Meter:
    """The progress of one fold: a bar over all its batches, and a line for each epoch."""

    def __init__(self, label: str, batches: int, done: int = 0) -> None:
        label = self.label = heading + label
        self.seen, self.info = 0, ""
        self.begun = time.monotonic()
        self.progress = bars() if console.is_terminal and main_rank() else None
        self.task = self.progress.add_task(label, total=batches, completed=done, info="") if self.progress else None

    def __enter__(self) -> Meter:
        if self.progress:
            self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.progress:
            self.progress.stop()

    def __call__(self, batches: Iterable[Any]) -> Iterator[Any]:
        """Yield batches, moving the bar and the rate of images/s."""
        self.seen, self.begun = 0, time.monotonic()
        for batch in batches:
            yield batch
            self.seen += len(batch[0]) * int(os.environ.get("WORLD_SIZE", 1))  # each rank has its part of the batch
            if self.progress and self.task is not None:
                rate = self.seen / max(time.monotonic() - self.begun, 1e-9)
                self.progress.update(self.task, advance=1, info=f"{self.info} {rate:.0f} images/s")

    def epoch(self, row: dict[str, Any], epochs: int) -> None:
        """Show an epoch's numbers."""
        self.info = f"loss {row['loss']:.3f} F1 {row['f1']:.3f}"
        say(
            f"{self.label} epoch {row['epoch']}/{epochs}  loss {row['loss']:.4f}  val loss {row['val_loss']:.4f}  "
            f"F1 {row['f1']:.3f}  accuracy {row['accuracy']:.3f}  mask {row['mask_f1']:.2f} "
            f"gender {row['gender_f1']:.2f} age {row['age_f1']:.2f}  {row['images_per_second']:.0f} images/s"
        )


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[Any]], left: int = 1) -> None:
    """Print a table; what comes after the first `left` columns stands right, and floats have four digits.

    On a narrow terminal texts are folded and lines may be longer than it, but no number is cut.
    No cell is read as markup, and none shows a secret or has an effect on the terminal.
    """
    if not main_rank():
        return
    cells = [[f"{cell:.4f}" if isinstance(cell, float) else cell_text(str(cell)) for cell in row] for row in rows]
    shown = Table(title=escape(escape_controls(redacted(title))), title_justify="left", header_style="bold")
    for i, name in enumerate(head):
        widest = max((len(word) for row in [head, *cells] for word in row[i].split()), default=1)
        side: Any = {"justify": "left"} if i < left else {"justify": "right", "min_width": widest}
        shown.add_column(name, overflow="fold", **side)
    for row in cells:
        shown.add_row(*row)
    console.print(shown, crop=False)


def cell_text(text: str) -> str:
    """Return the text of a cell as rich's markup."""
    return escape(escape_controls(redacted(text)))


def complain(fault: MaskclsError, prefix: str = "") -> None:
    """Print a fault's sentences, and that the locale lacks letters of them where that makes files seem absent."""
    errors.print(escape_controls(redacted(f"{prefix}{fault}")), style="red", markup=False)
    if isinstance(fault, DataError) and (encoding := lacking_encoding(str(fault))):
        errors.print(f"this locale ({encoding}) has no names for some letters above. Set PYTHONUTF8=1", style="red")


def lacking_encoding(text: str) -> str | None:
    """Return the encoding of file names if a letter of a text cannot be in one, else None."""
    encoding = sys.getfilesystemencoding()
    try:
        "".join(filter(str.isalpha, text)).encode(encoding)
    except UnicodeEncodeError:
        return encoding
    return None


def hushed(unraised: Any) -> None:
    """Leave out what torch's loader says while it ends after one of its workers was killed: that is told already."""
    if "DataLoader worker" not in str(unraised.exc_value):
        sys.__unraisablehook__(unraised)


def command(main: Callable[[], Any]) -> Callable[[], Any]:
    """Make a command of a function: a fault is its sentence and exit code 2, a signal 128 + its number."""

    @functools.wraps(main)
    def guarded() -> Any:
        sys.unraisablehook = hushed
        prepare_streams()
        try:
            with stop_on_signals():
                return answer(main)
        except KeyboardInterrupt as stop:
            if main_rank():
                errors.print("stopped; the same command goes on from the last whole epoch", markup=False)
            sys.exit(exit_code(stop))

    return guarded


def answer(main: Callable[[], Any]) -> Any:
    """Return what a command returns, or show its fault and exit."""
    try:
        return main()
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if not isinstance(error, ConfigError | DataError):
            await_signal()
        complain(mended(error))
        sys.exit(2)
