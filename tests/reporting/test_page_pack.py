"""Compact content of a page: what is unpacked is what was packed, within the bytes that are allowed."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest
from made_tasks import each_task

from maskcls.core.competition import MASK18
from maskcls.core.task import Attribute, Task
from maskcls.reporting.board_scores import ScoredRows
from maskcls.reporting.page_pack import RowTables, pack_json, pack_predictions, pack_thumbnails, rank_photos


def unpack(text: str) -> bytes:
    """Return the bytes of a packed text."""
    return zlib.decompress(base64.b64decode(text))


@pytest.fixture
def tables() -> list[RowTables]:
    """Return predictions of 6 runs on 50 images, and of the even ones on 20 more with two tables each."""
    random, found = np.random.default_rng(0), []
    for number, (count, owners, num_tables) in enumerate(((50, range(6), 1), (20, range(0, 6, 2), 2))):
        labels, ids = random.integers(0, 18, count), [f"{number}/{i}" for i in range(count)]
        rows = RowTables(ScoredRows(number, "oof", ids, labels, ids, pd.Series("", index=ids), MASK18))
        for owner in owners:
            noise = random.integers(0, 18, (num_tables, count))
            rows.add(owner, np.where(random.random((num_tables, count)) < 0.7, labels, noise).astype(np.uint8))
        found.append(rows)
    return found


@pytest.mark.parametrize("limit", [10**6, 200])
def test_predictions_are_unpacked_as_they_were(tables: list[RowTables], limit: int) -> None:
    text, num_runs = pack_predictions(tables, 6, limit)
    assert len(text) <= limit and (num_runs == 6) == (limit > 200) and num_runs > 0
    content = np.frombuffer(unpack(text), np.uint8)
    for table in tables:
        preds = table.first(num_runs)
        part, content = content[: preds.size], content[preds.size :]
        assert ((part.reshape(preds.shape[::-1]) + np.array(table.common(num_runs))[:, None]) % 18 == preds.T).all()
    assert not content.size


@each_task
def test_classes_of_any_number_are_unpacked_as_they_were(task: Task) -> None:
    random, ids = np.random.default_rng(0), [str(i) for i in range(40)]
    big = replace(task, attributes=(*task.attributes, Attribute("many", tuple(map(str, range(19))))))
    for one in (task, big):  # of few and of more than 256 classes
        labels = random.integers(0, one.num_classes, 40)
        rows = RowTables(ScoredRows(0, "oof", ids, labels, ids, pd.Series("", index=ids), one))
        for owner in range(3):
            rows.add(owner, random.integers(0, one.num_classes, (2, 40)).astype(np.uint16))
        text, _ = pack_predictions([rows], 3, 10**6)
        found = np.frombuffer(unpack(text), rows.kind).reshape(40, 6)
        assert ((found.astype(int) + np.array(rows.common(3))[:, None]) % one.num_classes == rows.preds.T).all()


def test_no_predictions_are_kept_where_none_fit(tables: list[RowTables]) -> None:
    assert pack_predictions(tables, 6, 20) == (pack_predictions(tables, 0, 20)[0], 0)


def test_photos_on_which_runs_differ_most_come_first() -> None:
    preds = np.array([[0, 1, 2, 3], [0, 1, 2, 9], [0, 9, 2, 9], [9, 9, 2, 9]], np.uint8)
    assert rank_photos(preds, np.array([0, 1, 2, 9])) == [1, 0, 3]  # all have the third right


def test_thumbnails_stop_where_the_next_one_does_not_fit() -> None:
    images = {f"{i}": np.random.default_rng(i).integers(0, 255, (90, 60, 3)).astype(np.uint8) for i in range(9)}
    found = pack_thumbnails(lambda name: images.get(name), ["gone", *images], 10_000)
    assert 0 < len(found) < 9 and sum(map(len, found.values())) < 10_000 and list(found) == list(images)[: len(found)]
    first = cv2.imdecode(np.frombuffer(base64.b64decode(found["0"]), np.uint8), cv2.IMREAD_COLOR)
    assert first is not None and first.shape == (72, 48, 3)


def test_numbers_that_json_lacks_are_null() -> None:
    content = json.loads(unpack(pack_json({"a": [float("nan"), 1.5, {"b": float("inf")}], "c": (-float("inf"), "NaN")})))
    assert content == {"a": [None, 1.5, {"b": None}], "c": [None, "NaN"]}


def test_json_has_no_control_characters() -> None:
    content = json.loads(unpack(pack_json({"a\x1b": ["\u202etxt\n", 1.5, None, ("b",)], "c": {"d": True}})))
    assert content == {"a\\x1b": ["\\u202etxt\\n", 1.5, None, ["b"]], "c": {"d": True}}
