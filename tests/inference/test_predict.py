"""Prediction with untrained runs: ensembles, errors, submissions; and with one trained run through the command."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import timm
import torch
import yaml
from conftest import environment
from PIL import Image
from sklearn.metrics import f1_score

from maskcls import load
from maskcls.components.data import competition
from maskcls.components.split import by_person
from maskcls.config.compose import compose
from maskcls.config.validation import validate
from maskcls.core.competition import MASK18
from maskcls.core.errors import ConfigError, DataError, MaskclsError, RunError
from maskcls.engine import runner
from maskcls.inference.predict import predict
from maskcls.inference.predictor import Predictor
from maskcls.inference.submission import write_submission
from maskcls.reporting.comparison import oof_predictions
from maskcls.storage.predictions import Predictions
from maskcls.storage.run import Run
from maskcls.storage.trained_model import open_model
from maskcls.system.file_digests import file_digests
from maskcls.system.files import write_text

Command = Callable[..., subprocess.CompletedProcess[str]]
Make = Callable[..., Path]
COLUMNS = [f"p{i}" for i in range(18)]
ARCH = "test_efficientnet"
SCORES = {"f1": 0.5, "accuracy": 0.5, "mask_f1": 0.5, "gender_f1": 0.5, "age_f1": 0.5, "photos": 1}
METRICS = {"oof": SCORES, "eval": None, "people_on_both_sides": 0}


def sheet(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return rows as oof.csv and eval.csv have them, with made-up probabilities that know something."""
    random = np.random.default_rng(seed)
    probs = random.dirichlet(np.ones(18), len(table)) + 0.2 * np.eye(18)[table["label"].clip(0)]
    probs = pd.DataFrame(probs / probs.sum(1, keepdims=True), columns=COLUMNS, index=table.index)
    return table[["id", "person", "fold", "label"]].assign(guess=probs.to_numpy().argmax(1)).join(probs)


def weights(seed: int, outputs: int = 18) -> dict[str, torch.Tensor]:
    """Return the random weights of a tiny network."""
    torch.manual_seed(seed)
    model = timm.create_model(ARCH, num_classes=outputs)
    for name, parameter in model.named_parameters():
        if name.startswith("classifier"):
            torch.nn.init.normal_(parameter, std=0.5)
    return model.state_dict()


def content(seed: int, **changes: Any) -> dict[str, Any]:
    """Return a checkpoint's content, as folds.py writes it."""
    return {
        "model": weights(seed), "classes": list(MASK18.classes), "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.25], "epoch": 1,
        "model_word": {"name": "timm", "arch": ARCH, "pretrained": True, "frozen": []}, "head": {"name": "single"},
        "crop": {"name": "resize", "height": 32, "width": 24},
    } | changes  # fmt: skip


@pytest.fixture
def make(tmp_path: Path, people: Path) -> Make:
    """Return a function that writes a finished run over the tiny set, untrained: name, seed, what its checkpoints hold."""

    def made(name: str, seed: int = 0, folds: int = 2, **changes: Any) -> Path:
        place = tmp_path / "runs" / name
        table = competition(lambda note: None, root=str(people), task=MASK18)
        train = table["part"] == "train"
        table["fold"] = by_person(table[train], folds, 0, MASK18).reindex(table.index, fill_value=-1).astype("int64")
        table["scored"] = True
        words = (
            "name=t",
            "model=timm",
            f"model.arch={ARCH}",
            "data=competition",
            f"data.root={people}",
            f"folds={folds}",
        )
        table["content"] = file_digests(list(table["path"]), tmp_path / "cache")
        write_text(place / "config.yaml", yaml.safe_dump(validate(compose(*words)).to_dict()))
        write_text(place / "table.csv", table.drop(columns="path").to_csv(index=False))
        write_text(place / "oof.csv", sheet(table[train], seed).to_csv(index=False, float_format="%.8g"))
        write_text(place / "eval.csv", sheet(table[~train], seed + 50).to_csv(index=False, float_format="%.8g"))
        write_text(place / "metrics.json", json.dumps(METRICS | {"folds": [SCORES | {"fold": k} for k in range(folds)]}))
        for k in range(folds):
            (place / f"fold{k}").mkdir()
            torch.save(content(seed * 10 + k, **changes), place / f"fold{k}" / "best.pt")
        return place

    return made


@pytest.fixture
def ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Return a function that predicts in this process, in an empty folder, and returns the folder."""
    monkeypatch.chdir(tmp_path)

    def predicted(*words: str) -> Path:
        predict(compose(*words, "hardware=cpu", config="predict"))
        return tmp_path

    return predicted


def info(people: Path) -> list[str]:
    """Return the evaluation photos' names in info.csv's order."""
    return pd.read_csv(people / "eval" / "info.csv")["ImageID"].tolist()


def stored(run: Path) -> np.ndarray:
    """Return the probabilities of a run's eval.csv."""
    return pd.read_csv(run / "eval.csv")[COLUMNS].to_numpy()


def test_the_submission_of_two_runs_is_the_mean_of_what_they_stored(
    make: Make, ask: Callable[..., Path], people: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = make("a-1", 1), make("b-2", 2)
    for run in (a, b):
        shutil.rmtree(run / "fold0")  # stored predictions need no checkpoint
    place = ask(f"runs=[{a},b-2]", "out=deep/s.csv")
    mean = (stored(a) + stored(b)) / 2
    written = pd.read_csv(place / "deep" / "s.csv")
    assert list(written) == ["ImageID", "ans"] and written["ImageID"].tolist() == info(people)
    assert written["ans"].tolist() == mean.argmax(1).tolist()
    probs = pd.read_csv(place / "deep" / "probabilities-s.csv")
    np.testing.assert_allclose(probs[COLUMNS], mean, atol=1e-6)
    assert [Path(name).name for name in probs["id"]] == info(people)
    shown = capsys.readouterr().out
    assert "a-1" in shown and "b-2" in shown and "ensemble" in shown
    assert "blend=mean: not fitted to the labels" in shown


def test_every_blend_predicts_and_returns_its_out_of_fold_score(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.metrics import f1_score

    monkeypatch.chdir(tmp_path)
    a, b = make("a-1", 1), make("b-2", 2)
    for words in (
        ["blend=mean"],
        ["blend=rank"],
        ["blend=vote"],
        ["blend=fitted"],
        ["blend=greedy"],
        ["blend=weighted", "blend.weights=[2,1]"],
    ):
        score = predict(compose("runs=[a-1,b-2]", "hardware=cpu", "overwrite=true", *words, config="predict"))
        assert 0 < score < 1
    one, two = (pd.read_csv(run / "oof.csv") for run in (a, b))
    guess = (2 * one[COLUMNS].to_numpy() + two[COLUMNS].to_numpy()).argmax(1)
    present = np.union1d(one["label"], guess)
    assert score == pytest.approx(f1_score(one["label"], guess, labels=present, average="macro"))


def test_greedy_names_the_members_that_it_chose(
    make: Make, ask: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, name in enumerate(("a-1", "b-2", "c-3")):
        make(name, seed)
    place = ask("runs=[a-1,b-2,c-3]", "blend=greedy", "blend.rounds=1")
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("members: ")]
    chosen = re.fullmatch(r"members: 1\.00 × (.-.); not used: (.-.), (.-.)", line)
    assert chosen and sorted(chosen.groups()) == ["a-1", "b-2", "c-3"]
    written = pd.read_csv(place / "submission.csv")["ans"].tolist()
    assert written == stored(place / "runs" / chosen[1]).argmax(1).tolist()


def test_the_order_is_info_csvs_also_where_it_is_another_one_than_the_runs(
    make: Make, ask: Callable[..., Path], people: Path, tmp_path: Path
) -> None:
    run, base = make("a-1"), tmp_path / "moved"
    shutil.copytree(people, base)
    order = info(people)[::-1]
    pd.DataFrame({"ImageID": order, "ans": 0}).to_csv(base / "eval" / "info.csv", index=False)
    place = ask("runs=[a-1]", "data=competition", f"data.root={base}")
    written = pd.read_csv(place / "submission.csv")
    assert written["ImageID"].tolist() == order
    assert written["ans"].tolist() == stored(run).argmax(1)[::-1].tolist()


@pytest.mark.parametrize("fault", ["missing", "double"])
def test_a_missing_or_double_row_is_refused_and_nothing_is_written(
    fault: str, make: Make, ask: Callable[..., Path], tmp_path: Path
) -> None:
    run = make("a-1")
    rows = (run / "eval.csv").read_text().splitlines()
    rows = rows[:-1] if fault == "missing" else [*rows, rows[-1]]
    (run / "eval.csv").write_text("\n".join(rows) + "\n")
    sentence = "has no probabilities for 1 of" if fault == "missing" else "more than once"
    with pytest.raises(DataError, match=sentence):
        ask("runs=[a-1]")
    assert not list(tmp_path.glob("*.csv"))


def test_two_photos_of_one_name_are_refused(tmp_path: Path) -> None:
    predictions = Predictions(np.array(["a/x.jpg", "b/x.jpg"]), np.full((2, 18), 1 / 18, np.float32))
    with pytest.raises(DataError, match=r"two evaluation images have the name 'x\.jpg'"):
        write_submission(predictions, tmp_path / "s.csv", False, MASK18)


@pytest.mark.parametrize(
    ("column", "change"),
    [("fold", lambda fold: 1 - fold), ("label", lambda label: (label + 1) % 18), ("id", lambda name: name + "x")],
)
def test_runs_with_different_fold_tables_are_refused(
    column: str, change: Callable[[Any], Any], make: Make, ask: Callable[..., Path]
) -> None:
    make("a-1", 1)
    table = pd.read_csv(file := make("b-2", 2) / "table.csv")
    table.loc[3, column] = change(table.loc[3, column])
    table.to_csv(file, index=False)
    with pytest.raises(RunError, match=r"a-1 and .*b-2 have different folds") as caught:
        ask("runs=[a-1,b-2]")
    assert len(caught.value.messages) == 1


WRONG = {
    "runs=[a-11]": "unknown run 'a-11', did you mean 'a-1'?",
    "runs=[]": "expected at least one run, got none",
    "runs=[a-1] photos=nowhere": "no images found at 'nowhere'",
    "runs=[a-1] precision=fp8": "unknown value 'fp8'",
    "runs=[a-1] blend=weighted blend.weights=[1,2]": "expected 1 weights, one per run, got 2",
    "runs=[a-1] out=.": "out=. is a folder. Set out=<file>",
    "runs=[a-1] outt=x": "unknown key 'outt', did you mean 'out'?",
    "photos=x": "runs has no default. Set runs=…",
    "runs=[a-1,open-2] blend=fitted": "blend=fitted needs predictions out of fold, and open-2 has none",
    "runs=[a-1/fold2]": "unknown run 'fold2'",
}


@pytest.mark.parametrize("words", WRONG)
def test_what_is_wrong_is_a_sentence(words: str, make: Make, ask: Callable[..., Path]) -> None:
    make("a-1")
    (make("open-2") / "metrics.json").unlink()
    with pytest.raises(MaskclsError, match=re.escape(WRONG[words])):
        ask(*words.split())


def reference(run: Path, files: list[Path], size: tuple[int, int], flip: bool = False) -> np.ndarray:
    """Return the mean probabilities of a made-up run's two folds, by torch and OpenCV alone."""
    images = [cv2.resize(cv2.imread(str(file))[:, :, ::-1], size[::-1], interpolation=cv2.INTER_AREA) for file in files]
    mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.25])
    inputs = ((torch.from_numpy(np.stack(images)).float() / 255 - mean) / std).permute(0, 3, 1, 2)
    total = []
    for k in (0, 1):
        model = timm.create_model(ARCH, num_classes=18).eval()
        model.load_state_dict(torch.load(run / f"fold{k}" / "best.pt", weights_only=True)["model"])
        with torch.inference_mode():
            total += [model(x).softmax(1).numpy() for x in ([inputs, inputs.flip(3)] if flip else [inputs])]
    return np.mean(total, axis=0)


@pytest.mark.parametrize("size", [(32, 24), (48, 20)])
def test_the_checkpoints_own_preprocessing_is_used_and_nothing_is_downloaded(
    size: tuple[int, int], make: Make, people: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maskcls.storage.hub.is_cached", lambda arch: pytest.fail("the hub was asked"))
    run = make("a-1", crop={"name": "resize", "height": size[0], "width": size[1]})
    files = sorted((people / "eval" / "images").iterdir())[:5]
    probs = load(run)(files)
    assert probs.shape == (5, 18) and probs.dtype == np.float32
    np.testing.assert_allclose(probs, reference(run, files, size), atol=1e-5)


def test_photos_are_paths_or_arrays(make: Make, people: Path) -> None:
    model = load(make("a-1"))
    files = sorted((people / "eval" / "images").iterdir())[:3]
    arrays = [np.ascontiguousarray(cv2.imread(str(file))[:, :, ::-1]) for file in files]
    np.testing.assert_array_equal(model(files), model(arrays))
    np.testing.assert_allclose(
        model(str(files[0])), model(files)[:1], rtol=1e-5
    )  # another size of batch rounds otherwise
    assert model([]).shape == (0, 18)
    np.testing.assert_allclose(model(arrays[0]), model(files)[:1], rtol=1e-5)
    np.testing.assert_array_equal(model([Image.open(file) for file in files]).argmax(1), model(files).argmax(1))
    for wrong in ([arrays[0].astype(np.float32)], 3, ["nowhere.jpg"], str(files[0].parent)):
        with pytest.raises(DataError):
            model(wrong)


def test_a_loaded_model_has_class_names_and_predicts_them(make: Make, people: Path) -> None:
    model = load(make("a-1"))
    files = sorted((people / "eval" / "images").iterdir())[:5]
    probs = model.predict_proba(files)
    np.testing.assert_array_equal(probs, model(files))
    assert model.classes == MASK18.classes and len(model.classes) == 18
    assert model.predict(files).tolist() == [MASK18.classes[i] for i in probs.argmax(1)]
    assert model.predict([]).shape == (0,)


def test_a_loaded_model_says_what_it_is(make: Make, finished: tuple[list[str], Path]) -> None:
    run = finished[1]
    score = json.loads((run / "metrics.json").read_text())["oof"]["f1"]
    assert repr(load(run)) == (
        f"<maskcls model {run.name}: {ARCH}, 2 folds, crop=resize 32 × 24, out-of-fold macro F1 {score:.3f}>"
    )
    assert "1 fold, crop=resize 32 × 24, 1 of 2 folds" in repr(load(run / "fold0"))
    place = make("a-1")
    (place / "metrics.json").unlink()
    assert "no out-of-fold score" in repr(load(place))


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import maskcls, sys; assert callable(maskcls.load); assert not {'torch', 'numpy', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True)


class Bomb:
    """An object whose unpickling writes a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


def test_a_checkpoint_that_would_run_code_is_refused(make: Make, tmp_path: Path) -> None:
    run = make("a-1")
    torch.save(content(0, epoch=Bomb(tmp_path / "boom")), run / "fold1" / "best.pt")
    with pytest.raises(RunError, match=r"cannot read checkpoint .*fold1/best\.pt"):
        load(run)
    assert not (tmp_path / "boom").exists()


FAULTY: dict[str, tuple[dict[str, Any], str]] = {
    "classes": ({"classes": [*MASK18.classes[1:], MASK18.classes[0]]}, "for other classes or another order of classes"),
    "crop": ({"crop": {"name": "resizes"}}, "unknown crop 'resizes', did you mean 'resize'?"),
    "weights": ({"model": weights(0, outputs=8)}, "does not fit images of 32 × 24 pixels"),
    "empty": ({}, "is not a maskcls checkpoint: missing keys model"),
}


@pytest.mark.parametrize("fault", FAULTY)
def test_a_checkpoint_that_does_not_fit_is_refused(fault: str, make: Make, people: Path) -> None:
    changes, sentence = FAULTY[fault]
    run = make("a-1", **changes)
    if fault == "empty":
        torch.save({"epoch": 3}, run / "fold0" / "best.pt")
    with pytest.raises(RunError, match=re.escape(sentence)):
        load(run)(sorted((people / "eval" / "images").iterdir())[:1])


def test_any_photos_are_described_in_words(
    make: Make, ask: Callable[..., Path], people: Path, tmp_path: Path, drawn: Path
) -> None:
    run, folder = make("a-1"), tmp_path / "mine"
    files = sorted((people / "eval" / "images").iterdir())[:4]
    for file, name in zip(files, ("x.jpg", "deep/y.JPG", "deep/.hidden.jpg", "deep/notes.txt"), strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / name)
    single = files[3]
    place = ask("runs=[a-1]", f"photos=[{folder},{folder}/*.jpg,{single}]", "tta=flip", f"cache_dir={drawn}/cache")
    table = pd.read_csv(place / "predictions-mine-and-2-more.csv")
    assert table["photo"].tolist() == [str(folder / "deep/y.JPG"), str(folder / "x.jpg"), str(single)]
    expected = reference(run, [Path(name) for name in table["photo"]], (32, 24), flip=True)
    probs = pd.read_csv(place / "probabilities-mine-and-2-more.csv")
    np.testing.assert_allclose(probs[COLUMNS], expected, atol=1e-5)
    assert table["ans"].tolist() == expected.argmax(1).tolist()
    np.testing.assert_allclose(table["probability"], expected.max(1), atol=1e-5)
    for row in table.itertuples():
        assert (row.mask, row.gender, row.age) == tuple(values[code] for values, code in zip(MASK18.values.values(), MASK18.decode(row.ans), strict=True))


def test_another_tta_is_computed_from_the_photos(
    make: Make, ask: Callable[..., Path], people: Path, drawn: Path
) -> None:
    run = make("a-1")
    place = ask("runs=[a-1]", "tta=flip", f"cache_dir={drawn}/cache")
    files = [people / "eval" / "images" / name for name in info(people)]
    expected = reference(run, files, (32, 24), flip=True)
    np.testing.assert_allclose(pd.read_csv(place / "probabilities.csv")[COLUMNS], expected, atol=1e-5)


def test_runs_of_different_crops_each_see_their_own_pixels(
    make: Make, ask: Callable[..., Path], people: Path, drawn: Path
) -> None:
    a = make("a-1", 1)
    b = make("b-2", 2, crop={"name": "resize", "height": 48, "width": 20})
    for run in (a, b):
        (run / "eval.csv").unlink()
    place = ask("runs=[a-1,b-2]", f"cache_dir={drawn}/cache")
    files = [people / "eval" / "images" / name for name in info(people)]
    expected = (reference(a, files, (32, 24)) + reference(b, files, (48, 20))) / 2
    np.testing.assert_allclose(pd.read_csv(place / "probabilities.csv")[COLUMNS], expected, atol=1e-5)


def test_a_real_run_predicts_again_what_it_stored(
    tiny: list[str], tmp_path: Path, people: Path, command: Command
) -> None:
    runner.run(compose(*tiny, "epochs=1", "tta=flip"))
    (run,) = [path for path in (tmp_path / "runs").iterdir() if path.is_dir()]
    whole = Run.open(run)
    probs = Predictor(open_model(run), validate(compose(*tiny)).hardware.build())(
        [people / name for name in whole.eval_table["id"]]
    )
    np.testing.assert_allclose(probs, stored(run), atol=1e-5)
    done = command(f"runs=[{run.name}]", name="predict")
    assert done.returncode == 0, done.stderr
    written = pd.read_csv(tmp_path / "submission.csv")
    assert written["ImageID"].tolist() == info(people) and written["ans"].tolist() == stored(run).argmax(1).tolist()


@pytest.mark.parametrize("change", ["nothing", "a new time", "one photo", "two photos swapped", "the run is older"])
def test_stored_predictions_are_of_contents_and_not_of_names(
    change: str, make: Make, ask: Callable[..., Path], people: Path, tmp_path: Path
) -> None:
    run, base = make("a-1"), tmp_path / "other"
    shutil.copytree(people, base)
    files = [base / "eval" / "images" / name for name in info(people)]
    if change == "the run is older":
        pd.read_csv(run / "table.csv").drop(columns="content").to_csv(run / "table.csv", index=False)
    if change == "a new time":
        os.utime(files[2], (1, 1))
    if change == "one photo":
        files[2].write_bytes(files[2].read_bytes()[:-2] + b"\0\xff\xd9")  # behind the pixels
    if change == "two photos swapped":
        files[2].rename(tmp_path / "spare"), files[9].rename(files[2]), (tmp_path / "spare").rename(files[9])
    place = ask("runs=[a-1]", "data=competition", f"data.root={base}", f"cache_dir={tmp_path}/cache")
    written = pd.read_csv(place / "probabilities.csv")[COLUMNS]
    expected = stored(run) if change in ("nothing", "a new time") else reference(run, files, (32, 24))
    np.testing.assert_allclose(written, expected, atol=1e-5)


def test_photos_of_a_runs_own_data_that_changed_are_predicted_anew_for_each_of_its_ensemble(
    make: Make, ask: Callable[..., Path], people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "mine"
    shutil.copytree(people, base)
    runs = [make("a-1", 1), make("b-2", 2)]
    for run in runs:
        config = yaml.safe_load((run / "config.yaml").read_text())
        write_text(run / "config.yaml", yaml.safe_dump(config | {"data": config["data"] | {"root": str(base)}}))
    (runs[1] / "eval.csv").unlink()  # so that the photos are needed, of which the first run has stored predictions
    files = [base / "eval" / "images" / name for name in info(people)]
    shutil.copy(files[1], files[0])
    place = ask("runs=[a-1,b-2]", f"cache_dir={tmp_path}/cache")
    expected = np.mean([reference(run, files, (32, 24)) for run in runs], axis=0)
    np.testing.assert_allclose(pd.read_csv(place / "probabilities.csv")[COLUMNS], expected, atol=1e-5)
    assert "a-1: 1 evaluation images changed since training" in capsys.readouterr().out


@pytest.mark.parametrize("change", ["nothing", "two images swapped", "gone"])
def test_stored_predictions_answer_for_unchanged_images_alone(
    change: str, make: Make, ask: Callable[..., Path], people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, run = tmp_path / "mine", make("a-1")
    shutil.copytree(people, base)
    config = yaml.safe_load((run / "config.yaml").read_text())
    write_text(run / "config.yaml", yaml.safe_dump(config | {"data": config["data"] | {"root": str(base)}}))
    files = [base / "eval" / "images" / name for name in info(people)]
    if change == "two images swapped":
        files[2].rename(tmp_path / "spare"), files[9].rename(files[2]), (tmp_path / "spare").rename(files[9])
    if change == "gone":
        shutil.rmtree(base)
    place = ask("runs=[a-1]", f"cache_dir={tmp_path}/cache")
    expected = reference(run, files, (32, 24)) if change == "two images swapped" else stored(run)
    np.testing.assert_allclose(pd.read_csv(place / "probabilities.csv")[COLUMNS], expected, atol=1e-5)
    said = capsys.readouterr().out
    assert ("2 evaluation images changed" in said) == (change == "two images swapped")
    assert ("cannot check that they are unchanged" in said) == (change == "gone")


def test_runs_of_photos_of_the_same_names_are_not_blended(
    make: Make, ask: Callable[..., Path], people: Path, tmp_path: Path
) -> None:
    for name in ("a-1", "b-2"):
        make(name)
    ask("runs=[a-1,b-2]")
    table = pd.read_csv(file := tmp_path / "runs" / "b-2" / "table.csv")
    table.loc[5, "content"] = "0123456789abcdef"
    table.to_csv(file, index=False)
    with pytest.raises(RunError, match=r"\(1 images differ in content\)"):
        ask("runs=[a-1,b-2]")


def test_a_runs_own_data_is_only_read(make: Make, ask: Callable[..., Path], tmp_path: Path) -> None:
    """A run folder may come from anybody: what its config.yaml says draws nothing, and shows nothing of other files."""
    (tmp_path / "secret").write_text("password: swordfish\n")
    run = make("a-1")
    config = yaml.safe_load((run / "config.yaml").read_text())
    synthetic = {
        "name": "synthetic",
        "root": str(tmp_path / "victim"),
        "people": 3,
        "eval_people": 1,
        "height": 64,
        "width": 48,
    }
    for data in (synthetic, {"name": "table", "file": str(tmp_path / "secret")}):
        write_text(run / "config.yaml", yaml.safe_dump(config | {"data": data}))
        with pytest.raises(RunError, match=r"a-1: cannot read the images that its config\.yaml names") as caught:
            ask("runs=[a-1]", "tta=flip")
        assert "swordfish" not in str(caught.value) and caught.value.__cause__ is None
    assert not (tmp_path / "victim").exists() and not (tmp_path / "data").exists()


def test_runs_of_photos_of_the_same_names_are_not_compared(make: Make, tmp_path: Path) -> None:
    one, other = (oof_predictions([[Run.open(make(name))]]) for name in ("a-1", "b-2"))
    assert one.has_same_rows(other)
    table = pd.read_csv(file := tmp_path / "runs" / "b-2" / "table.csv")
    file.write_text(table.assign(content=table["content"].iloc[::-1].to_numpy()).to_csv(index=False))
    assert not one.has_same_rows(oof_predictions([[Run.open(file.parent)]]))
    with pytest.raises(RunError, match="scored on different images"):
        oof_predictions([[Run.open(tmp_path / "runs" / name)] for name in ("a-1", "b-2")])


@pytest.fixture
def labelled(people: Path, tmp_path: Path) -> pd.DataFrame:
    """Return the evaluation photos with their labels, which are copied to mine/ and listed in mine/list.csv."""
    (tmp_path / "mine").mkdir()
    table = pd.read_csv(people / "eval" / "labels.csv")
    for name in table["ImageID"]:
        shutil.copy(people / "eval" / "images" / name, tmp_path / "mine" / name)
    table = pd.DataFrame({"path": table["ImageID"], "label": table["ans"], "person": table["path"]})
    table.to_csv(tmp_path / "mine" / "list.csv", index=False)
    return table


def test_labelled_photos_are_scored_and_the_file_can_be_scored_again(
    labelled: pd.DataFrame, make: Make, ask: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from maskcls.cli import score

    run = make("a-1")
    ask("runs=[a-1]", "photos=mine/list.csv", f"cache_dir={tmp_path}/cache")
    shown = " ".join(capsys.readouterr().out.split())
    expected = reference(run, [tmp_path / "mine" / name for name in labelled["path"]], (32, 24)).argmax(1)
    table = pd.read_csv("predictions-list.csv")
    assert table["photo"].tolist() == labelled["path"].tolist() and table["ans"].tolist() == expected.tolist()
    f1 = f1_score(labelled["label"], expected, average="macro", zero_division=0)
    assert f"photos: {len(labelled)} images with labels" in shown and f"│ a-1 │ {f1:.4f} │" in shown
    assert "no interval: 4 people" in shown and "worn male <30" in shown and "LEAK" not in shown
    monkeypatch.setattr(sys, "argv", ["maskcls score", "predictions-list.csv", "mine/list.csv"])
    score.main()
    assert f"│ predictions-list.csv │ {f1:.4f} │" in " ".join(capsys.readouterr().out.split())


def test_photos_that_the_run_was_trained_on_are_a_leak(
    make: Make, ask: Callable[..., Path], people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make("a-1")
    files = sorted((people / "train" / "images").rglob("mask*.jpg"))[:3]
    pd.DataFrame({"path": [file.name for file in files], "label": 1}).to_csv("mine.csv", index=False)
    for file in files:
        shutil.copy(file, tmp_path / file.name)
    ask("runs=[a-1]", "photos=mine.csv", f"cache_dir={tmp_path}/cache")
    shown = capsys.readouterr().out
    assert "LEAK: 3 of these 3 images are training images of a-1. This is not a score on new people" in shown
    assert "no interval: there is no column person" in shown


def test_a_list_of_photos_without_labels_is_only_predicted(
    labelled: pd.DataFrame, make: Make, ask: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make("a-1")
    labelled[["path"]].to_csv("mine/names.csv", index=False)
    ask("runs=[a-1]", f"photos=[mine/names.csv,mine,{tmp_path}/mine]", f"cache_dir={tmp_path}/cache")
    table = pd.read_csv("predictions-names-and-2-more.csv")
    assert table["photo"].tolist() == labelled["path"].tolist()  # each once
    assert "with labels" not in capsys.readouterr().out
    pd.DataFrame({"path": ["no.jpg"]}).to_csv("mine/names.csv", index=False)
    with pytest.raises(DataError, match=r"names\.csv line 2: file mine/no\.jpg does not exist"):
        ask("runs=[a-1]", "photos=mine/names.csv")
    pd.DataFrame({"path": ["mine/" + labelled["path"][0]]}).to_csv("mine/names.csv", index=False)
    with pytest.raises(DataError, match=r"It is in the current folder: .* or move the CSV there"):  # predict has no root
        ask("runs=[a-1]", "photos=mine/names.csv")


def test_files_of_another_prediction_are_kept(make: Make, ask: Callable[..., Path], tmp_path: Path) -> None:
    make("a-1", 1), make("b-2", 2)
    ask("runs=[a-1]")
    before = (tmp_path / "submission.csv").read_bytes()
    ask("runs=[a-1]")  # equal content
    with pytest.raises(ConfigError, match=r"these predictions are in submission-2\.csv and probabilities-2\.csv"):
        ask("runs=[b-2]")
    assert (tmp_path / "submission.csv").read_bytes() == before
    ask("runs=[b-2]", "overwrite=true")
    assert (tmp_path / "submission.csv").read_bytes() == (tmp_path / "submission-2.csv").read_bytes() != before
