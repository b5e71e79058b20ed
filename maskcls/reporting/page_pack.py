"""Compact content of a page: compressed text and classes, and thumbnails that fit into a number of bytes."""

from __future__ import annotations

import base64
import json
import math
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import cv2
import numpy as np

from maskcls.core.task import IntArray
from maskcls.imaging.image_decoding import ReadPhoto
from maskcls.imaging.resize import shrink_image
from maskcls.reporting.board_scores import Classes, ScoredRows
from maskcls.system.console import CONTROLS, escape_controls

THUMBNAIL_SIDE = 72  # pixels
THUMBNAIL_QUALITY = 55
LEVEL = 7  # of zlib
ESCAPES = re.compile(r"\\[bfnrtu]")  # of control characters in JSON


def pack_bytes(content: bytes) -> str:
    """Return bytes compressed (zlib) in base64; a page reads them with DecompressionStream("deflate")."""
    return base64.b64encode(zlib.compress(content, LEVEL)).decode("ascii")


def pack_json(content: Mapping[str, Any]) -> str:
    """Return JSON, compressed in base64; control characters are shown as text, numbers that JSON lacks are null."""
    try:
        text = dump_json(content)
    except ValueError:  # NaN or infinity
        text = ""
    if not text or ESCAPES.search(text) or CONTROLS.search(text):
        text = dump_json(clean(content))
    return pack_bytes(text.encode())


def dump_json(content: Any) -> str:
    """Return JSON without blanks."""
    return json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def clean(value: Any) -> Any:
    """Return JSON-like content whose texts have no control characters, and whose numbers are finite or None."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str):
        return escape_controls(value, keep="")
    if isinstance(value, Mapping):
        return {clean(key): clean(item) for key, item in value.items()}
    return [clean(item) for item in value] if isinstance(value, list | tuple) else value


@dataclass
class RowTables:
    """The predicted classes of runs on the same rows: tables of classes, and the number of the run of each."""

    rows: ScoredRows
    owners: list[int] = field(default_factory=list)
    parts: list[Classes] = field(default_factory=list)

    def add(self, owner: int, preds: Classes) -> None:
        """Append the tables (tables, N) of a run; runs come in the order of their numbers."""
        self.owners += [owner] * len(preds)
        self.parts.append(preds)

    @cached_property
    def preds(self) -> Classes:
        """All tables, (tables, N)."""
        return np.concatenate(self.parts)

    def first(self, num_runs: int) -> Classes:
        """Return the tables of the first runs."""
        return self.preds[: sum(owner < num_runs for owner in self.owners)]

    def common(self, num_runs: int) -> list[int]:
        """Return the most frequent class of each image in the tables of the first runs."""
        preds, num_classes = self.first(num_runs), self.rows.task.num_classes
        cells = np.arange(preds.shape[1]) * num_classes + preds  # (tables, N)
        votes = np.bincount(cells.ravel(), minlength=preds.shape[1] * num_classes)
        common: list[int] = votes.reshape(-1, num_classes).argmax(1).tolist()
        return common

    def differences(self, num_runs: int) -> bytes:
        """Return how the classes differ from the most frequent one, modulo their number, image by image, (N, tables).

        Models agree on most images, so the differences are mostly 0 and compress well. Of many classes, a difference
        has two bytes, the lower one first.
        """
        difference = self.first(num_runs).T.astype(np.int32) - np.array(self.common(num_runs), np.int32)[:, None]
        return (difference % self.rows.task.num_classes).astype(self.kind).tobytes()

    @property
    def kind(self) -> str:
        """The type of a packed class: one byte, or two of many classes."""
        return "<u1" if self.rows.task.num_classes <= 256 else "<u2"


def pack_predictions(tables: Sequence[RowTables], num_runs: int, budget: int) -> tuple[str, int]:
    """Return the predictions of the first runs that fit into a number of bytes, and how many runs these are."""
    while num_runs > 0:
        text = pack_bytes(b"".join(table.differences(num_runs) for table in tables))
        if len(text) <= budget:
            return text, num_runs
        num_runs = min(int(num_runs * max(budget, 0) / len(text)), num_runs - 1)
    return pack_bytes(b""), 0


def rank_photos(preds: Classes, labels: IntArray) -> list[int]:
    """Return the images that some tables have right and others wrong, those of most pairs of tables first."""
    wrong = (preds != labels).sum(0).astype(np.int64)
    pairs = wrong * (len(preds) - wrong)
    return np.argsort(-pairs, kind="stable")[: int((pairs > 0).sum())].tolist()


def pack_thumbnails(read: ReadPhoto, names: Iterable[str], budget: int) -> dict[str, str]:
    """Return small WebP images in base64 by id, in order, as many as fit into a number of bytes."""
    thumbnails: dict[str, str] = {}
    for name in names:
        if (image := read(name)) is None:
            continue
        small = shrink_image(image, THUMBNAIL_SIDE)[..., ::-1]
        code = cv2.imencode(".webp", small, [cv2.IMWRITE_WEBP_QUALITY, THUMBNAIL_QUALITY])[1].tobytes()
        text = base64.b64encode(code).decode("ascii")
        budget -= len(text) + 1
        if budget < 0:
            break
        thumbnails[name] = text
    return thumbnails
