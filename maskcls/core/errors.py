"""Exceptions that a user can fix, and suggestions for misspelt names.

MaskclsError
 ├─ ConfigError      an option, a value or a conflict of two values
 ├─ DataError        a file, a row or a folder (PhotoError: an image)
 ├─ RunError         a run directory that cannot be used
 └─ NonFiniteError   a loss that is NaN or infinite
"""

from __future__ import annotations

import difflib
import errno
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import BrokenExecutor
from importlib.metadata import packages_distributions
from pathlib import Path

OS_ERRNOS = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ENOTDIR,
    errno.EISDIR, errno.ENAMETOOLONG, errno.EMFILE, errno.ESTALE, errno.ELOOP,
)  # fmt: skip
RESUME = "run the same command to resume"
WORKER_KILLED = f"a worker process was killed, probably out of memory. Lower hardware.workers and {RESUME}"
WORKER_MESSAGES = {  # part of torch's message: the message to show
    "DataLoader worker (pid": WORKER_KILLED,
    "unable to allocate shared memory": f"hardware.workers: /dev/shm is full. Set hardware.workers=0 and {RESUME}",
    "DataLoader timed out": f"hardware.workers: the data loader timed out. Set hardware.workers=0 and {RESUME}",
}
STREAM_ERRNOS = (errno.ENOSPC, errno.EIO, errno.EBADF)
DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

MAX_MESSAGE = 300  # characters of a message that quotes a file


class MaskclsError(Exception):
    """An error that the user can fix, shown as its messages without a stack trace."""

    exit_code = 2

    def __init__(self, *messages: str) -> None:
        super().__init__("\n".join(messages))
        self.messages = messages

    def __reduce__(self) -> tuple[type, tuple[str, ...]]:
        return type(self), self.messages


class ConfigError(MaskclsError):
    """An unknown option, a wrong value, or a conflict of two values."""


class DataError(MaskclsError):
    """A missing or broken file, or an invalid row."""


class PhotoError(DataError):
    """An unreadable image."""


class RunError(MaskclsError):
    """A run directory that cannot be used."""


class NonFiniteError(MaskclsError):
    """A loss that is NaN or infinite."""


def as_user_error(error: BaseException) -> MaskclsError:
    """Return a system error (disk, permissions, a killed process) as a MaskclsError; raise any other error."""
    if isinstance(error, MaskclsError):
        return without_trace(error)
    if isinstance(error, OSError) and error.filename is not None and error.errno in OS_ERRNOS:
        return RunError(f"{error.filename}: {error.strerror}{disk_full_hint(error)}")
    if isinstance(error, OSError) and error.filename is None and error.errno in STREAM_ERRNOS:
        return RunError(f"cannot write to standard output or a file ({error.strerror})")
    if isinstance(error, FileNotFoundError) and error.filename is None:
        return RunError("the current folder was deleted. Change to another folder and run the same command")
    if isinstance(error, UnicodeEncodeError) and error.encoding == sys.getfilesystemencoding() != "utf-8":
        return RunError(f"cannot encode {error.object!r} in this locale ({error.encoding}). Set PYTHONUTF8=1")
    if isinstance(error, ImportError) and error.name and not error.name.startswith("maskcls"):
        module = error.name.partition(".")[0]
        package = packages_distributions().get(module, [module])[0]
        return RunError(f"cannot import {error.name} ({error}). Reinstall package {package}")
    if isinstance(error, BrokenExecutor):
        return RunError(WORKER_KILLED)
    if isinstance(error, RuntimeError):
        for text, message in WORKER_MESSAGES.items():
            if text in str(error):
                return RunError(message)
    raise error


def without_trace(error: MaskclsError) -> MaskclsError:
    """Return an error without the stack trace of a data loader's worker, which torch puts before its message."""
    trace, name, message = str(error).rpartition(f"{type(error).__module__}.{type(error).__qualname__}: ")
    return type(error)(message.strip()) if name and trace.startswith("Caught ") else error


def disk_full_hint(error: OSError) -> str:
    """Return the free space and the remedy if an error is a full disk, else an empty text."""
    if error.errno not in DISK_FULL_ERRNOS:
        return ""
    folder = next(parent for parent in Path(error.filename).absolute().parents if parent.is_dir())
    free = shutil.disk_usage(folder).free / 1e6
    return f" ({free:.1f} MB free). Free disk space and run the same command; finished work is kept"


def write_error_message(path: str | Path) -> str:
    """Return the message for a file that a library could not write without naming a reason."""
    return f"cannot write {path}. Check its folder, permissions and free disk space, then run the same command"


def and_others(names: Sequence[str], limit: int = 3) -> str:
    """Return the first names and the number of the others."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def join_words(words: Sequence[str], last: str = "and") -> str:
    """Return words as "a, b and c"."""
    return f" {last} ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def explain_unresolved(error: Exception) -> str:
    """Return the message for an interpolation that OmegaConf cannot resolve."""
    key, text = getattr(error, "full_key", None) or "config", str(error).splitlines()[0]
    if variable := re.search(r"Environment variable '(.+?)' not found", text):
        return f"{key}: environment variable {variable[1]} is not set. Set it or {key}=…"
    return f"config: {text}"


def nearest(name: str, known: Iterable[str], cutoff: float = 0.5) -> str | None:
    """Return the known name most similar to `name`, None if none has a similarity of at least `cutoff` (0 to 1)."""
    return next(iter(difflib.get_close_matches(str(name), sorted(known), n=1, cutoff=cutoff)), None)


def unknown_message(kind: str, name: str, known: Iterable[str], owner: str = "") -> str:
    """Return the message for an unknown name (of an owner): with the nearest known name, else with all of them."""
    names = sorted(known)
    if close := nearest(name, names):
        return suggestion_message(kind, name, f"'{close}'", owner)
    return unknown_subject(kind, name, owner) + (f", expected one of {', '.join(names)}" if names else "")


def suggestion_message(kind: str, name: str, suggestion: str, owner: str = "") -> str:
    """Return the message for an unknown name (of an owner) with what is probably meant."""
    return f"{unknown_subject(kind, name, owner)}, did you mean {suggestion}?"


def unknown_subject(kind: str, name: str, owner: str = "") -> str:
    """Return what is unknown, and of what owner."""
    return f"unknown {kind} '{name}'" + (f" of {owner}" if owner else "")
