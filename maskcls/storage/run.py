"""A run's directory: named by the content of its config, written by rename, locked against double work."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from maskcls.core.config import Config
from maskcls.core.errors import RunError, unknown_message
from maskcls.storage.checkpoint import DTYPES
from maskcls.storage.run_files import epochs, read_metrics, read_probabilities, read_table
from maskcls.system.files import content_hash, remove_stale_parts, write_json, write_text
from maskcls.system.safe_reading import read_json, read_text, read_yaml


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
        self.id = f"{name}-{content_hash(content)}"
        self.path = root / self.id

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def fold_dir(self, k: int) -> Path:
        """Return the folder of one fold."""
        return self.path / f"fold{k}"

    def fold_is_done(self, k: int) -> bool:
        """Tell whether a fold's predictions stand."""
        return (self.fold_dir(k) / "oof.npz").exists()

    def metrics(self) -> dict[str, Any] | None:
        """Return the closing metrics, or None while the run is not done (they are written last)."""
        path = self / "metrics.json"
        return read_metrics(path) if os.path.lexists(path) else None

    def create(self, config: Mapping[str, Any]) -> None:
        """Make the directory and write its config; what a killed process was writing goes."""
        check_own(self.path)
        remove_stale_parts(self.path)
        write_text(self / "config.yaml", yaml.dump(dict(config), Dumper=Plain, sort_keys=False, allow_unicode=True))

    def bind_data(
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

    def add_provenance(self, **facts: Any) -> None:
        """Add facts of this machine and call to about.json; a broken one is begun anew, for no result is in it."""
        path, known = self / "about.json", {}
        with contextlib.suppress(RunError):
            known = read_json(path) if path.exists() else {}
        write_json(path, known | facts)

    def append_epoch(self, numbers: Mapping[str, Any]) -> None:
        """Append one line to log.jsonl."""
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self / "log.jsonl", "ab+", opener=open_own) as file:
            file.seek(max(file.seek(0, os.SEEK_END) - 1, 0))
            cut = file.read(1) not in (b"", b"\n")  # a killed process left half a line
            file.write(("\n" * cut + json.dumps(dict(numbers)) + "\n").encode())

    def history(self) -> list[dict[str, Any]]:
        """Return the rows of log.jsonl."""
        return epochs(self.path)


def differing_origins(mine: Mapping[str, str], theirs: Any) -> list[str]:
    """Return the keys whose digests differ; one that only one side knows of is left out."""
    known = theirs if isinstance(theirs, Mapping) else {}
    return [key for key, digest in mine.items() if known.get(key, digest) != digest]


def run_content(cfg: Config) -> dict[str, Any]:
    """Return the content that names a config's run; a run that it begins from is known by its name and data."""
    content = cfg.hashed_items()
    for group, key in (("model", "init"), ("pseudo", "run")):
        if other := content[group].get(key):
            known = [read_text(data) for data in Path(other).glob("data.json")]
            content[group] = content[group] | {key: [Path(other).name, *known]}
    return content


@dataclass(frozen=True)
class Finished:
    """A run that is done, read back from its directory."""

    path: Path
    config: Mapping[str, Any]
    table: pd.DataFrame  # id, person, label, part, fold, scored, content ("" in a run from before there was one)

    @property
    def val_table(self) -> pd.DataFrame:
        """The rows that the run's out-of-fold score is about."""
        return self.table[(self.table["part"] == "train") & self.table["scored"]].reset_index(drop=True)

    @property
    def eval_table(self) -> pd.DataFrame:
        """The evaluation rows, in info.csv's order."""
        return self.table[self.table["part"] == "eval"].reset_index(drop=True)

    def predictions(self, name: str) -> pd.DataFrame:
        """Return id and p0 … p17 of oof.csv or eval.csv."""
        return read_probabilities(self.path / name)


def opened(name: str | Path, runs_dir: str | Path = "runs") -> Finished:
    """Return a finished run, given its folder or its name below `runs_dir`; RunError for any other."""
    place = find_run(name, Path(runs_dir))
    if not (place / "metrics.json").is_file():
        raise RunError(f"{place} is not done (it has no metrics.json): ask for its run again")
    config = read_yaml(place / "config.yaml")
    if "hardware" not in config:  # what is written last
        raise RunError(f"{place / 'config.yaml'} is cut off: ask for the run again under another name")
    if config.get("precision") not in list(DTYPES):  # it may be a list, which no mapping can be asked for
        raise RunError(f"{place / 'config.yaml'}: precision must be one of {', '.join(DTYPES)}")
    read_json(place / "metrics.json")
    return Finished(place, config, read_table(place / "table.csv"))


def find_run(name: str | Path, runs_dir: Path) -> Path:
    """Return a run's folder; an unknown name is a RunError with the nearest one."""
    for place in (Path(name), runs_dir / name):
        if (place / "config.yaml").is_file():
            return place
    known = [place.parent.name for place in runs_dir.glob("*/config.yaml")]
    raise RunError(
        unknown_message("run", Path(name).name, known) + ("" if known else f": there are no runs in {runs_dir}")
    )
