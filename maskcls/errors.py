"""The faults that a user can mend, and the nearest right word for a wrong one.

MaskclsError
 ├─ ConfigError   a word, a value or a pair of them
 ├─ DataError     a file, a row or a folder (PhotoError: a photo)
 ├─ RunError      a run directory that does not fit what is asked of it
 └─ NumberError   a training that left the numbers (NaN, infinity)
"""

from __future__ import annotations

import difflib
import errno
import re
import shutil
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import BrokenExecutor
from pathlib import Path

MACHINE = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.ENOTDIR,
    errno.EISDIR, errno.ENAMETOOLONG, errno.EMFILE, errno.ESTALE, errno.ELOOP,
)  # fmt: skip
RESUME = "the same command goes on from the last whole epoch"
WORKERS = {  # what torch says of its loader's workers
    "DataLoader worker (pid": "a worker process was killed, most often because memory ran out "
    f"(hardware.workers sets their number): {RESUME}",
    "unable to allocate shared memory": "hardware.workers: /dev/shm is full, through which workers send batches. "
    f"hardware.workers=0 does not use it; {RESUME}",
    "DataLoader timed out": "hardware.workers: the workers hang, they sent no batch for some minutes. "
    f"hardware.workers=0 does without them; {RESUME}",
}
STREAM = (errno.ENOSPC, errno.EIO, errno.EBADF)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class MaskclsError(Exception):
    """A fault that the user can mend: shown as its sentence, without a stack trace."""

    def __init__(self, *sentences: str) -> None:
        super().__init__("\n".join(sentences))
        self.sentences = sentences

    def __reduce__(self) -> tuple[type, tuple[str, ...]]:
        return type(self), self.sentences


class ConfigError(MaskclsError):
    """A wrong word, a wrong value, or two that do not go together."""


class DataError(MaskclsError):
    """A missing or broken file, or a row that cannot be read."""


class PhotoError(DataError):
    """A photo that cannot be read."""


class RunError(MaskclsError):
    """A run directory that does not fit what is asked of it."""


class NumberError(MaskclsError):
    """A loss that is no longer a finite number."""


def mended(error: BaseException) -> MaskclsError:
    """Return the sentence of a fault of the machine (disk, rights, a killed process); raise any other error."""
    if isinstance(error, MaskclsError):
        return without_trace(error)
    if isinstance(error, OSError) and error.filename is not None and error.errno in MACHINE:
        return RunError(f"{error.filename}: {error.strerror}{room(error)}")
    if isinstance(error, OSError) and error.filename is None and error.errno in STREAM:
        return RunError(f"standard output or a file cannot be written ({error.strerror})")
    if isinstance(error, FileNotFoundError) and error.filename is None:
        return RunError("the current folder was removed. Go to another one and run the same command")
    if isinstance(error, UnicodeEncodeError) and error.encoding == sys.getfilesystemencoding() != "utf-8":
        return RunError(f"{error.object!r} is not a name in this locale ({error.encoding}). Set PYTHONUTF8=1")
    if isinstance(error, ImportError) and not (error.name or "maskcls").startswith("maskcls"):
        return RunError(f"a package cannot be imported ({error}). Install it again")
    if isinstance(error, BrokenExecutor):
        return RunError(WORKERS["DataLoader worker (pid"])
    if isinstance(error, RuntimeError):
        for said, sentence in WORKERS.items():
            if said in str(error):
                return RunError(sentence)
    raise error


def without_trace(error: MaskclsError) -> MaskclsError:
    """Return a fault as it was raised: torch puts the trace of a loader's worker before its sentence."""
    trace, found, sentence = str(error).rpartition(f"{type(error).__module__}.{type(error).__qualname__}: ")
    return type(error)(sentence.strip()) if found and trace.startswith("Caught ") else error


def room(error: OSError) -> str:
    """Return what to do about a disk that is full, nothing for other faults."""
    if error.errno not in FULL:
        return ""
    place = next(folder for folder in Path(error.filename).absolute().parents if folder.is_dir())
    free = shutil.disk_usage(place).free / 1e6
    return f" ({free:.1f} MB are free): make room and give the same command again; what is finished stands"


def and_others(names: Sequence[str], most: int = 3) -> str:
    """Return the first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def explain_unresolved(error: Exception) -> str:
    """Return the sentence for a config whose values OmegaConf cannot work out."""
    key, text = getattr(error, "full_key", None) or "config", str(error).splitlines()[0]
    if variable := re.search(r"Environment variable '(.+?)' not found", text):
        return f"{key}: the environment variable {variable[1]} is not set. Set it or give {key}=…"
    return f"config: {text}"


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `: did you mean x?` for the known word closest to `word`, else the list of known words."""
    names = sorted(known)
    close = difflib.get_close_matches(str(word), names, n=1, cutoff=0.5)
    if close:
        return f": did you mean {close[0]}?"
    return f" (there is {', '.join(names)})" if names else ""


def unknown(kind: str, word: str, known: Iterable[str]) -> str:
    """Return the sentence for a word that is not among the known ones."""
    return f"no {kind} '{word}'{nearest(word, known)}"
