"""Files that may come from anybody are bounded in kind, size and nesting: YAML, JSON, CSV, archives, any bytes."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from foreign import FEW, LEAF, TEXT, changed, passes_or_says, said_of
from hypothesis import given
from hypothesis import strategies as some

from maskcls.components.hardware import cpu
from maskcls.core.competition import MASK18
from maskcls.inference.predictor import Predictor
from maskcls.storage.predictions import FoldPredictions, Predictions
from maskcls.storage.pretrained import read_state_dict
from maskcls.storage.run import Run
from maskcls.storage.run_files import (
    read_about,
    read_history,
    read_metrics,
    read_records,
    read_table,
)
from maskcls.storage.trained_model import open_model
from maskcls.system.safe_reading import FormatError, read_csv, read_json, read_npz, read_tensors, read_yaml


@pytest.mark.parametrize("header", ["id,id", '"id', "id" + ",x" * 70, "i" * 5000, "a,b", "\xff"])
def test_a_header_of_other_columns_is_refused(header: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(f"{header}\na,b\n".encode("latin-1"))
    with pytest.raises(ValueError):
        read_csv(tmp_path / "t.csv", {"id": str})


@pytest.mark.parametrize("num", [18, 200, 5000])
def test_as_many_columns_are_read_as_are_asked_for_and_not_twice_as_many(num: int, tmp_path: Path) -> None:
    types: dict[str, Any] = {"id": str, **{f"p{i}": np.float32 for i in range(num)}}
    for more, fits in ((9, True), (5000 + num, False)):
        names = [*types, *(f"x{i}" for i in range(more))]
        (tmp_path / "t.csv").write_text(",".join(names) + "\n" + ",".join("1" * len(names)) + "\n")
        with contextlib.nullcontext() if fits else pytest.raises(ValueError, match="expected"):
            assert len(read_csv(tmp_path / "t.csv", types)) == 1


@pytest.mark.parametrize("rows", ["a,1,2\n", "a,1,2\nb,1,2\n", "a,1\nb,1,2\n", "a,1\nb\n"])
def test_rows_that_are_longer_or_shorter_than_the_header_are_refused(rows: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"id,x\n{rows}")
    with pytest.raises(ValueError):
        read_csv(tmp_path / "t.csv", {"id": str, "x": int})


def test_yaml_of_dates_keys_that_are_not_text_and_many_values_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    for text in ("a: 2020-01-01", "1: 2", "a: !!binary aGk=", "a: !!set {b}", "[1]", "x", f"a: [{'1,' * 110_000}]", "a: 1e", "- ", "a: b: c",
                 "a: !!python/name:os.system", f"a: {'9' * 5000}", "a: *b", "--- 1\n--- 2", "a: [" * 50, "? [a]\n: 1"):  # fmt: skip
        file.write_text(text)
        if text == "a: 1e":
            assert read_yaml(file) == {"a": "1e"}
        else:
            assert str(file) in said_of(lambda: read_yaml(file))


def test_a_list_that_stands_in_two_places_is_written_twice_and_an_older_file_is_still_read(tmp_path: Path) -> None:
    both = [1, 2]
    place = Run(tmp_path / "t-0")
    place.create({"a": both, "b": {"c": both}})
    assert "*" not in place.config_path.read_text() and read_yaml(place.config_path) == {
        "a": both,
        "b": {"c": both},
    }
    (tmp_path / "old.yaml").write_text(yaml.safe_dump({"a": both, "b": {"c": both}}))
    assert "*id001" in (tmp_path / "old.yaml").read_text() and read_yaml(tmp_path / "old.yaml") == {
        "a": both,
        "b": {"c": both},
    }


@pytest.mark.parametrize(
    "text", ["{", "3", "[]", "null", '{"a": NaN}', '{"a": 1, "a": 2}', '{"a": ' + "9" * 5000 + "}", '{"a": ' + "9" * 40 + "}", "\xff",
             '{"a": "\xff"}', '{"a": -Infinity}', '{"a": [' + "1," * 110_000 + "1]}", "[" * 10_000, '{"a": ' * 40 + "1" + "}" * 40]
)  # fmt: skip
def test_json_that_is_not_a_mapping_of_plain_values_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(text.encode("latin-1"))
    assert str(tmp_path / "a.json") in said_of(lambda: read_json(tmp_path / "a.json"))


def test_an_archive_that_is_compressed_or_claims_more_than_it_has_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    np.savez_compressed(file, ids=np.zeros(100_000_000, np.int8))
    assert file.stat().st_size < 200_000 and "compressed" in said_of(lambda: read_npz(file))
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(head, {"descr": "<f8", "fortran_order": False, "shape": (2**55,)})
        archive.writestr("ids.npy", head.getvalue())
    file.write_bytes(whole.getvalue())
    assert str(file) in said_of(lambda: read_npz(file))
    np.savez(file, ids=np.arange(9))
    raw = bytearray(file.read_bytes())
    entry = raw.index(b"PK\1\2")
    raw[entry + 20 : entry + 28] = (10**9).to_bytes(4, "little") * 2
    file.write_bytes(raw)
    assert "bytes, as the file has, got 1000000000" in said_of(lambda: read_npz(file))


@pytest.mark.parametrize(("text", "message"), [
    ('{"a": {"b": 1, "c": 2, "b": 3}}', "duplicate key 'b'"),
    ('{"a": ' + "9" * 40 + "}", "expected integers of at most 64 bits, got one of 133"),
])  # fmt: skip
def test_a_refused_json_says_what_it_has(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    assert message in said_of(lambda: read_json(tmp_path / "a.json"))


def test_a_refused_yaml_says_what_it_has(tmp_path: Path) -> None:
    for text, message in (("1: 2", "expected text as keys, got int"), ("a: 2020-01-01", "and mappings, got date")):
        (tmp_path / "a.yaml").write_text(text)
        assert message in said_of(lambda: read_yaml(tmp_path / "a.yaml"))


def test_a_checkpoint_that_is_compressed_or_of_the_form_without_an_archive_is_refused(tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain.pt", tmp_path / "packed.pt"
    torch.save({"a": torch.ones(3)}, plain)
    with zipfile.ZipFile(plain) as archive, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as other:
        for member in archive.infolist():
            other.writestr(member.filename, archive.read(member))
    with pytest.raises(FormatError, match="compressed"):
        read_tensors(packed)
    torch.save({"a": torch.ones(3)}, plain, _use_new_zipfile_serialization=False)
    with pytest.raises(zipfile.BadZipFile):
        read_tensors(plain)
    assert list(read_state_dict(plain)) == ["a"]  # weights to begin with come in either form


@FEW
@given(data=some.data())
def test_any_closing_is_shown_or_refused(
    data: some.DataObject, finished: tuple[list[str], Path], tmp_path: Path
) -> None:
    from maskcls.reporting.summary import number_note, score_names, summary_rows

    content = data.draw(changed(json.loads((finished[1] / "metrics.json").read_text())))
    (tmp_path / "metrics.json").write_text(json.dumps(content))

    def show() -> None:
        metrics = read_metrics(tmp_path / "metrics.json", task=MASK18)
        list(summary_rows(metrics, score_names(metrics, MASK18)))
        number_note(metrics, MASK18)

    passes_or_says(show)


@FEW
@given(data=some.data())
def test_any_facts_are_shown_or_refused(
    data: some.DataObject, finished: tuple[list[str], Path], tmp_path: Path
) -> None:
    from maskcls.reporting.run_report import describe_environment

    place = Run(tmp_path / "t-0")
    place.path.mkdir(exist_ok=True)
    content = data.draw(changed(json.loads((finished[1] / "about.json").read_text())))
    place.about_path.write_text(json.dumps(content))
    place.history_path.write_text(json.dumps(data.draw(changed({"fold": 0, "epoch": 1, "seconds": 1.0}))))
    passes_or_says(lambda: describe_environment(place))


@FEW
@given(data=some.data())
def test_any_config_loads_or_is_refused(
    data: some.DataObject, finished: tuple[list[str], Path], tmp_path: Path
) -> None:
    place = finished[1]
    for name in ("table.csv", "metrics.json", "fold0", "fold1"):
        with contextlib.suppress(FileExistsError):
            (tmp_path / name).symlink_to(place / name)
    content = data.draw(changed(yaml.safe_load((place / "config.yaml").read_text())))
    with contextlib.suppress(yaml.YAMLError):
        (tmp_path / "config.yaml").write_text(
            yaml.dump(content, allow_unicode=data.draw(some.booleans())), errors="ignore"
        )
    passes_or_says(lambda: Predictor(open_model(tmp_path), cpu()))


@FEW
@given(
    row=some.integers(0, 125),
    column=some.sampled_from(["id", "person", "label", "part", "fold", "scored", "age"]),
    value=LEAF | TEXT,
)
def test_any_cell_of_a_table_is_read_or_refused(
    row: int, column: str, value: Any, finished: tuple[list[str], Path], tmp_path: Path
) -> None:
    table = pd.read_csv(finished[1] / "table.csv", dtype=str, keep_default_na=False)
    table.loc[row, column] = str(value)
    with (tmp_path / "table.csv").open("w", errors="ignore") as file:
        table.to_csv(file, index=False)
    passes_or_says(lambda: read_table(tmp_path / "table.csv", MASK18))


@FEW
@given(
    content=some.binary(max_size=300),
    suffix=some.sampled_from([".json", ".yaml", ".csv", ".npz", ".jsonl"]),
    front=some.sampled_from([b"", b"{", b"a: ", b"id,p0\n", b"PK\3\4"]),
)
def test_any_bytes_are_read_or_refused(content: bytes, suffix: str, front: bytes, tmp_path: Path) -> None:
    file = tmp_path / f"log{suffix}"
    file.write_bytes(front + content)
    readers: dict[str, list[Callable[[Path], Any]]] = {
        ".json": [read_json, partial(read_metrics, task=MASK18), read_about, read_records], ".yaml": [read_yaml],
        ".csv": [partial(read_table, task=MASK18), partial(Predictions.read, task=MASK18)],
        ".npz": [read_npz, partial(FoldPredictions.read, task=MASK18)], ".jsonl": [read_history],
    }  # fmt: skip
    for reader in readers[suffix]:
        passes_or_says(lambda reader=reader: reader(file))  # type: ignore[misc]
