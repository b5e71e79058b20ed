"""Wrong options, types, files and rows: one message, exit code 2, before any work starts."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from maskcls.config.compose import compose
from maskcls.config.validation import validate
from maskcls.core.errors import MaskclsError
from maskcls.engine.runner import run

Command = Callable[..., subprocess.CompletedProcess[str]]

WRONG = {
    "loss=focla": "unknown loss 'focla', did you mean 'focal'?",
    "model=resnet81": "unknown model 'resnet81', did you mean 'resnet18'?",
    "loss.gama=3 loss=focal": "unknown parameter 'gama' of loss=focal, did you mean 'gamma'?",
    "loss=focal loss.gamma=high": "loss.gamma (focal): expected float, got 'high'",
    "loss.class_weights=invers": "loss.class_weights (ce): unknown value 'invers', did you mean 'inverse'?",
    "epoch=3": "unknown key 'epoch', did you mean 'epochs'?",
    "epochs=0": "epochs must be at least 1, got 0",
    "epochs=2.5": "epochs: expected int, got 2.5",
    "seed=x": "seed: expected int, got 'x'",
    "precision=fp8": "precision: unknown value 'fp8', did you mean",
    "folds=1": "folds must be at least 2, got 1",
    "fold=7": "fold=7 is out of range: there are 2 folds, 0 to 1",
    "optimizer.lr=-1": "optimizer.lr (adamw) must be greater than 0, got -1",
    "optimizer=adamw,": "unknown optimizer 'adamw,', did you mean 'adamw'?",
    "=NULL": "Config group override must be a string or a list",
    "+=": "cannot parse an override, expected key=value",
    "hydra/launcher=null": "Config group override must be a string or a list",
    "hydra/launcher=": "Could not find 'hydra/launcher/'",
    "loss={0:1}": "unknown loss '{0: 1}'",
    "model.arch=resnet19": "model.arch (timm): unknown timm architecture 'resnet19', did you mean 'resnet1",
    "model.pretrained=nowhere.pth": "model.pretrained (timm): 'nowhere.pth' does not exist",
    "model.pretrained=package:nothing_here": "package 'nothing_here' is not installed",
    "model.frozen=[blok]": "model.frozen: unknown parameter 'blok'",
    "data=competition data.root=/nowhere/at/all": "expected an existing folder, got '/nowhere/at/all'",
    "data=competition data.root=null": "MASKCLS_DATA",
    "data=table": "data.file (table) has no default",
    "augmentation=team augmentation.transforms.Rotat.p=1": "unknown albumentations transform 'Rotat', did you mean 'Rotate'?",
    "augmentation=team augmentation.transforms.RandomBrightnessContrast.bright=1": "unknown argument 'bright' of RandomBrightnessContrast",
    "plugins=[nothing.here]": "plugins: cannot import 'nothing.here'",
    "name=a/b": "name: expected letters, digits, '_', '.' and '-' ('.' and '-' not first), got 'a/b'",
    "batch_size=10000": "batch_size=10000 exceeds the",
    "folds=1000": "folds=1000 exceeds the 14 people in the training data",
    "crop=center crop.height=900 crop.width=10": "exceeds the image size 64 × 48",
    "scheduler=multistep scheduler.unit=weeks": "scheduler.unit (multistep): unknown value 'weeks'",
    "hardware=gpu": "torch finds no GPU",
    "split=holdout fold=1": "fold=1 is out of range: split=holdout has 1 folds",
    "labels.border=25": "labels.border (plain) must be > 30, got 25",
    "labels.soft=50": "labels.soft=50.0 exceeds the 30 years between the age thresholds 30 and 60",
    "labels.drop=[[29,27]]": "labels.drop (plain): expected [lowest, highest], got [29, 27]",
    "mixing=halfcut mixing.cut=[0.6,0.4]": "expected [low, high] between 0 and 1, got [0.6, 0.4]",
    "model.init=nowhere": "'nowhere' is not the folder of a finished run",
    "pseudo=confident": "pseudo.run (confident) has no default",
    "crop=face crop.detector=mtcn": "unknown detector 'mtcn', did you mean 'mtcnn'?",
    "tta=flop": "unknown tta 'flop', did you mean 'flip'?",
}


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_word_gives_its_sentence_before_any_epoch(words: str, tiny: list[str], tmp_path: Path) -> None:
    kept = [word for word in tiny if not (words.startswith("data=") and word.startswith("data."))]
    with pytest.raises(MaskclsError) as caught:
        run(compose(*kept, *words.split(" ")))
    assert WRONG[words] in str(caught.value)
    assert not list(tmp_path.rglob("*.pt"))


SLOW = [pytest.param(words, marks=pytest.mark.slow) for words in ("epoch=3", "data=competition data.root=/nowhere")]


@pytest.mark.parametrize("words", ["loss=focla", "loss.gamma=[1", *SLOW])
def test_the_command_ends_with_two_and_without_a_trace(words: str, tiny: list[str], command: Command) -> None:
    result = command(*tiny, *words.split())
    assert result.returncode == 2
    assert result.stderr.strip() and "Traceback" not in result.stderr + result.stdout


def test_all_faults_of_a_config_are_told_at_once(tiny: list[str]) -> None:
    with pytest.raises(MaskclsError) as caught:
        validate(
            compose(
                *tiny, "epochs=-1", "loss.gama=1", "optimizer.lr=fast", "sampler=weighted", "sampler.power=2", "bacth=3"
            )
        )
    assert len(caught.value.messages) == 5


def test_all_wrong_words_of_a_command_line_are_told_at_once() -> None:
    with pytest.raises(MaskclsError) as caught:
        compose("loss=focla", "model=resnet81,effnet_b4", "head=tripel")
    assert len(caught.value.messages) == 3


def test_wrong_words_and_wrong_values_are_told_together() -> None:
    with pytest.raises(MaskclsError) as caught:
        compose("name=t", "loss=focla", "epochs=-1", "optimizer.lr=fast")
    assert len(caught.value.messages) == 3


CSV = {
    "gender": (",female,", ",femal,", "line 2: unknown gender 'femal', did you mean 'female'?"),
    "age": (None, "-4", "age must be a number of years from 0 to 120"),
    "column": ("gender", "colour", "missing column 'gender'"),
}


@pytest.mark.parametrize("fault", CSV)
def test_a_broken_row_of_train_csv_is_named(fault: str, tiny: list[str], people: Path, tmp_path: Path) -> None:
    base = tmp_path / "mine"
    shutil.copytree(people, base)
    file = base / "train" / "train.csv"
    lines = file.read_text().splitlines()
    old, new, sentence = CSV[fault]
    if fault == "column":
        lines[0] = lines[0].replace(str(old), new)
    else:
        cells = lines[1].split(",")
        cells[{"gender": 1, "age": 3}[fault]] = new.strip(",")
        lines[1] = ",".join(cells)
    file.write_text("\n".join(lines) + "\n")
    words = [word for word in tiny if not word.startswith("data.")]
    with pytest.raises(MaskclsError) as caught:
        run(compose(*words, "data=competition", f"data.root={base}"))
    assert sentence in str(caught.value) and "train.csv" in str(caught.value)


def test_a_photo_that_cannot_be_read_is_named(tiny: list[str], people: Path, tmp_path: Path) -> None:
    base = tmp_path / "mine"
    shutil.copytree(people, base)
    photo = next(path for path in sorted((base / "train" / "images").rglob("mask1.*")) if path.name[0] != ".")
    photo.write_bytes(b"no photo")
    words = [word for word in tiny if not word.startswith("data.")]
    with pytest.raises(MaskclsError, match="cannot be read as an image") as caught:
        run(compose(*words, "data=competition", f"data.root={base}"))
    assert photo.name in str(caught.value)
