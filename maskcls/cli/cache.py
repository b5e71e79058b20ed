"""Decoded pixels: each photo is read and cropped once, into a memory map that all folds, runs and jobs share.

python -m maskcls cache                    what lies in cache/
python -m maskcls cache --clear 1a2b3c4d   remove one set; --clear all: every set that nobody is building
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

from maskcls.cli.command import run_command
from maskcls.data.pixel_cache import list_entries, remove_entries
from maskcls.system import console


def described(key: str, folder: Path) -> list[str]:
    """Return one line of the list: key, photos, height × width, crop, last use, MB on the disk."""
    file = folder / "facts.json"
    try:
        facts = dict(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else {}
        crop, size = dict(facts.get("crop") or {}), " × ".join(map(str, facts.get("size", ["?"])))
    except (ValueError, TypeError):  # cut off
        facts, crop, size = {}, {"name": "broken: --clear it"}, "?"
    files = [entry.stat() for entry in os.scandir(folder)]
    name = str(crop.pop("name", "drawn masks" if "/" in key else "?"))
    words = [f"{k}={value}" for k, value in crop.items() if value and k not in ("height", "width")]
    whole = "/" in key or (folder / "pixels.npy").exists()
    return [
        key, str(facts.get("photos", len(files))) if whole else "unfinished",
        size, " ".join([name, *words]),
        time.strftime("%Y-%m-%d %H:%M", time.localtime(folder.stat().st_mtime)),
        f"{sum(stat.st_blocks for stat in files) * 512 / 1e6:.1f}",
    ]  # fmt: skip


@run_command
def main() -> None:
    """List what is cached, or remove it."""
    parser = argparse.ArgumentParser("python -m maskcls cache", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--dir", type=Path, default=Path("cache"), help="the folder that cache_dir names")
    parser.add_argument("--clear", metavar="KEY", help="remove the set of this key, or all")
    asked = parser.parse_args()
    if asked.clear:
        remove_entries(asked.dir, asked.clear)
        return
    head = ["key", "photos", "size", "crop", "last used", "MB"]
    console.print_table(
        f"cached in {asked.dir}", head, [described(*item) for item in list_entries(asked.dir).items()], left=1
    )
