"""Further columns of a CSV: which are groups, that they reach table.csv, and that they change no run's identity."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from maskcls.components.data import competition
from maskcls.components.data import table as read_csv_table
from maskcls.core.competition import MASK18
from maskcls.core.errors import RunError
from maskcls.core.group_values import find_groups
from maskcls.core.table import group_columns, scoring_columns, table_digest
from maskcls.storage.run import Run


def rows(**columns: list[str]) -> list[dict[str, str]]:
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]


@pytest.mark.parametrize(
    ("name", "cells", "is_group"),
    [("race", ["a", "b"] * 20, True), ("성별 2", ["가", "나"] * 20, True), ("race", ["a"] * 40, False), ("race", [""] * 40, False),
     ("race", [str(i) for i in range(40)], False), ("race", [str(i % 21) for i in range(420)], False),
     ("race", ["a", "b", "", ""] * 10, True), ("id", ["a", "b"] * 20, False), ("known", ["a", "b"] * 20, False),
     ("Person (not read)", ["a", "b"] * 20, False), ("a,b", ["a", "b"] * 20, False), ('"q', ["a", "b"] * 20, False),
     ("race", ["a,b", "c"] * 20, False), ("race", ["x" * 41, "c"] * 20, False), ("\x1b[31m", ["a", "b"] * 20, False),
     ("race", ["a\n", "b"] * 20, False), ("", ["a", "b"] * 20, False)],
)  # fmt: skip
def test_a_column_is_a_group_if_it_has_few_plain_values(name: str, cells: list[str], is_group: bool) -> None:
    assert find_groups(rows(**{name: cells}), ["known"]) == [name] * is_group


def test_no_rows_and_many_columns() -> None:
    assert find_groups([], []) == []
    many = rows(**{f"c{i}": ["a", "b"] * 4 for i in range(30)})
    assert find_groups(many, []) == [f"c{i}" for i in range(8)]


@pytest.fixture
def mixed(people: Path, tmp_path: Path) -> Path:
    """Return a copy of the tiny set whose train.csv names two values of race, and one person's is unknown."""
    source = pd.read_csv(people / "train" / "train.csv", dtype=str)
    for name in ("train/images", "eval"):
        (tmp_path / "mixed" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mixed" / name).symlink_to(people / name)
    source["race"] = ["", *["Asian" if i % 2 else "White" for i in range(1, len(source))]]
    source.to_csv(tmp_path / "mixed" / "train" / "train.csv", index=False)
    return tmp_path / "mixed"


def test_the_competitions_race_is_read_and_changes_no_digest(mixed: Path, people: Path, tmp_path: Path) -> None:
    told: list[str] = []
    table, plain = (competition(told.append, root=str(root), links=True, task=MASK18) for root in (mixed, people))
    assert group_columns(table) == ["group.race"] and group_columns(plain) == [] and told == []
    train = table["part"] == "train"
    assert set(table.loc[train, "group.race"]) == {"", "Asian", "White"} and set(table.loc[~train, "group.race"]) == {""}
    ready = [one.assign(fold=0, scored=one["part"] == "train", content="") for one in (table, plain)]
    assert table_digest(ready[0], task=MASK18) == table_digest(ready[1], task=MASK18)
    run = Run(tmp_path / "r-0")
    run.create({"hardware": {}})
    run.write_table(ready[0])
    assert list(pd.read_csv(run.table_path)) == [*scoring_columns(MASK18), "content", "group.race"]
    assert run.table["group.race"].tolist() == table["group.race"].tolist()
    run.table_path.write_text(run.table_path.read_text().replace("group.race", "group.race,group.race", 1))
    with pytest.raises(RunError, match=r"expected one column group\.race, got 2"):
        Run(tmp_path / "r-0").table


def test_a_column_of_ones_own_table_is_named_and_kept(people: Path, tmp_path: Path) -> None:
    files = sorted((people / "train" / "images").rglob("*.*"))[:12]
    own = pd.DataFrame({"path": [str(file) for file in files], "label": range(12), "person": [f"p{i // 2}" for i in range(12)],
                        "skin": ["I", "II"] * 6, "note": [f"n{i}" for i in range(12)]})  # fmt: skip
    own.to_csv(tmp_path / "own.csv", index=False)
    told: list[str] = []
    table = read_csv_table(told.append, task=MASK18, file=str(tmp_path / "own.csv"))
    assert table["group.skin"].tolist() == ["I", "II"] * 6 and group_columns(table) == ["group.skin"]
    assert f"{tmp_path}/own.csv: scores are shown for each value of column skin, which no training uses" in told
    assert f"{tmp_path}/own.csv: columns not used: note" in told
    own.rename(columns={"skin": "persn"}).drop(columns="person").to_csv(tmp_path / "own.csv", index=False)
    with pytest.raises(Exception, match="unknown column 'persn', did you mean 'person'"):
        read_csv_table(told.append, task=MASK18, file=str(tmp_path / "own.csv"))
