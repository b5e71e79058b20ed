"""maskcls audit on a real run of drawn people with planted errors: outputs, decisions, bad input."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

from maskcls.cli import audit
from maskcls.config.compose import compose
from maskcls.config.validation import validate
from maskcls.data.assemble import assemble_table
from maskcls.evaluation import audit_estimate
from maskcls.storage.run import Run

Call = Callable[..., str]


@pytest.fixture
def call(linked: tuple[list[str], Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Return a function that audits a finished run, in an empty folder, and returns what is printed."""
    _, run = linked
    (folder := run.parent.parent / "here").mkdir()
    monkeypatch.chdir(folder)

    def output(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["maskcls audit", *(arguments or (f"run={run}",)), "copies=1"])
        audit.main()
        return capsys.readouterr().out

    return output


def refusal(call: Call, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the message of a command that ends with code 2."""
    with pytest.raises(SystemExit, match="2"):
        call(*arguments)
    return capsys.readouterr().err


def test_a_run_is_audited_and_its_list_trains_another(call: Call, linked: tuple[list[str], Path]) -> None:
    words, run = linked
    printed = call(f"run={run}", "precision=0")
    assert "14" in printed and "label_issues.csv and label_issues.html" in printed
    rows = pd.read_csv("label_issues.csv", dtype=str, keep_default_na=False)
    assert len(rows) > 1 and "data:image/jpeg" in Path("label_issues.html").read_text()
    plain, patched = (validate(compose(*words, *more)) for more in ((), ("labels.patches=label_issues.csv",)))
    before, after = (assemble_table(cfg, lambda note: None) for cfg in (plain, patched))
    assert (before["label"] != after["label"]).any()
    shutil.copy("label_issues.csv", "same.csv")
    same = validate(compose(*words, "labels.patches=same.csv"))
    assert Run.of(same).id == Run.of(patched).id != Run.of(plain).id == run.name
    rows.iloc[1:].to_csv("same.csv", index=False)
    assert Run.of(validate(compose(*words, "labels.patches=same.csv"))).id != Run.of(patched).id


def test_refused_flags_are_left_out_and_files_of_other_content_are_kept(
    call: Call, linked: tuple[list[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = f"run={linked[1]}"
    call(run, "precision=0")
    first = Path("label_issues.csv").read_text()
    call(run, "precision=0")  # the same content is no conflict
    rows = pd.read_csv("label_issues.csv", dtype=str, keep_default_na=False)
    rows["decision"] = ["refused" if person == rows["person"][0] else "accepted" for person in rows["person"]]
    rows.to_csv("d.csv", index=False)
    message = refusal(call, capsys, run, "precision=0", "refused=d.csv")
    assert "exists with other content and is kept: this list is in label_issues-2.csv and label_issues-2.html" in message
    assert Path("label_issues.csv").read_text() == first
    second = pd.read_csv("label_issues-2.csv", dtype=str, keep_default_na=False)
    assert rows["person"][0] not in set(second["person"])
    call(run, "precision=0", "refused=d.csv", "overwrite=true")
    assert Path("label_issues.csv").read_text() == Path("label_issues-2.csv").read_text()


def test_evaluation_rows_are_audited_on_request_and_runs_are_averaged(call: Call, linked: tuple[list[str], Path]) -> None:
    _, run = linked
    assert "98 images of 14 people" in call(f"run={run}")
    assert "126 images of 18 people" in call(f"run={run}", "evaluation=true", "overwrite=true")
    twin = run.parent / "twin"
    shutil.copytree(run, twin)
    assert "98 images of 14 people" in call(f"run={run},{twin}", "overwrite=true")


def test_a_run_without_its_images_has_a_page_without_pictures(call: Call, linked: tuple[list[str], Path]) -> None:
    _, run = linked
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").unlink()
    root = next(line for line in text.splitlines() if line.strip().startswith("root:"))
    cache = next(line for line in text.splitlines() if line.startswith("cache_dir:"))
    (run / "config.yaml").write_text(text.replace(root, "  root: /nowhere/at/all").replace(cache, "cache_dir: /nowhere"))
    assert "the page has no images" in call(f"run={run}", "precision=0")
    assert "no image" in Path("label_issues.html").read_text()


def rewrite(run: Path, name: str, content: str) -> None:
    """Replace a file of a run, a hard link to the shared run."""
    (run / name).unlink()
    (run / name).write_text(content)


def test_changed_image_files_are_not_shown(call: Call, linked: tuple[list[str], Path], people: Path, tmp_path: Path) -> None:
    _, run = linked
    copy = shutil.copytree(people, tmp_path / "copy")
    config = yaml.safe_load((run / "config.yaml").read_text())
    config |= {"cache_dir": str(tmp_path / "none"), "data": {"name": "competition", "root": str(copy)}}
    rewrite(run, "config.yaml", yaml.dump(config, sort_keys=False))
    call(f"run={run}", "precision=0")
    assert "data:image/jpeg" in Path("label_issues.html").read_text()
    for file in copy.glob("train/images/*/*"):
        file.write_bytes(file.read_bytes() + b"0")
    assert "the page has no images" in call(f"run={run}", "precision=0", "overwrite=true")
    assert "data:image/jpeg" not in Path("label_issues.html").read_text()


def test_a_leak_is_on_terminal_and_page(call: Call, linked: tuple[list[str], Path]) -> None:
    _, run = linked
    assert "never saw them" in call(f"run={run}")
    table = pd.read_csv(run / "table.csv", dtype=str, keep_default_na=False)
    first = table.index[table["part"] == "train"][0]
    twin = shutil.copytree(run, run.parent / "twin")
    other = table.copy()
    other.loc[first, "fold"] = str(1 - int(table.loc[first, "fold"]))
    other.to_csv(twin / "table.csv", index=False)
    evaluated = table.index[table["part"] == "eval"][0]
    pseudo = table.loc[[evaluated]].assign(id="pseudo/" + table.loc[evaluated, "id"], part="extra", scored="False", fold="-1")
    table.loc[evaluated + 1, "person"] = table.loc[first, "person"]
    rewrite(run, "table.csv", pd.concat([table, pseudo]).to_csv(index=False))
    printed = call(f"run={run},{twin}", "evaluation=true", "overwrite=true")
    for text in (" ".join(printed.split()), Path("label_issues.html").read_text()):
        assert "never saw them" not in text and "LEAK: twin has 1 people in both training and validation" in text
        assert f"LEAK: {run.name} was trained on images of 1 people of the evaluation rows" in text
        assert f"LEAK: {run.name} was trained on 1 of the evaluation images, with pseudo-labels" in text


def test_a_search_that_finds_nothing_does_not_say_that_labels_are_right(
    call: Call, linked: tuple[list[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_estimate, "LOWEST", 1.1)  # no posterior is worth a look
    printed = " ".join(call(f"run={linked[1]}").split())
    message = "No list reaches the precision 0.6: the search finds 0% of planted errors"
    assert message in printed and "labels may still be wrong" in printed
    page = Path("label_issues.html").read_text()
    assert message in page and "No label is likely wrong" not in page and "probability of 1.00" not in page


def test_evaluation_rows_without_labels_are_an_error(
    call: Call, linked: tuple[list[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _, run = linked
    table = pd.read_csv(run / "table.csv", dtype=str, keep_default_na=False)
    table.loc[table["part"] == "eval", ["label", "scored"]] = ["-1", "False"]
    rewrite(run, "table.csv", table.to_csv(index=False))
    assert "has no labelled evaluation rows" in refusal(call, capsys, f"run={run}", "evaluation=true")


def test_a_list_begins_with_the_patches_that_the_run_has(
    call: Call, linked: tuple[list[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _, run = linked
    person = pd.read_csv(run / "table.csv", dtype=str).query("part == 'train'").iloc[0]
    new = ("male", "female")[int(person["label"]) // 3 % 2]
    old = {"male": "female", "female": "male"}[new]
    Path("r1.csv").write_text(f"person,photo,field,old,new\n{person['person']},,gender,{old},{new}\n{person['person']},,gender,{new},{old}\n")
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["labels"]["patches"] = "r1.csv"
    rewrite(run, "config.yaml", yaml.dump(config, sort_keys=False))
    call(f"run={run}", "precision=1")
    rows = pd.read_csv("label_issues.csv", dtype=str, keep_default_na=False)
    assert rows.iloc[0][["person", "old", "new"]].tolist() == [person["person"], old, new]
    assert (rows["source"] == "").sum() == 1, "a patch that the labels do not have is left out"
    assert "earlier = [{" in Path("label_issues.html").read_text()
    Path("r1.csv").unlink()
    assert "labels.patches=r1.csv, which cannot be read. Put the file back" in refusal(call, capsys, f"run={run}")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run=nothing"], "unknown run 'nothing'"),
        (["run={run}", "out=list.txt"], "out=list.txt: expected the name of a .csv file"),
        (["run={run}", "refused=none.csv"], "none.csv does not exist"),
        (["run={run}", "precison=1"], "unknown key 'precison', did you mean 'precision'?"),
        (["run={run}", "precision=2"], "precision must be at most 1, got 2"),
        (["run={run}", "copies=0"], "copies must be at least 1, got 0"),
        ([], "run has no default"),
    ],
)
def test_bad_input_is_one_sentence_before_any_work(
    words: list[str], message: str, linked: tuple[list[str], Path], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], tmp_path: Path,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["maskcls audit", *(word.format(run=linked[1]) for word in words)])
    with pytest.raises(SystemExit, match="2"):
        audit.main()
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("label_issues*"))


@pytest.mark.parametrize("broken", ["metrics.json", "oof.csv", "table.csv"])
def test_a_run_half_written_is_an_error_that_names_the_file(
    broken: str, call: Call, linked: tuple[list[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _, run = linked
    content = (run / broken).read_bytes()
    (run / broken).unlink()
    (run / broken).write_bytes(content[: len(content) // 2])
    assert broken in refusal(call, capsys, f"run={run}")


def test_runs_of_other_people_are_not_averaged(
    call: Call, linked: tuple[list[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _, run = linked
    twin = run.parent / "twin"
    shutil.copytree(run, twin)
    table = pd.read_csv(twin / "table.csv", dtype=str, keep_default_na=False)
    rows = table["part"] == "train"
    table.loc[rows.idxmax(), "label"] = str((int(table.loc[rows.idxmax(), "label"]) + 6) % 18)
    table.to_csv(twin / "table.csv", index=False)
    assert "cannot be audited together: validated on other images or labels" in refusal(call, capsys, f"run={run},{twin}")
