"""Wrong words, types, files and rows: one clear sentence, exit code 2, before any work starts."""

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
    "loss=focla": "no loss 'focla': did you mean focal?",
    "model=resnet81": "no model 'resnet81': did you mean resnet18?",
    "loss.gama=3 loss=focal": "no parameter of loss focal 'gama': did you mean gamma?",
    "loss=focal loss.gamma=high": "loss.gamma of focal: 'high' is no float",
    "loss.weights=invers": "loss.weights of ce: no choice 'invers': did you mean inverse?",
    "epoch=3": "unknown key 'epoch', did you mean 'epochs'?",
    "epochs=0": "epochs: 0 should be greater than or equal to 1",
    "epochs=2.5": "epochs: 2.5 is no int",
    "seed=x": "seed: 'x' is no int",
    "precision=fp8": "precision: no choice 'fp8': did you mean",
    "folds=1": "folds: 1 should be greater than or equal to 2",
    "fold=7": "fold: 7 is none of the 2 folds",
    "optimizer.lr=-1": "optimizer.lr of adamw: -1 should be greater than 0",
    "optimizer=adamw,": "no optimizer 'adamw,': did you mean adamw?",
    "=NULL": "Config group override must be a string or a list",
    "+=": "an override cannot be read: it is key=value",
    "hydra/launcher=null": "Config group override must be a string or a list",
    "loss={0:1}": "no loss '{0: 1}'",
    "model.arch=resnet19": "model.arch of timm: no architecture of timm 'resnet19': did you mean resnet1",
    "model.pretrained=nowhere.pth": "model.pretrained of timm: there is no file 'nowhere.pth'",
    "model.pretrained=package:nothing_here": "there is no installed package 'nothing_here'",
    "model.frozen=[blok]": "model.frozen: no parameter 'blok'",
    "data=competition data.root=/nowhere/at/all": "there is no folder '/nowhere/at/all'",
    "data=competition data.root=null": "MASKCLS_DATA",
    "data=table": "data.file of table is missing",
    "augmentation=team augmentation.transforms.Rotat.p=1": "no transform of albumentations 'Rotat': did you mean Rotate?",
    "augmentation=team augmentation.transforms.RandomBrightnessContrast.bright=1": "no argument of RandomBrightnessContrast",
    "plugins=[nothing.here]": "plugins: 'nothing.here' cannot be imported",
    "name=a/b": "name: 'a/b' cannot name a folder",
    "batch=10000": "batch: 10000 photos are more than the",
    "folds=1000": "folds: 1000 folds cannot be made of 14 people",
    "crop=center crop.height=900 crop.width=10": "is larger than a photo of 64 × 48 pixels",
    "scheduler=multistep scheduler.unit=weeks": "scheduler.unit of multistep: no choice 'weeks'",
    "hardware=gpu": "there is no GPU",
    "split=holdout fold=1": "fold: 1 is none of the 1 folds of split holdout",
    "labels.border=25": "labels.border of plain: 25 should be greater than 30",
    "labels.soft=50": "labels.soft: 50.0 years are wider than the years between the borders 30 and 60",
    "labels.drop=[[29,27]]": "is no pair of ages in years",
    "mixing=halfcut mixing.cut=[0.6,0.4]": "is no pair of shares",
    "model.init=nowhere": "'nowhere' is no folder of a finished run",
    "pseudo=confident": "pseudo.run of confident is missing",
    "crop=face crop.detector=mtcn": "no detector 'mtcn': did you mean mtcnn?",
    "tta=flop": "no tta 'flop': did you mean flip?",
}


@pytest.mark.parametrize("words", WRONG)
def test_a_wrong_word_gives_its_sentence_before_any_epoch(words: str, tiny: list[str], tmp_path: Path) -> None:
    kept = [word for word in tiny if not (words.startswith("data=") and word.startswith("data."))]
    with pytest.raises(MaskclsError) as caught:
        run(compose(*kept, *words.split(" ")))
    assert WRONG[words] in str(caught.value)
    assert not list(tmp_path.rglob("*.pt"))


@pytest.mark.parametrize("words", ["loss=focla", "epoch=3", "data=competition data.root=/nowhere", "loss.gamma=[1"])
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
    "gender": (",female,", ",femal,", "line 2: no gender 'femal': did you mean female?"),
    "age": (None, "-4", "is no age in years"),
    "column": ("gender", "colour", "has no column 'gender'"),
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
    with pytest.raises(MaskclsError, match="cannot be read as a photo") as caught:
        run(compose(*words, "data=competition", f"data.root={base}"))
    assert photo.name in str(caught.value)
