"""Results of ladders that come from others: shown as text, or refused with a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from foreign import FEW, changed, passes_or_says, said_of
from hypothesis import given
from hypothesis import strategies as some

from maskcls.config.config_folders import resource_dir
from maskcls.ladder.pages import render_page
from maskcls.ladder.tables import markdown_tables, print_tables


@pytest.fixture
def results(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """Return a folder of results, and what it keeps of one rung."""
    file = resource_dir("experiments") / "results" / "team" / "focal.json"
    (tmp_path / "team").mkdir()
    return tmp_path, json.loads(file.read_text(encoding="utf-8"))


def test_words_of_a_result_are_text_in_the_page_and_in_markdown(results: tuple[Path, dict[str, Any]]) -> None:
    folder, records = results
    for record in records.values():
        record |= {"hardware": ["<script>a</script>"], "commit": ["<img src=x>"]}
    (folder / "team" / "focal.json").write_text(json.dumps(records))
    for text in (markdown_tables(folder, "team"), render_page(folder, ["team"])):
        assert "&lt;script&gt;a" in text and "<script" not in text and "<img src=x" not in text


@pytest.mark.parametrize(
    "change", [{"scores": {}}, {"scores": 3}, {"runs": {"a": "x"}}, {"seeds": 0}, {"difference": {"f1": "x"}}, {"data": {}}, {"given": 3}, {"leak": "x"},
               {"hardware": [1]}, {"scale": {"name": "small"}}]
)  # fmt: skip
def test_a_wrong_result_of_a_ladder_is_refused(change: dict[str, Any], results: tuple[Path, dict[str, Any]]) -> None:
    folder, records = results
    file = folder / "team" / "focal.json"
    file.write_text(json.dumps({key: record | change for key, record in records.items()}))
    assert str(file) in said_of(lambda: markdown_tables(folder, "team"))


@FEW
@given(data=some.data())
def test_any_result_is_shown_or_refused(data: some.DataObject, results: tuple[Path, dict[str, Any]]) -> None:
    folder, records = results
    (folder / "team" / "focal.json").write_text(json.dumps(data.draw(changed(records))))
    passes_or_says(lambda: markdown_tables(folder, "team"))
    passes_or_says(lambda: print_tables(folder, "team"))
