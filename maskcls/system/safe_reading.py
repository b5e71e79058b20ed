"""Readers for untrusted files: regular files only, limited in size and nesting; nothing is executed."""

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
MAX_SIZES = {  # bytes; the files of a run on 100,000 images are less than half as large
    ".yaml": MIB // 4, ".json": 4 * MIB, ".jsonl": 8 * MIB, ".csv": 64 * MIB, ".npz": 512 * MIB, ".pt": 16 * 1024 * MIB,
}  # fmt: skip
MAX_VALUES = 100_000  # in one YAML or JSON file
MAX_DEPTH = 32  # nesting levels
MAX_ALIASES = 100  # in YAML; current runs do not write aliases
MAX_HEADER = 4096  # bytes in the first line of a CSV
MAX_COLUMNS = 64  # in a CSV, unless more are read
YAML: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C loader is ten times as fast, if available


class FormatError(ValueError):
    """Readable content in an unexpected format."""


@contextlib.contextmanager
def wrap_read_errors(path: Path) -> Iterator[None]:
    """Context manager that turns any error from reading a file into a RunError that names the file."""
    try:
        yield
    except Exception as error:
        kind = "" if isinstance(error, FormatError) else f"{type(error).__name__}: "
        reason = f"{kind}{' '.join(str(error).split())[:100]}"
        raise RunError(f"cannot read {path} ({reason}). Delete it and run again; finished folds are kept") from error


def open_file(path: str | Path) -> IO[bytes]:
    """Open a regular file for reading; raise FormatError for a pipe, a device or a folder without blocking."""
    if not stat.S_ISREG(os.stat(path).st_mode):  # checked before opening, which has side effects for some devices
        raise FormatError("it is not a regular file")
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise FormatError("it is not a regular file")
    if (size := os.fstat(file.fileno()).st_size) > (limit := MAX_SIZES.get(Path(path).suffix, MAX_SIZES[".pt"])):
        file.close()
        raise FormatError(f"expected at most {limit / MIB:g} MiB, got {size / MIB:.1f}")
    return file


def read_bytes(path: Path) -> bytes:
    """Return the content of a file."""
    with open_file(path) as file:
        return file.read(os.fstat(file.fileno()).st_size)


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, or raise RunError."""
    with wrap_read_errors(path):
        return read_bytes(path).decode("utf-8")


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file, or raise RunError."""
    with wrap_read_errors(path):
        return as_object(
            json.loads(read_bytes(path), object_pairs_hook=unique_keys, parse_constant=refuse_constant)
        )


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object as a dict; raise FormatError for a duplicate key."""
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [key for key, _ in pairs]
        raise FormatError(f"duplicate key {next(key for key in names if names.count(key) > 1)!r}")
    return content


def refuse_constant(name: str) -> float:
    """Raise FormatError for NaN and infinity, which are not valid JSON."""
    raise FormatError(f"expected a finite number, got {name}")


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the YAML mapping in a file, or raise RunError."""
    with wrap_read_errors(path):
        text = read_bytes(path).decode("utf-8")
        check_events(text)
        return as_object(yaml.load(text, Loader=YAML))


def check_events(text: str) -> None:
    """Raise FormatError for YAML that is nested too deeply or whose aliases could expand exponentially."""
    anchored: list[bool] = []  # for each open collection: True if it or an enclosing one has an anchor
    aliases = 0
    for event in yaml.parse(text, Loader=YAML):
        if isinstance(event, yaml.CollectionStartEvent):
            anchored.append(bool(event.anchor) or bool(anchored and anchored[-1]))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchored.pop()
        elif isinstance(event, yaml.AliasEvent):
            aliases += 1
            if anchored[-1:] == [True] or aliases > MAX_ALIASES:
                raise FormatError("its YAML aliases expand to too many values")
        if len(anchored) > MAX_DEPTH:
            raise FormatError(f"expected at most {MAX_DEPTH} nesting levels")


def as_object(content: Any) -> dict[str, Any]:
    """Return plain content that is a mapping; raise FormatError for other content."""
    if not isinstance(content, dict):
        raise FormatError(f"expected a mapping, got {type(content).__name__}")
    check_plain(content)
    return content


def check_plain(content: Any, *, keys: type = str, leaves: tuple[type, ...] = ()) -> None:
    """Raise FormatError unless content consists of text, numbers, lists and mappings, within the limits.

    `keys` is an additional type for keys of mappings; `leaves` are additional types for values.
    """
    pending, num_seen = [(content, 0)], 0
    while pending:
        value, depth = pending.pop()
        num_seen += 1
        if depth > MAX_DEPTH or num_seen + len(pending) > MAX_VALUES:
            raise FormatError(f"expected at most {MAX_VALUES} values, nested at most {MAX_DEPTH} levels")
        if isinstance(value, dict):
            if wrong := [key for key in value if not isinstance(key, str | keys)]:
                raise FormatError(f"expected text as keys, got {type(wrong[0]).__name__}")
            pending += [(item, depth + 1) for item in value.values()]
        elif isinstance(value, list | tuple):
            pending += [(item, depth + 1) for item in value]
        elif isinstance(value, int) and not -(2**63) <= value < 2**64:
            raise FormatError(f"expected integers of at most 64 bits, got one of {value.bit_length()}")
        elif value is not None and not isinstance(value, (str, int, float, *leaves)):
            raise FormatError(f"expected text, numbers, lists and mappings, got {type(value).__name__}")


def read_npz(path: Path) -> dict[str, Any]:
    """Return the arrays of an .npz file, without unpickling, or raise RunError."""
    with wrap_read_errors(path), open_file(path) as file:
        check_archive(file)
        with np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}


def check_archive(file: IO[bytes]) -> None:
    """Raise FormatError for a zip with compressed members or members larger than the file; runs write neither."""
    size = os.fstat(file.fileno()).st_size
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise FormatError("expected uncompressed members, got compressed ones")
    if (claimed := sum(member.file_size for member in members)) > size:
        raise FormatError(f"expected members of at most {size} bytes, as the file has, got {claimed}")
    file.seek(0)


def read_tensors(path: Path, legacy: bool = False) -> Any:
    """Load what torch.save wrote to the CPU, without unpickling code; `legacy` allows the format before torch 1.6."""
    import torch

    with open_file(path) as file:
        if not legacy or zipfile.is_zipfile(file):
            check_archive(file)
        file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=True)


def read_csv(
    path: Path, types: Mapping[str, Any], optional: Mapping[str, Any] = MappingProxyType({}), prefix: str | None = None
) -> pd.DataFrame:
    """Return the columns of a CSV named in `types`, those in `optional` if present, and as text those with a prefix.

    Raise ValueError if the content is invalid.
    """
    import pandas as pd

    content = read_bytes(path)
    max_header = max(MAX_HEADER, 2 * sum(len(name.encode()) + 1 for name in types))
    header = content[:max_header].partition(b"\n")[0]
    if len(header) == max_header or b'"' in header:
        raise FormatError(f"expected column names without quotes in the first line, in less than {max_header} bytes")
    names = header.decode("utf-8").rstrip("\r").split(",")
    prefixed = [name for name in names if prefix and name.startswith(prefix)]
    optional = {**optional, **dict.fromkeys(prefixed, str)}
    for name in (*types, *(name for name in optional if name in names)):
        if names.count(name) != 1:
            raise FormatError(f"expected one column {name}, got {names.count(name)}")
    if len(names) > (max_columns := max(MAX_COLUMNS, 2 * len(types))):
        raise FormatError(f"expected at most {max_columns} columns, got {len(names)}")
    column_types = {**types, **{name: kind for name, kind in optional.items() if name in names}}
    all_types = {name: column_types.get(name, str) for name in names}  # with usecols, pandas accepts too long rows
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            table = pd.read_csv(io.BytesIO(content), dtype=all_types, keep_default_na=False, index_col=False)
        except Warning as error:
            raise FormatError(" ".join(str(error).split())) from error
    return table[list(column_types)]
