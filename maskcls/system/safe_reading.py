"""Readers of files that may come from anybody: regular ones only, bounded in size and nesting; nothing is executed."""

from __future__ import annotations

import contextlib
import io
import json
import os
import stat
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import yaml

from maskcls.core.errors import RunError

if TYPE_CHECKING:
    import pandas as pd


MIB = 2**20
LIMITS = {  # bytes of a file; a run of 100,000 photos stays below half of each
    ".yaml": MIB // 4, ".json": 4 * MIB, ".jsonl": 8 * MIB, ".csv": 64 * MIB, ".npz": 512 * MIB, ".pt": 16 * 1024 * MIB,
}  # fmt: skip
VALUES = 100_000  # in one YAML or JSON file
DEPTH = 32  # of values within values
ALIASES = 100  # of YAML; no run writes them any more
HEADER = 4096  # bytes of a CSV's first line
COLUMNS = 64  # of a CSV
YAML: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C is ten times as fast, where it was built


class FormatError(ValueError):
    """Content that is readable, but is not what the file must hold."""


@contextlib.contextmanager
def readable(path: Path) -> Iterator[None]:
    """Make a RunError that names the file of whatever goes wrong in reading it."""
    try:
        yield
    except Exception as error:
        kind = "" if isinstance(error, FormatError) else f"{type(error).__name__}: "
        reason = f"{kind}{' '.join(str(error).split())[:100]}"
        again = "remove it and ask for the run again; the folds that are done stand"
        raise RunError(f"{path} is broken ({reason}): {again}") from error


def open_file(path: str | Path) -> IO[bytes]:
    """Open a regular file for reading; a pipe, a device or a folder is a FormatError, and is never waited for."""
    if not stat.S_ISREG(os.stat(path).st_mode):  # before it is opened: opening is an act for some devices
        raise FormatError("it is not a regular file")
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise FormatError("it is not a regular file")
    if (size := os.fstat(file.fileno()).st_size) > (limit := LIMITS.get(Path(path).suffix, LIMITS[".pt"])):
        file.close()
        raise FormatError(f"expected at most {limit / MIB:g} MiB, got {size / MIB:.1f}")
    return file


def read_bytes(path: Path) -> bytes:
    """Read a whole file."""
    with open_file(path) as file:
        return file.read(os.fstat(file.fileno()).st_size)


def read_text(path: Path) -> str:
    """Read a text in UTF-8; a RunError names a file that is none."""
    with readable(path):
        return read_bytes(path).decode("utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; a RunError names one that is broken."""
    with readable(path):
        return as_object(json.loads(read_bytes(path), object_pairs_hook=unique, parse_constant=refuse_constant))


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; a key that stands in it twice is a FormatError."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise FormatError("a key stands in it twice")
    return found


def refuse_constant(name: str) -> float:
    """Raise a FormatError for NaN and infinity, which are not JSON."""
    raise FormatError(f"{name} is not a number")


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping; a RunError names one that is broken."""
    with readable(path):
        text = read_bytes(path).decode("utf-8")
        check_events(text)
        return as_object(yaml.load(text, Loader=YAML))


def check_events(text: str) -> None:
    """Raise a FormatError for YAML that is nested too deep, or whose aliases could multiply."""
    within: list[bool] = []  # for each open collection: whether it, or one around it, has an anchor
    aliases = 0
    for event in yaml.parse(text, Loader=YAML):
        if isinstance(event, yaml.CollectionStartEvent):
            within.append(bool(event.anchor) or bool(within and within[-1]))
        elif isinstance(event, yaml.CollectionEndEvent):
            within.pop()
        elif isinstance(event, yaml.AliasEvent):
            aliases += 1
            if within[-1:] == [True] or aliases > ALIASES:
                raise FormatError("its aliases multiply what it holds")
        if len(within) > DEPTH:
            raise FormatError(f"its values are nested more than {DEPTH} deep")


def as_object(content: Any) -> dict[str, Any]:
    """Return plain content as a mapping; anything else is a FormatError."""
    if not isinstance(content, dict):
        raise FormatError(f"expected a mapping, got {type(content).__name__}")
    check_plain(content)
    return content


def check_plain(content: Any, *, keys: type = str, leaves: tuple[type, ...] = ()) -> None:
    """Raise a FormatError for what is not text, numbers, lists and mappings, or is too many or too deep of them.

    `keys` is the type of a mapping's keys; `leaves` are further types that a value may have.
    """
    left, seen = [(content, 0)], 0
    while left:
        value, depth = left.pop()
        seen += 1
        if depth > DEPTH or seen + len(left) > VALUES:
            raise FormatError(f"expected at most {VALUES} values, nested at most {DEPTH} deep")
        if isinstance(value, dict):
            if not all(isinstance(key, str | keys) for key in value):
                raise FormatError("a key is not text")
            left += [(item, depth + 1) for item in value.values()]
        elif isinstance(value, list | tuple):
            left += [(item, depth + 1) for item in value]
        elif isinstance(value, int) and not -(2**63) <= value < 2**64:
            raise FormatError("a whole number is too large")
        elif value is not None and not isinstance(value, (str, int, float, *leaves)):
            raise FormatError(f"a value is a {type(value).__name__}")


def read_arrays(path: Path) -> dict[str, Any]:
    """Read a .npz without pickle; a RunError names one that is broken."""
    with readable(path), open_file(path) as whole:
        check_archive(whole)
        with np.load(whole, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}


def check_archive(file: IO[bytes]) -> None:
    """Raise a FormatError for a zip whose members are compressed, or hold more than the file: no run writes such."""
    size = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise FormatError("its members are compressed")
    if sum(member.file_size for member in members) > size:
        raise FormatError("its members claim more bytes than it has")
    file.seek(0)


def read_tensors(path: Path, legacy: bool = False) -> Any:
    """Read what torch saved, on the CPU, unpickling no code; `legacy` allows the form before torch 1.6."""
    import torch

    with open_file(path) as file:
        if not legacy or zipfile.is_zipfile(file):
            check_archive(file)
        file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=True)


def read_csv(path: Path, types: Mapping[str, Any], optional: Mapping[str, Any] = MappingProxyType({})) -> pd.DataFrame:
    """Read the columns of a CSV that `types` names, and `optional` ones; what is wrong with them is some ValueError."""
    import pandas as pd

    content = read_bytes(path)
    header = content[:HEADER].partition(b"\n")[0]
    if len(header) == HEADER or b'"' in header:
        raise FormatError("its first line is not a row of column names")
    names = header.decode("utf-8").rstrip("\r").split(",")
    for name in (*types, *(name for name in optional if name in names)):
        if names.count(name) != 1:
            raise FormatError(f"expected one column {name}, got {names.count(name)}")
    if len(names) > COLUMNS:
        raise FormatError(f"expected at most {COLUMNS} columns, got {len(names)}")
    known = {**types, **{name: kind for name, kind in optional.items() if name in names}}
    every = {name: known.get(name, str) for name in names}  # read whole: left out, longer rows would pass unsaid
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            table = pd.read_csv(io.BytesIO(content), dtype=every, keep_default_na=False, index_col=False)
        except Warning as error:
            raise FormatError(" ".join(str(error).split())) from error
    return table[list(known)]
