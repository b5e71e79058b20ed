"""A run's directory: named by the content of its config, written by rename, locked against double work."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from maskcls.core.errors import RunError
from maskcls.storage.run_files import epochs, read_metrics
from maskcls.system.files import fingerprint, sweep, write_json, write_text
from maskcls.system.safe_reading import read_json


class Plain(yaml.SafeDumper):
    """Writes what stands in two places twice, never as an alias."""

    def ignore_aliases(self, data: Any) -> bool:
        """Tell that nothing is written as an alias."""
        return True


def check_own(folder: Path) -> None:
    """Raise a RunError where a folder that will be written to holds links, pipes or devices, which lead out of it."""
    for place in (folder, *folder.glob("fold*")) if folder.is_dir() else ():
        with os.scandir(place) as entries:
            for entry in entries:
                if not (entry.is_file(follow_symlinks=False) or entry.is_dir(follow_symlinks=False)):
                    raise RunError(f"{entry.path} is not a file or a folder: a run is not written to through links")


def open_own(name: str, flags: int) -> int:
    """Open a file to write to, never through a link."""
    return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)


class RunDir:
    """runs/<name>-<hash>: what is in it says how far the run has come."""

    def __init__(self, root: Path, name: str, content: Mapping[str, Any]) -> None:
        self.id = f"{name}-{fingerprint(content)}"
        self.path = root / self.id

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def fold(self, k: int) -> Path:
        """Return the folder of one fold."""
        return self.path / f"fold{k}"

    def fold_done(self, k: int) -> bool:
        """Tell whether a fold's predictions stand."""
        return (self.fold(k) / "oof.npz").exists()

    def metrics(self) -> dict[str, Any] | None:
        """Return the closing metrics, or None while the run is not done (they are written last)."""
        path = self / "metrics.json"
        return read_metrics(path) if os.path.lexists(path) else None

    def open(self, config: Mapping[str, Any]) -> None:
        """Make the directory and write its config; what a killed process was writing goes."""
        check_own(self.path)
        sweep(self.path)
        write_text(self / "config.yaml", yaml.dump(dict(config), Dumper=Plain, sort_keys=False, allow_unicode=True))

    def claim(
        self, data: str, photos: int, origins: Mapping[str, str] | None = None, by_size: Callable[[], str] = str
    ) -> str | None:  # fmt: skip
        """Remember what a run is of at the first time; refuse to go on over other data, weights or runs.

        `origins` are digests of what it begins from. Return a sentence where the run is of a version that knew photos
        by their sizes alone, whose digest is `by_size()`.
        """
        path, mine = self / "data.json", dict(origins or {})
        if not path.exists():
            write_json(path, {"hash": data, "photos": photos, "by": "content", "from": mine})
            return None
        theirs = read_json(path)
        older = theirs.get("by") != "content"
        now = by_size() if older else data
        if (theirs.get("hash"), theirs.get("photos")) != (now, photos):
            raise RunError(
                f"{self.path} was begun over other data ({theirs.get('photos')} photos, hash {theirs.get('hash')}; "
                f"now {photos}, hash {now}): give this run another name=, or remove that folder"
            )
        if changed := differing_origins(mine, theirs.get("from")):
            what = f"{self.path} began from something else: {changed[0]} holds other weights or predictions now"
            raise RunError(f"{what}. Choose another name=, or delete that folder")
        sizes = f"{self.id} is of an older version, which knew its photos by their sizes: those are the same now, "
        return f"{sizes}and whether their contents are is not known" if older else None

    def about(self, **facts: Any) -> None:
        """Add facts of this machine and call to about.json; a broken one is begun anew, for no result is in it."""
        path, known = self / "about.json", {}
        with contextlib.suppress(RunError):
            known = read_json(path) if path.exists() else {}
        write_json(path, known | facts)

    def append(self, numbers: Mapping[str, Any]) -> None:
        """Append one line to log.jsonl."""
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self / "log.jsonl", "ab+", opener=open_own) as file:
            file.seek(max(file.seek(0, os.SEEK_END) - 1, 0))
            cut = file.read(1) not in (b"", b"\n")  # a killed process left half a line
            file.write(("\n" * cut + json.dumps(dict(numbers)) + "\n").encode())

    def log(self) -> list[dict[str, Any]]:
        """Return the rows of log.jsonl."""
        return epochs(self.path)


def differing_origins(mine: Mapping[str, str], theirs: Any) -> list[str]:
    """Return the keys whose digests differ; one that only one side knows of is left out."""
    known = theirs if isinstance(theirs, Mapping) else {}
    return [key for key, digest in mine.items() if known.get(key, digest) != digest]
