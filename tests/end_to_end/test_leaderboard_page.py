"""The page of maskcls leaderboard in a real Chromium: sort, filter, baseline, two runs, photos, curves; no request."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_runs import image_table, make_run

from maskcls.cli.leaderboard import LeaderboardOptions, leaderboard
from maskcls.core.competition import MASK18
from maskcls.core.task import Attribute, Task
from maskcls.reporting.comparison import RunScores, format_difference
from maskcls.storage.run import Run

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
Open = Callable[..., Any]
ROWS = "#board tbody tr"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Return a Chromium without a network of its own."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install 'maskcls[dev]'")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Open]:
    """Return a function that opens a page from its file; at the end, it has made no request and no complaint."""
    seen: list[str] = []
    pages: list[tuple[Any, str]] = []

    def open_file(path: Path, width: int = 1280, scheme: str = "light") -> Any:
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        url = path.absolute().as_uri()
        page.on("request", lambda request: seen.append(request.url) if request.url != url else None)
        page.on("console", lambda message: seen.append(message.text))
        page.on("pageerror", lambda error: seen.append(str(error)))
        page.goto(url)
        page.wait_for_selector("html[data-ready]")
        pages.append((page, url))
        return page

    yield open_file
    for page, _ in pages:
        page.close()
    assert seen == []


def write(runs_dir: Path, **options: Any) -> Path:
    """Write the leaderboard of a folder; return the page."""
    out = runs_dir.parent / "board.html"
    leaderboard(LeaderboardOptions(str(runs_dir), str(out), **options))
    return out


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with runs of every kind: two losses, other rows, unfinished, damaged, and a hostile name."""
    folder = tmp_path_factory.mktemp("board") / "runs"
    table = image_table(25, 21).assign(content="c")
    for i in range(6):
        loss = {"name": "focal", "gamma": float(i)} if i % 2 else {"name": "ce"}
        make_run(folder / f"a-{i}", table, 0.4 + i / 12, seed=i, loss=loss, facts={"group": f"sweep-{i % 2}"})
    make_run(folder / "plain" / "b-1", image_table(25), 0.7, seed=7)
    make_run(folder / "c-1", image_table(26), 0.7, seed=8)
    make_run(folder / "d-1", table).metrics_path.unlink()
    make_run(folder / "e-1", table).metrics_path.write_text('{"folds":')
    make_run(folder / "</script><b>x", table, 0.3, seed=9, loss={"name": "</script><script>alert(1)</script>"})
    return folder


@pytest.fixture(scope="module")
def path(made: Path) -> Path:
    """Return the page of the made runs."""
    return write(made)


def names(page: Any) -> list[str]:
    """Return the names of the runs that the table shows, in order."""
    found: list[str] = page.locator(ROWS).evaluate_all("rows => rows.map(row => row.dataset.run)")
    return found


def await_names(page: Any, expected: list[str]) -> None:
    """Wait until the table shows these runs; the page draws after the event."""
    for _ in range(200):
        if names(page) == expected:
            return
        page.wait_for_timeout(50)
    assert names(page) == expected


def row(page: Any, name: str) -> Any:
    """Return the row of a run."""
    return page.locator(f'tr[data-run="{name}"]')


def test_runs_are_sorted_by_any_column_by_mouse_and_keyboard(path: Path, open_page: Open) -> None:
    page = open_page(path)
    best = names(page)
    assert best[0] == "a-5" and set(best[-2:]) == {"d-1", "e-1"} and len(best) == 11
    header = page.get_by_role("button", name="run", exact=True)
    header.click()
    page.wait_for_selector("th[aria-sort=ascending]")
    made_names = [f"a-{i}" for i in range(6)]
    assert [name for name in names(page) if name in made_names] == made_names and names(page)[-1] == "plain/b-1"
    assert page.locator("th[aria-sort=ascending]").inner_text().strip() == "run"
    header.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("th[aria-sort=descending]")
    assert [name for name in names(page) if name in made_names] == made_names[::-1] and names(page)[0] == "plain/b-1"
    assert page.locator("th[aria-sort=descending]").count() == 1
    page.get_by_role("button", name="loss.gamma").click()
    page.wait_for_selector("th[aria-sort=ascending]")
    assert names(page)[:3] == ["a-1", "a-3", "a-5"]  # numbers, and runs without one last


def test_runs_are_filtered_by_words_and_state(path: Path, open_page: Open) -> None:
    page = open_page(path)
    page.locator("#filter").fill("loss=focal a-")
    await_names(page, ["a-5", "a-3", "a-1"])
    assert page.locator("#count").inner_text().startswith("3 of 11 runs")
    page.locator("#filter").fill("no such run")
    await_names(page, [])
    page.locator("#filter").fill("")
    page.locator("#state").select_option("unreadable")
    await_names(page, ["e-1"])
    assert "metrics.json" in row(page, "e-1").inner_text() and "off" in row(page, "e-1").get_attribute("class")
    page.locator("#state").select_option("stopped")
    await_names(page, ["d-1"])
    assert "before its closing metrics" in row(page, "d-1").inner_text()
    assert row(page, "d-1").locator("input[type=radio]").is_disabled()


def test_the_columns_are_the_parameters_that_differ(path: Path, open_page: Open) -> None:
    text = open_page(path).locator("thead").inner_text()
    assert {"loss", "loss.gamma", "group"} <= set(text.split()) and not {"seed", "epochs", "model"} & set(text.split())


def shown(cell: Any) -> list[float] | None:
    """Return the difference that a row shows and its interval, with all digits."""
    found = cell.locator("[data-f1]")
    if not found.count():
        return None
    return [float(found.get_attribute(f"data-{name}")) for name in ("f1", "low", "high")]


def test_every_difference_to_every_baseline_is_that_of_compare(made: Path, path: Path, open_page: Open) -> None:
    page, scores = open_page(path), {}
    for name in ("a-0", "a-3", "a-5", "plain/b-1", "c-1"):
        scores[name] = RunScores.of([[Run(made / name)]], is_ensemble=False)
    num_compared = 0
    for base in scores:
        row(page, base).locator("input[type=radio]").check()
        row(page, base).locator("td.wide small", has_text="baseline").wait_for()
        for name in scores.keys() - {base}:
            expected, found = scores[name].compare(scores[base]), shown(row(page, name))
            text = row(page, name).inner_text()
            if "why" in expected:
                assert found is None and "other rows" in text
                continue
            np.testing.assert_allclose(found, [expected["f1"], *expected["interval"]], rtol=0, atol=1e-12)
            assert " ".join(format_difference(expected).split()) in " ".join(text.split())
            num_compared += 1
    assert num_compared == 12  # of all but c-1; of plain/b-1 out of fold


def test_two_runs_are_compared_in_two_clicks_with_classes_and_photos(made: Path, path: Path, open_page: Open) -> None:
    page = open_page(path)
    row(page, "a-0").locator("input[type=checkbox]").check()
    page.get_by_role("link", name="compare a-0 with the baseline").click()
    assert page.locator("#mends").is_visible() and page.locator("#breaks").is_visible()
    labels, was, now = (classes(made, name) for name in ("", "a-5", "a-0"))
    mended, broken = (was != labels) & (now == labels), (was == labels) & (now != labels)
    assert page.locator("#mends h3").inner_text() == f"B mends {mended.sum()} photos"
    assert page.locator("#breaks h3").inner_text() == f"B breaks {broken.sum()} photos"
    cells = [line.split("\t") for line in page.locator("#classes tbody").inner_text().splitlines()]
    assert sum(int(cell[4]) for cell in cells) == len(labels) and sum(int(cell[5] or 0) for cell in cells) == mended.sum()
    assert "No photos: the image files and the pixel cache of these runs are gone" in page.locator("#pair").inner_text()
    assert "loss: focal → ce" in page.locator("#pair").inner_text()
    page.get_by_role("button", name="swap A and B").click()
    page.locator("#mends h3", has_text=f"B mends {broken.sum()} photos").wait_for()
    assert page.locator("#mends h3").inner_text() == f"B mends {broken.sum()} photos"


def classes(made: Path, name: str) -> Any:
    """Return the out-of-fold classes of a run, or the labels, in the order of the ids."""
    run = Run(made / (name or "a-0"))
    rows = run.val_table.sort_values("id")
    return run.predictions("oof").select(rows["id"].tolist()).argmax(1) if name else rows["label"].to_numpy()


def test_curves_are_drawn_for_the_chosen_runs(path: Path, open_page: Open) -> None:
    page = open_page(path, scheme="dark")
    for name in ("a-0", "d-1"):
        row(page, name).locator("input[type=checkbox]").check()
    page.locator("#curve").select_option("validation loss")
    chart = page.locator(".chart")
    assert "validation loss by epoch" in chart.get_attribute("aria-label")
    assert all(f"{name}: 0.8333" in chart.get_attribute("aria-label") for name in ("a-5", "a-0", "d-1"))
    assert page.locator(".u-legend .u-series").count() == 4 and page.locator(".chart canvas").count() == 1


@pytest.mark.parametrize(("width", "scheme"), [(400, "light"), (400, "dark"), (1280, "dark")])
def test_the_page_fits_its_width_and_follows_the_color_scheme(width: int, scheme: str, path: Path, open_page: Open) -> None:
    page = open_page(path, width, scheme)
    row(page, "a-0").locator("input[type=checkbox]").check()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    color = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(map(int, color[4:-1].split(",")))
    assert brightness > 600 if scheme == "light" else brightness < 150
    assert row(page, "a-0").inner_text().count("0.") >= 3  # scores stay readable as a card


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of two runs, one with a leak, one of other rows, and two on the same images of other people."""
    folder, table = tmp_path_factory.mktemp("odd") / "runs", image_table(25)
    for name, rows, skill, lr in (
        ("a-1", table, 0.5, 0.1), ("a-2", table, 0.6, 0.15), ("leaky", table, 0.95, 0.2), ("rows", image_table(24), 0.9, 0.3),
        ("images", table.assign(person=table["id"]), 0.4, 0.4), ("grouped", table.assign(person=np.roll(table["person"], 3)), 0.3, 0.5),
    ):  # fmt: skip
        run = make_run(folder / name, rows, skill, loss={"name": "focal", "gamma": lr})
        metrics = run.metrics() or {}
        run.metrics_path.write_text(json.dumps(metrics | {"people_on_both_sides": 7 * (name == "leaky")}))
    return write(folder)


def test_a_run_with_a_leak_is_neither_first_nor_the_baseline(odd: Path, open_page: Open) -> None:
    page = open_page(odd)
    assert names(page) == ["rows", "a-2", "a-1", "images", "grouped", "leaky"]
    assert row(page, "a-2").locator("input[type=radio]").is_checked()  # most runs have these rows
    page.get_by_role("button", name="reverse the order").click()
    await_names(page, ["grouped", "images", "a-1", "a-2", "rows", "leaky"])


def test_runs_on_the_same_images_of_other_people_are_not_compared(odd: Path, open_page: Open) -> None:
    page = open_page(odd)
    assert shown(row(page, "a-1")) and shown(row(page, "images")) is shown(row(page, "grouped")) is None
    assert "other people of the same images: 175 and 25" in row(page, "images").inner_text()
    assert "other people of the same images: 25 and 25" in row(page, "grouped").inner_text()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("gamma=0.1", ["a-1"]), ("LOSS.gamma=0.10", ["a-1"]), ("loss.gamma=.15", ["a-2"]), ("amma=0.1", []), ("gamma=0", []),
        ("gamma=", ["rows", "a-2", "a-1", "images", "grouped", "leaky"]), ("gamma=0.1 a-2", []), ("leak", ["leaky"]),
    ],
)  # fmt: skip
def test_a_word_with_a_value_is_found_exactly(words: str, expected: list[str], odd: Path, open_page: Open) -> None:
    page = open_page(odd)
    page.locator("#filter").fill(words)
    await_names(page, expected)


def test_all_controls_are_reached_by_keyboard(path: Path, open_page: Open) -> None:
    page = open_page(path)
    page.locator("#filter").focus()
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.textContent"))
    assert {"run", "state", "runs", "compare a-4", "baseline a-5"} <= set(reached)


def test_names_and_values_of_runs_are_text(path: Path, open_page: Open) -> None:
    page = open_page(path)
    assert "</script><b>x" in names(page) and page.locator("tbody b").filter(has_text="x").count() == 0
    assert "</script><script>alert(1)</script>" in row(page, "</script><b>x").inner_text()


def test_real_runs_have_thumbnails_and_links_to_their_reports(
    linked: tuple[list[str], Path], tmp_path: Path, open_page: Open
) -> None:
    run = Run(linked[1])
    copy = Run(Path(shutil.copytree(run.path, run.path.with_name("t-copy"))))
    predictions = copy.predictions("oof")
    rows = copy.val_table.set_index("id").loc[predictions.ids.tolist()].reset_index()
    probs = np.eye(18, dtype=np.float32)[np.where(np.arange(len(rows)) % 3, rows["label"], predictions.preds)]
    copy.predictions_path("oof").unlink()
    type(predictions)(predictions.ids, probs).write(copy.predictions_path("oof"), rows)
    page = open_page(write(run.path.parent, baseline=run.id))
    row(page, "t-copy").locator("input[type=checkbox]").check()
    images = page.locator("#mends img")
    assert images.count() > 5 and images.first.evaluate("image => image.decode().then(() => image.naturalHeight)") == 32
    assert page.locator("#breaks h3").inner_text() == "B breaks 0 photos"
    href = row(page, run.id).get_by_role("link").get_attribute("href")
    assert (tmp_path / href).samefile(run.report_path)


@pytest.mark.parametrize("kind", ["empty", "unfinished"])
def test_a_folder_without_scores_has_a_page_too(kind: str, tmp_path: Path, open_page: Open) -> None:
    (tmp_path / "runs").mkdir()
    if kind == "unfinished":
        make_run(tmp_path / "runs" / "a-1", image_table(3)).metrics_path.unlink()
    page = open_page(write(tmp_path / "runs"))
    text = page.locator("#page").inner_text()
    assert ("This folder contains no runs" in text) == (kind == "empty") and len(names(page)) == (kind == "unfinished")


def test_runs_whose_predictions_do_not_fit_say_so(made: Path, open_page: Open) -> None:
    page = open_page(write(made, max_mb=0.105))
    assert "cannot be compared here: their predictions would exceed 0.105 MB" in page.locator("p.warn").first.inner_text()
    assert "its predictions do not fit on this page" in row(page, "a-0").inner_text()


def test_runs_of_two_tasks_are_shown_apart(open_page: Open, tmp_path: Path) -> None:
    other = Task((Attribute("colour", ("red", "짙은 풀색")), Attribute("size", tuple(map(str, range(150))))))  # more than 256 classes
    for i, (name, task) in enumerate(zip(("o-1", "o-2", "a-1", "a-2", "a-3"), (other, other, MASK18, MASK18, MASK18), strict=True)):
        loss = {"name": "focal", "gamma": float(i)}
        make_run(tmp_path / "runs" / name, image_table(25, task=task), 0.9 - i / 10, seed=i, loss=loss, task=task)
    page = open_page(write(tmp_path / "runs"))
    names = lambda: [row.get_attribute("data-run") for row in page.locator(ROWS).all()]  # noqa: E731
    assert names() == ["a-1", "a-2", "a-3"] and "3 of 3 runs" in page.inner_text("#count")
    page.select_option("#task", "1")
    assert names() == ["o-1", "o-2"] and "other rows" not in page.inner_text("#board")
    page.locator('tr[data-run="o-2"] input[type=checkbox]').click()
    page.wait_for_selector("#classes")
    text = page.inner_text("#classes")
    assert "짙은 풀색 1" in text and "male" not in text
    expected = RunScores.of([[Run(tmp_path / "runs/o-2")]], False).compare(RunScores.of([[Run(tmp_path / "runs/o-1")]], False))
    assert f"{expected['f1']:+.3f}" in page.inner_text("#pair-difference")
    page.select_option("#task", "0")
    assert names() == ["a-1", "a-2", "a-3"] and page.locator("#classes").count() == 0
