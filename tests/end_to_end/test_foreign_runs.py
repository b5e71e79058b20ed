"""Run folders from others: whatever stands in them, each reader gives the same answer or one sentence, within seconds."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign import (
    LETTERS,
    SECONDS,
    Harm,
    Late,
    deep,
    deeper,
    door,
    empty,
    folder,
    huge,
    hurried,
    laughs,
    listed,
    loop,
    merges,
    noise,
    pipe,
    said_of,
    zeros,
)

from maskcls.cli.compare import compare
from maskcls.config.compose import compose
from maskcls.core.errors import as_user_error
from maskcls.engine.runner import run
from maskcls.inference.predict import predict
from maskcls.inference.predictor import load
from maskcls.storage.run import Run
from maskcls.system import console

HARMS = (pipe, folder, zeros, loop, door, empty, noise, huge, deep, deeper, listed, laughs, merges)
FAST = (pipe, huge, noise)
FILES = (
    "config.yaml", "table.csv", "oof.csv", "eval.csv", "metrics.json", "about.json", "data.json", "log.jsonl",
    "fold1/best.pt", "fold1/last.pt", "fold1/oof.npz", "report.html",
)  # fmt: skip
PHOTO = np.zeros((1, 32, 24, 3), np.uint8)


def loads(words: list[str], place: Path) -> Any:
    """Load a run and predict a photo."""
    return load(place).predict_pixels(PHOTO).tolist()


def predicts(words: list[str], place: Path) -> Any:
    """Predict the evaluation photos as stored."""
    out = place.parent.parent / "submission.csv"
    predict(compose(f"runs=['{place}']", f"out='{out}'", "hardware=cpu", config="predict"))
    return out.read_text()


def compares(words: list[str], place: Path) -> Any:
    """Compare the run with itself."""
    with console.console.capture() as shown:
        compare([str(place), str(place)], "runs")
    return shown.get()


def answers(words: list[str], place: Path) -> Any:
    """Ask for the run again."""
    return run(compose(*words))


def resumes(words: list[str], place: Path) -> Any:
    """Ask for the run again where its second fold and its closing are to be made."""
    for file in (place / "metrics.json", place / "fold1" / "oof.npz"):
        if not file.is_dir():
            file.unlink(missing_ok=True)
    return run(compose(*words))


def closes(words: list[str], place: Path) -> Any:
    """Ask for the run again where only its closing is to be made."""
    (place / "metrics.json").unlink(missing_ok=True)
    return run(compose(*words))


def judged(reader: Callable[[list[str], Path], Any], words: list[str], place: Path, right: Any) -> str:
    """Return what a reader says against a folder, nothing where it gives the right answer."""
    begun = time.monotonic()
    try:
        with hurried():
            found = reader(words, place)
    except Exception as error:
        said = str(as_user_error(error))  # as a command shows it; a fault of ours is raised
        assert said and len(said) < LETTERS
        return said
    finally:
        assert time.monotonic() - begun < SECONDS
    assert found == right
    return ""


QUICK = {"load": loads, "predict": predicts, "table": compares}
SLOW = {"answer": answers, "resume": resumes, "close": closes}
NEEDED = {  # the files that a reader cannot do without, or takes from a run
    "load": {"config.yaml", "table.csv", "metrics.json", "fold1/best.pt"},
    "predict": {"config.yaml", "table.csv", "metrics.json", "oof.csv"},
    "table": {"config.yaml", "table.csv", "metrics.json", "oof.csv", "eval.csv", "fold1/oof.npz"},
}


@pytest.fixture(scope="session")
def right(finished: tuple[list[str], Path]) -> Callable[[Callable[[list[str], Path], Any], list[str], Path], Any]:
    """Return the answers of whole runs, each computed once."""
    known: dict[str, Any] = {}

    def ask(reader: Callable[[list[str], Path], Any], words: list[str], place: Path) -> Any:
        if reader.__name__ not in known:
            known[reader.__name__] = reader(words, place)
        return known[reader.__name__]

    return ask


@pytest.mark.parametrize("harm", [pytest.param(harm, marks=() if harm in FAST else pytest.mark.slow) for harm in HARMS])
@pytest.mark.parametrize("name", FILES)
def test_whatever_stands_in_place_of_a_file_a_reader_answers_right_or_refuses(
    name: str, harm: Harm, linked: tuple[list[str], Path], right: Callable[..., Any]
) -> None:
    words, place = linked
    wanted = {kind: right(reader, words, place) for kind, reader in QUICK.items()}
    (place / name).unlink()
    harm(place / name)
    for kind, reader in QUICK.items():
        said = judged(reader, words, place, wanted[kind])
        assert said or name not in NEEDED[kind], kind
        assert not said or place.name in said, said


@pytest.mark.slow
@pytest.mark.parametrize("kind", SLOW)
@pytest.mark.parametrize("harm", [pipe, folder, zeros, huge, deep])
@pytest.mark.parametrize("name", FILES)
def test_whatever_stands_in_place_of_a_file_a_run_goes_on_right_or_is_refused(
    name: str, harm: Harm, kind: str, linked: tuple[list[str], Path], finished: tuple[list[str], Path]
) -> None:
    words, place = linked
    reader = SLOW[kind]
    (place / name).unlink()
    harm(place / name)
    if name == "metrics.json" and kind != "answer":
        shutil.rmtree(place / name) if harm is folder else (place / name).unlink()
    score = json.loads((finished[1] / "metrics.json").read_text())["oof"]["f1"]
    judged(reader, words, place, score)


def test_a_pipe_would_be_waited_for(tmp_path: Path) -> None:
    """The watch of these tests rings: an ordinary opening of a pipe waits."""
    pipe(tmp_path / "x")
    with pytest.raises(Late), hurried(0.2):
        (tmp_path / "x").read_bytes()


def test_a_run_is_not_written_to_through_links(linked: tuple[list[str], Path], tmp_path: Path) -> None:
    words, place = linked
    (tmp_path / "mine").write_text("mine")
    (place / "metrics.json").unlink()
    for name in ("lock", "log.jsonl", "fold1/lock", "fold0", "plots"):
        spot = place / name
        shutil.rmtree(spot) if spot.is_dir() else spot.unlink(missing_ok=True)
        spot.symlink_to(tmp_path / "mine")
        assert f"{spot} is not a regular file or folder" in said_of(lambda: run(compose(*words)))
        spot.unlink()
        spot.mkdir() if name in ("fold0", "plots") else spot.write_text("")
    assert (tmp_path / "mine").read_text() == "mine"


def test_a_thousand_runs_are_opened_in_seconds(finished: tuple[list[str], Path]) -> None:
    Run.open(finished[1])
    begun = time.process_time()
    for _ in range(50):
        Run.open(finished[1])
    assert (time.process_time() - begun) / 50 < 0.05


@pytest.mark.slow
@pytest.mark.parametrize(("name", "words"), [("predict", ["runs=[{}]", "hardware=cpu"]), ("compare", ["runs={}"])])
def test_a_command_ends_with_the_sentence_alone(
    name: str, words: list[str], linked: tuple[list[str], Path], command: Callable[..., Any]
) -> None:
    place = linked[1]
    (place / "table.csv").unlink()
    pipe(place / "table.csv")
    done = command(*[word.format(place) for word in words], name=name)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"cannot read {place / 'table.csv'} (it is not a regular file)" in done.stderr
