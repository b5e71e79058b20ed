"""Listing and removal of cached pixels: images decoded and cropped once, shared by all folds, runs and jobs.

maskcls cache                  list the entries
maskcls cache clear=1a2b3c4d   remove one entry; clear=all removes all entries except those being built
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from maskcls.cli.arguments import options_command
from maskcls.data.pixel_cache import list_entries, remove_entries
from maskcls.system import console


@dataclass(frozen=True)
class CacheOptions:
    """Options of `maskcls cache`."""

    clear: str | None = None  # key of an entry to remove, or all
    cache_dir: str = "cache"  # folder of the cache


def describe_entry(key: str, folder: Path) -> list[str]:
    """Return a row of the list: key, images, height × width, crop, last use, MB on disk."""
    file = folder / "facts.json"
    try:
        facts = dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}
        crop, size = dict(facts.get("crop") or {}), " × ".join(map(str, facts.get("size", ["?"])))
    except (ValueError, TypeError):  # truncated
        facts, crop, size = {}, {"name": "broken: clear it"}, "?"
    files = [entry.stat() for entry in os.scandir(folder)]
    name = str(crop.pop("name", "drawn masks" if "/" in key else "?"))
    params = [f"{k}={value}" for k, value in crop.items() if value and k not in ("height", "width")]
    is_complete = "/" in key or (folder / "pixels.npy").exists()
    return [
        key, str(facts.get("photos", len(files))) if is_complete else "unfinished",
        size, " ".join([name, *params]),
        time.strftime("%Y-%m-%d %H:%M", time.localtime(folder.stat().st_mtime)),
        f"{sum(stat.st_blocks for stat in files) * 512 / 1e6:.1f}",
    ]  # fmt: skip


@options_command(CacheOptions)
def main(options: CacheOptions) -> None:
    """List the cache's entries, or remove some."""
    root = Path(options.cache_dir)
    if options.clear:
        remove_entries(root, options.clear)
        return
    head = ["key", "images", "size", "crop", "last used", "MB"]
    rows = [describe_entry(*item) for item in list_entries(root).items()]
    console.print_table(f"cached in {root}", head, rows, left=1)
