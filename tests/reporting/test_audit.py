"""The list of suspected errors, and its page: patches, decisions, refused flags, and clicks in a real browser."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from audited_people import OF_GROUP, audited_groups, audited_people
from made_tasks import STAGES, each_task

from maskcls.core.competition import MASK18
from maskcls.core.errors import DataError
from maskcls.core.label_patches import apply_patches, read_patches
from maskcls.core.table import PATCH_COLUMNS
from maskcls.core.task import Task
from maskcls.evaluation.label_issues import Suspicions
from maskcls.evaluation.planted_errors import plant_errors
from maskcls.reporting import audit
from maskcls.reporting.audit import Flag

EARLIER = dict(zip(PATCH_COLUMNS, ("extended", "z", "", "gender", "male", "female", "an earlier audit"), strict=True))


@pytest.fixture(scope="module")
def audited() -> tuple[pd.DataFrame, pd.DataFrame, list[Flag]]:
    """Return the true labels, labels with planted errors, and the flags."""
    truth, evidence = audited_people(120)
    wrong, _ = plant_errors(truth, {"mask": 3, "gender": 3, "age": 3}, np.random.default_rng(0), OF_GROUP, MASK18)
    found = replace(evidence, table=wrong).suspicions()
    wrong = wrong.assign(part="train", patchable=True)
    return truth, wrong, audit.list_flags(wrong, found, 0.3, "audit of a test", MASK18)


def read_refused(path: Path) -> set[tuple[str, ...]]:
    """Return the refused keys of the competition's task."""
    return audit.read_refused(path, MASK18)


def written(flags: list[Flag], path: Path) -> Path:
    path.write_text(audit.format_issues(flags))
    return path


def test_the_list_is_ranked_and_each_row_is_a_patch_with_its_old_value(audited: Any) -> None:
    _, _wrong, flags = audited
    rows = pd.read_csv(io.StringIO(audit.format_issues(flags)), dtype=str, keep_default_na=False)
    assert list(rows) == [*PATCH_COLUMNS, "probability"] and len(flags) >= 6
    assert rows["probability"].astype(float).is_monotonic_decreasing
    assert (rows["old"] != rows["new"]).all() and set(rows["field"]) == {"mask", "gender", "age"}
    assert (rows.loc[rows["field"] == "mask", "photo"] != "").all() and (rows.loc[rows["field"] != "mask", "photo"] == "").all()


def test_applying_the_list_corrects_what_was_planted(audited: Any, tmp_path: Path) -> None:
    truth, wrong, flags = audited
    file = written(flags, tmp_path / "issues.csv")
    notes: list[str] = []
    mended = apply_patches(wrong.copy(), str(file), notes.append, MASK18)
    before, after = ((table["label"] != truth["label"]).sum() for table in (wrong, mended))
    assert after < before / 2
    num = sum(len(flag.patches) for flag in flags)
    assert len(notes) == 1 and f"by the {num} patches of {file}" in notes[0]
    touched = {row for flag in flags for row in (flag.changed if flag.kind == "mask" else flag.images)}
    untouched = sorted(set(range(len(wrong))) - touched)
    assert (mended.loc[untouched, "label"] == wrong.loc[untouched, "label"]).all()
    again = apply_patches(mended.copy(), str(file), notes.append, MASK18)
    pd.testing.assert_frame_equal(again, mended)


def gender_flag(table: pd.DataFrame, person: str) -> Flag:
    """Return the flag of the gender of all images of a person."""
    rows = np.flatnonzero(table["person"] == person)
    part = Suspicions("gender", sorted(set(table["person"])), np.zeros(0), np.zeros(0), 0.0,
                      pd.factorize(table["person"], sort=True)[0], 1 - table["gender"].to_numpy())  # fmt: skip
    part = replace(part, evidence=np.where(np.array(part.persons) == person, 50.0, -50.0), other=np.ones(len(part.persons)), rate=0.5)
    (flag,) = audit.list_flags(table, {"gender": part}, 0.9, "audit of a test", MASK18)
    assert flag.images == list(rows)
    return flag


@pytest.mark.parametrize("names", [("anna_smith", "anna_jones"), ("s", "s_2"), ("s_2", "s"), ("a_b_c", "a_b")])
def test_only_the_flagged_person_is_changed_whoever_else_the_data_has(names: tuple[str, str], tmp_path: Path) -> None:
    table, _ = audited_people(2)
    first, second = table["person"].unique()
    table["person"] = table["person"].map({first: names[0], second: names[1]})
    table = table.assign(part="train", patchable=True)
    scored = table[table["person"] == names[0]].reset_index(drop=True)
    file = written([gender_flag(scored, names[0])], tmp_path / "issues.csv")
    mended = apply_patches(table.copy(), str(file), lambda note: None, MASK18)
    assert set(mended.loc[mended["gender"] != table["gender"], "person"]) == {names[0]}


def test_only_the_flagged_image_is_changed_whatever_other_images_are_called(audited: Any, tmp_path: Path) -> None:
    _, wrong, flags = audited
    flag = next(flag for flag in flags if flag.kind == "mask")
    row = min(flag.changed)
    twin = wrong.iloc[[row]].assign(id=wrong["id"][row].replace("/images/", "/images/more/"))
    table = pd.concat([wrong, twin], ignore_index=True)
    mended = apply_patches(table.copy(), str(written([flag], tmp_path / "issues.csv")), lambda note: None, MASK18)
    assert set(np.flatnonzero(mended["mask"] != table["mask"])) == flag.changed


def test_a_flag_is_left_out_only_if_all_of_its_changes_are_refused(audited: Any, tmp_path: Path) -> None:
    *_, flags = audited
    swap = next(flag for flag in flags if flag.kind == "mask" and len(flag.patches) > 1)
    text = audit.format_issues([replace(swap, patches=swap.patches[:1])])
    (tmp_path / "a.csv").write_text(text)
    assert not swap.keys(MASK18) <= audit.read_refused(tmp_path / "a.csv", MASK18)
    first = swap.patches[0]
    other = next(word for word in ("worn", "incorrect", "none") if word not in (first["old"], first["new"]))
    changed = replace(swap, patches=[first | {"new": other}])
    assert not changed.keys(MASK18) & audit.read_refused(tmp_path / "a.csv", MASK18), "another suggestion is another flag"
    age = next(flag for flag in flags if flag.kind == "age").patches[0]
    years = int(age["new"])
    near = replace(swap, patches=[age | {"new": str(years + (1 if years in (0, 30, 60) else -1))}])
    assert near.keys(MASK18) == {audit.key_of(age, MASK18)}, "years of one class are one suggestion"


@pytest.mark.parametrize("word", ["Refused", "REFUSED", "refused", "refuse", "no", "Accepted", ""])
def test_a_decision_counts_in_any_case_and_an_unknown_word_is_named(word: str, audited: Any, tmp_path: Path) -> None:
    *_, flags = audited
    rows = pd.read_csv(written(flags, tmp_path / "a.csv"), dtype=str, keep_default_na=False)
    rows.assign(decision=word).to_csv(tmp_path / "b.csv", index=False)
    for read in (read_refused, lambda path: set(read_patches(str(path), MASK18)["person"])):
        if word in ("refuse", "no"):
            with pytest.raises(DataError, match=rf"b\.csv line 2: unknown decision '{word}'"):
                read(tmp_path / "b.csv")
        else:
            is_empty = (word.lower() == "refused") == (read is not read_refused)
            assert (not read(tmp_path / "b.csv")) == is_empty


def test_flags_of_evaluation_rows_are_not_in_the_list(audited: Any) -> None:
    *_, flags = audited
    found = [replace(flag, patches=[patch | {"part": "eval"} for patch in flag.patches]) for flag in flags[:1]]
    assert audit.format_issues([*found, *flags[1:]]) == audit.format_issues(flags[1:])


def test_refused_flags_are_read_back_and_accepted_ones_are_not(audited: Any, tmp_path: Path) -> None:
    *_, flags = audited
    rows = pd.read_csv(written(flags, tmp_path / "a.csv"), dtype=str, keep_default_na=False)
    decisions = ["refused" if i % 2 else "accepted" for i in range(len(rows))]
    rows.assign(decision=decisions).to_csv(tmp_path / "b.csv", index=False)
    refused = audit.read_refused(tmp_path / "b.csv", MASK18)
    assert refused == {audit.key_of(row, MASK18) for row in rows.loc[1::2].to_dict("records")}
    assert audit.read_refused(tmp_path / "a.csv", MASK18) == set().union(*(flag.keys(MASK18) for flag in flags))


@pytest.mark.parametrize("text", ["", "person,field\n1,mask\n", "person,photo,field,old\n1,mask\n", "\x00\xff"])
def test_a_broken_file_of_decisions_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_text(text, "latin-1")
    with pytest.raises(DataError, match=r"b\.csv"):
        audit.read_refused(tmp_path / "b.csv", MASK18)


@pytest.fixture
def page(audited: Any, tmp_path: Path) -> Path:
    """Return the page of the flags, with one readable image for all and a hostile name."""
    _, wrong, flags = audited
    table, lost = wrong.copy(), wrong["id"][flags[0].images[0]]
    images = audit.read_thumbnails(table, flags, lambda name: None if name == lost else np.full((20, 16, 3), 128, np.uint8))
    table.loc[flags[0].images, "person"] = "</script><b>\x1b[1m"
    expected = np.full(len(table), 40.0)
    path = tmp_path / "label_issues.html"
    path.write_text(audit.format_page("Labels of a-1", table, flags, [["mask", "9", "3", "3", "1", "1"]], ["a fact"], expected, images, [EARLIER], MASK18))
    return path


def test_the_page_is_self_contained_and_shows_hostile_names_as_text(page: Path) -> None:
    text = page.read_text()
    assert "default-src 'none'" in text and "src=\"http" not in text and "</script><b>" not in text
    assert text.count("</script>") == 1 and "no image" in text and "\x1b" not in text


@each_task
def test_flags_of_any_task_are_patches_and_cards_in_its_words(task: Task, tmp_path: Path) -> None:
    truth, evidence = audited_groups(task, 40, task.names[1:2])
    wrong, _ = plant_errors(truth, dict.fromkeys(task.names, 2), np.random.default_rng(0), evidence.group_names, task)
    table = wrong.assign(part="train", patchable=True)
    flags = audit.list_flags(table, replace(evidence, table=wrong).suspicions(), 0.2, "audit of a test", task)
    rows = pd.read_csv(io.StringIO(audit.format_issues(flags)), dtype=str, keep_default_na=False)
    assert len(rows) and (rows["old"] != rows["new"]).all() and set(rows["field"]) <= set(task.names)
    for row in rows.itertuples():
        attribute = task[row.field]
        assert row.old in attribute.values and (float(row.new) >= 0 if attribute.is_number else row.new in attribute.values)
    (tmp_path / "a.csv").write_text(audit.format_issues(flags))
    mended = apply_patches(table.copy(), str(tmp_path / "a.csv"), lambda note: None, task)
    before, after = ((one["label"] != truth["label"]).sum() for one in (table, mended))
    assert after < before / 2
    assert audit.read_refused(tmp_path / "a.csv", task) == set().union(*(flag.keys(task) for flag in flags))
    page = audit.format_page("T", table, flags, [], [], None, {}, [], task).partition("<main>")[2].partition("<script>")[0]
    assert page.count("<article") == len(flags) and "None" not in page and ", ." not in page
    assert (" days" in page) == (task is STAGES) and (" years" in page) == ("age" in task.names)


@pytest.fixture
def browser() -> Iterator[Any]:
    """Return Chromium, driven by Playwright."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright, pip install 'maskcls[dev]'")
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("needs Chromium, apt-get install chromium")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.mark.slow
def test_clicks_and_keys_decide_are_remembered_and_are_downloaded(page: Path, audited: Any, browser: Any, tmp_path: Path) -> None:
    *_, flags = audited
    tab = browser.new_page(viewport={"width": 400, "height": 800})
    faults: list[str] = []
    tab.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: faults.append(str(error)))
    tab.on("request", lambda request: faults.append(request.url) if not request.url.startswith(("file:", "data:", "blob:")) else None)
    tab.goto(page.as_uri())
    cards = tab.locator("article")
    assert cards.count() == len(flags)
    cards.nth(0).locator(".accept").click()
    cards.nth(1).locator(".refuse").click()
    tab.keyboard.press("j")  # to the third
    tab.keyboard.press("r")
    assert tab.inner_text("#count") == f"{len(flags)} flags: 1 accepted, 2 refused, precision 0.33 so far"
    tab.reload()
    assert "1 accepted, 2 refused" in tab.inner_text("#count")
    tab.select_option("#kind", "open")
    assert cards.locator("visible=true").count() == len(flags) - 3
    texts, names = {}, []
    for button in ("issues", "decisions"):
        with tab.expect_download() as download:
            tab.click(f"#{button}")
        names.append(download.value.suggested_filename)
        texts[button] = Path(download.value.path()).read_text()
    assert texts["issues"] == audit.format_issues(flags[:1], [EARLIER])
    (tmp_path / "label_decisions.csv").write_text(texts["decisions"])
    refused = audit.read_refused(tmp_path / "label_decisions.csv", MASK18)
    assert refused == flags[1].keys(MASK18) | flags[2].keys(MASK18)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 400
    assert names == ["label_accepted.csv", "label_decisions.csv"] and texts["decisions"].count(",accepted\n") == 1 + len(flags[0].patches)
    assert faults == []
