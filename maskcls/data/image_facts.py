"""Facts on all images of a table, cached by size and times of the files."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from pathlib import Path

from maskcls.data import image_check
from maskcls.data.image_check import file_signature
from maskcls.imaging import image_facts
from maskcls.imaging.image_facts import ImageFacts, read_facts, unusable
from maskcls.imaging.image_io import map_images
from maskcls.system.console import info, track
from maskcls.system.files import content_hash, file_lock, write_json

STORE = "facts.json"
Cached = dict[str, list[object]]  # path: signature of the file, facts


def collect_facts(paths: Sequence[str], root: Path) -> list[ImageFacts]:
    """Return facts on each image file; root/facts.json caches those of usable images."""
    with file_lock(root / ".facts.lock"):
        cached = load_facts(root / STORE)
        signatures = {path: file_signature(path) for path in dict.fromkeys(paths)}
        new = [path for path, signature in signatures.items() if cached.get(path, [None])[0] != signature]
        if new:
            info(f"reading {len(new)} images")
            read = track(map_images(read_facts, new, str), len(new), "reading")
            for path, (facts, error) in zip(new, read, strict=True):
                cached[path] = [signatures[path], *(facts if error is None else unusable(error))]
            usable = {path: row for path, row in cached.items() if row[-1] is None}
            write_json(root / STORE, {"code": code_hash(), "images": usable})
    return [ImageFacts(*cached[path][1:]) for path in paths]  # type: ignore[arg-type]


def load_facts(store: Path) -> Cached:
    """Return cached facts, empty if the file is unreadable or was written by other code."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        content = json.loads(store.read_text(encoding="utf-8"))
        if content["code"] == code_hash() and all(len(row) == 7 for row in content["images"].values()):
            return dict(content["images"])
    return {}


def code_hash() -> str:
    """Return a hash of the code and library versions that read images."""
    return content_hash([image_check.code_hash(), Path(image_facts.__file__).read_text(encoding="utf-8")])
