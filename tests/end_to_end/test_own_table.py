"""A run on a CSV of one's own: foreign words, few photos, no people; its rows are its identity."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from maskcls.components.data import competition
from maskcls.config.compose import compose
from maskcls.config.validation import validate
from maskcls.core.competition import MASK18
from maskcls.engine.runner import run
from maskcls.storage.run import Run


@pytest.fixture
def mine(people: Path, tmp_path: Path) -> Path:
    """Return a CSV of eighteen of the tiny set's photos, in words of its own, without people."""
    table = competition(lambda note: None, root=str(people), task=MASK18).query("part == 'train'").iloc[::5].iloc[:18]
    own = pd.DataFrame({
        "Photo": [Path(path).name for path in table["id"].str.replace("/", "_")], "Sex": table["gender"].map({0: "M", 1: "F"}),
        "Years": table["age"].astype(int), "Mask status": table["mask"].map({0: "with_mask", 1: "mask_weared_incorrect", 2: "without_mask"}),
    })  # fmt: skip
    (tmp_path / "own").mkdir()
    for path, name in zip(table["path"], own["Photo"], strict=True):
        shutil.copy(path, tmp_path / "own" / name)
    own.to_csv(tmp_path / "own" / "photos.csv", index=False)
    return tmp_path / "own" / "photos.csv"


def test_a_small_table_of_ones_own_is_run_and_its_rows_name_the_run(
    mine: Path, tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*(word for word in tiny if not word.startswith("data.")), "epochs=1", "data=table"]
    score = run(compose(*words, f"data.file={mine}"))
    shown = capsys.readouterr().out
    assert f"{mine}: read column 'Photo' as path, 'Sex' as gender ('M' as male" in shown
    closing = shown[shown.index("out of fold") :]
    assert f"LEAK possible: {mine}: no column 'person'" in closing
    (place,) = (tmp_path / "runs").iterdir()
    assert yaml.safe_load((place / "config.yaml").read_text())["batch_size"] == 9
    report = (place / "report.html").read_text()
    assert "Scores may leak.</b>" in report and "batch_size=16 was lowered to 9" in report
    moved = shutil.copytree(mine.parent, tmp_path / "moved") / mine.name
    assert run(compose(*words, f"data.file={moved}")) == score and len(list((tmp_path / "runs").iterdir())) == 1
    table = pd.read_csv(moved)
    table.assign(Years=table["Years"].replace(table["Years"].max(), 75)).to_csv(moved, index=False)
    assert Run.of(validate(compose(*words, f"data.file={moved}"))).path not in (tmp_path / "runs").iterdir()
