"""Error messages for each key and option: misspelt, of a wrong type, or in conflict with another."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from maskcls.config.compose import compose
from maskcls.config.groups import GROUPS
from maskcls.config.validation import CONFLICTS, validate
from maskcls.core.competition import MASK18
from maskcls.core.config import Config
from maskcls.core.errors import ConfigError, MaskclsError
from maskcls.core.schema import option_fields
from maskcls.engine.runner import run

PLAIN = sorted(set(Config.__dataclass_fields__))
PARAMETERS = [f"{group}.{word}.{key}" for group, registry in GROUPS.items() for word, build in registry.builders.items()
              for key in option_fields(build)]  # fmt: skip
WRONG: tuple[Any, ...] = ({"a": 1}, [{"a": 1}], "no such", -1e9, 2.5, None, True, float("inf"), float("nan"), 10**30)


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    """Return a composed config with every default filled in."""
    return validate(compose("name=t", "model=timm", "model.arch=test_resnet")).to_dict()


def misspelt(key: str) -> str:
    """Return a key with one letter changed."""
    at = len(key) // 2
    return key[:at] + ("q" if key[at] != "q" else "z") + key[at + 1 :]


def helps(sentence: str, key: str) -> bool:
    """Tell whether a sentence has the right word as the nearest one, or, of two or three letters, among those there are."""
    return f"did you mean '{key}'?" in sentence or (len(key) <= 3 and key in sentence.partition(", expected one of")[2])


@pytest.mark.parametrize("key", PLAIN)
def test_every_key_with_a_letter_changed_has_the_nearest(key: str, whole: dict[str, Any]) -> None:
    raw = {misspelt(name) if name == key else name: value for name, value in copy.deepcopy(whole).items()}
    with pytest.raises(ConfigError) as caught:
        validate(raw)
    (sentence,) = [told for told in caught.value.messages if misspelt(key) in told]
    assert sentence.startswith(f"unknown key '{misspelt(key)}'") and helps(sentence, key)


@pytest.mark.parametrize("path", PARAMETERS)
def test_every_parameter_with_a_letter_changed_has_the_nearest(path: str) -> None:
    group, word, key = path.split(".")
    faults: list[str] = []
    assert GROUPS[group].check({"name": word, misspelt(key): 1}, faults, task=MASK18) is None
    (sentence,) = [told for told in faults if f"'{misspelt(key)}'" in told]
    assert sentence.startswith(f"unknown parameter '{misspelt(key)}' of {group}={word}") and helps(sentence, key)


@pytest.mark.parametrize("path", [f"{group}.{word}" for group in GROUPS for word in GROUPS[group].builders])
def test_every_word_with_a_letter_changed_has_the_nearest(path: str) -> None:
    group, word = path.split(".")
    faults: list[str] = []
    assert GROUPS[group].check({"name": misspelt(word)}, faults) is None
    (sentence,) = faults
    assert sentence.startswith(f"unknown {group} '{misspelt(word)}'") and helps(sentence, word)


@pytest.mark.parametrize("key", PLAIN)
def test_every_key_of_a_wrong_type_is_named(key: str, whole: dict[str, Any]) -> None:
    refused = 0
    for value in WRONG:
        try:
            validate(copy.deepcopy(whole) | {key: value})
        except ConfigError as error:
            refused += 1
            assert all(sentence.startswith(key) and "\n" not in sentence for sentence in error.messages), error
    assert refused >= 5


@pytest.mark.parametrize("path", PARAMETERS)
def test_every_parameter_of_a_wrong_type_is_named(path: str) -> None:
    group, word, key = path.split(".")
    refused = 0
    for value in WRONG:
        faults: list[str] = []
        GROUPS[group].check({"name": word, key: value}, faults)
        refused += sum(told.startswith(f"{group}.{key} ({word})") for told in faults)
        assert all(told.startswith(f"{group}.") and "\n" not in told for told in faults), faults
    assert refused >= 5


CLASHING = {  # told by the config alone, before a file is looked at
    "fold=2 folds=2": "fold=2 is out of range: there are 2 folds, 0 to 1",
    "size_schedule=[0.5,0.8,1] epochs=2": "size_schedule=[0.5, 0.8, 1.0] has 3 sizes for epochs=2. Set at most one per epoch",
    "size_schedule=[]": "size_schedule",
    "average_epochs=3 epochs=2": "average_epochs=3 exceeds epochs=2",
    "scheduler.warmup=3 epochs=2": "scheduler.warmup=3.0 exceeds epochs=2",
    "mixing=mixup batch_size=1": "mixing=mixup needs batch_size ≥ 2, got 1",
    "labels.soft=40": "labels.soft=40.0 exceeds the 30 years between the age thresholds 30 and 60",
    "optimizer=sgd optimizer.nesterov=true optimizer.momentum=0": "optimizer.nesterov=true needs optimizer.momentum > 0, got 0",
    "head=years labels.soft=4": "labels.soft=4.0 does not apply to head=years, whose targets are soft already. Set head.sigma",
    "head=years labels.border=58": "labels.border=58 does not apply to head=years. Set head.border=58",
    "head.mask=0 head.gender=0 head.age=0": "head=triple needs a weight greater than 0 of mask, gender or age, got 0 for all",
    "overlay=masks overlay.of=train overlay.worn=0 overlay.incorrect=0": "overlay=masks needs worn or incorrect greater than 0, got 0 for both",
    "overlay=masks overlay.of=train overlay.worn=0 overlay.replace=true": "overlay.replace=true needs worn and incorrect greater than 0, got 0 and 1",
    "overlay=masks": "overlay.of=extra needs extra data, but extra=none",
    "epochs=4 freeze_epochs=4 model.frozen=backbone": "freeze_epochs=4 must be less than epochs=4",
    "freeze_epochs=1": "freeze_epochs=1 needs model.frozen, for example model.frozen=backbone",
    "epochs=4 ensemble_epochs=5": "ensemble_epochs=5 exceeds epochs=4",
    "epochs=4 ensemble_epochs=2 average_epochs=2": "ensemble_epochs=2",
    "sampler=person sampler.images=3 batch_size=8": "sampler=person: batch_size=8 is not divisible by sampler.images=3. Set batch_size=6",
    "sampler=person sampler.images=20 batch_size=8": "sampler=person: batch_size=8 is not divisible by sampler.images=20. Set batch_size=20",
    "seed=4294967296": "seed must be less than 4294967296, got 4294967296",
    "runs_dir=/dev/null": "runs_dir: cannot create folder '/dev/null': '/dev/null' is a file",
    "cache_dir=/dev/null/x": "cache_dir: cannot create folder '/dev/null/x': '/dev/null' is a file",
    "name=" + "x" * 300: "name: expected at most 200 characters, got 300",
    "plugins=['']": "plugins: cannot import ''",
    "crop.height=100000": "crop.height (resize) must be at most 4096, got 100000",
    "tta=scales tta.factors=[0.01]": "tta.factors (scales) must be at least 0.5, got 0.01",
    "optimizer.lr=inf": "optimizer.lr (adamw) must be finite, got inf",
    "model.pretrained=package:no_such.package": "package 'no_such.package' is not installed",
}
REHEARSED = {  # told when the words are built, before a photo is read
    "batch_size=1": "batch_size=1: model=timm cannot be trained on one 32 × 24 image",
    "model.frozen=['*']": "model.frozen=['*'] leaves no trainable parameter",
    "augmentation=albumentations augmentation.transforms.RandomCrop={height:90,width:90}": "failed on 32 × 24 images",
    **{
        f"augmentation=albumentations augmentation.transforms.{words}": f"32 × 24 × 3, got {made}"
        for words, made in {
            "RandomCrop={height:9,width:9,p:0.5}": "uint8 of 9 × 9 × 3. End with Resize: {height: 32, width: 24}",
            "RandomCrop={height:9,width:9}": "uint8 of 9 × 9 × 3. End with Resize: {height: 32, width: 24}",
            "ToFloat={}": "float32 of 32 × 24 × 3. Remove ToFloat",
            "OneOf={transforms:{ToFloat:{},HorizontalFlip:{}}}": "float32 of 32 × 24 × 3. Remove ToFloat",
            "Sequential={transforms:{HorizontalFlip:{},ToFloat:{p:1}},p:1}": "float32 of 32 × 24 × 3. Remove ToFloat",
            "ToGray={num_output_channels:1,p:1}": "uint8 of 32 × 24. Keep the three channels",
            "Transpose={p:1}": "uint8 of 24 × 32 × 3. End with Resize",
        }.items()
    },
    "model.arch=swin_tiny_patch4_window7_224": "model=timm failed on 32 × 24 images",
    "model=vit_b16_224 model.frozen=[blok]": "model.frozen: unknown parameter 'blok'",
    "size_schedule=[0.5,1] crop.height=224 crop.width=224 model.arch=swin_tiny_patch4_window7_224":
        "size_schedule=0.5: model=timm failed on 112 × 112 images: Input height (112) doesn't match model (224)",
    "size_schedule=[0.1,1] crop.height=64 crop.width=64 model.arch=vgg11": "size_schedule=0.1: model=timm failed on 6 × 6 images",
    "size_schedule=[0.5,1] batch_size=1 crop.height=64 crop.width=64": "size_schedule=0.5: batch_size=1: model=timm cannot be trained on one 32 × 32 image",
    "hardware=gpu": "torch finds no GPU",
}
COUNTED = {  # told when the rows are known, before a photo is decoded for training
    "folds=99": "folds=99 exceeds the 14 people in the training data",
    "split=stratified_age folds=999": "folds=999 exceeds the ",
    "split=holdout split.share=0.01": "split.share=0.01 selects 0 of 14 people for validation",
    "split=holdout fold=1": "fold=1 is out of range: split=holdout has 1 folds",
    "batch_size=99": "batch_size=99 exceeds the",
    "grad_accum_steps=99": "grad_accum_steps=99 exceeds the",
    "labels.drop=[[0,120]]": "exceeds the 0 training images of fold 0",
    "crop=none model.arch=swin_tiny_patch4_window7_224": "model=timm failed on 64 × 48 images",
}


@pytest.mark.parametrize("words", [*CLASHING, *REHEARSED, *COUNTED])
def test_what_does_not_fit_is_told_before_any_work(words: str, tiny: list[str], tmp_path: Path) -> None:
    kept = [word for word in tiny if not (words.startswith("crop=") and word.startswith("crop."))]
    with pytest.raises(MaskclsError) as caught:
        raw = compose(*kept, f"cache_dir={tmp_path}/cache", *words.split())  # imports plugins
        validate(raw) if words in CLASHING else run(raw)
    assert (CLASHING | REHEARSED | COUNTED)[words] in str(caught.value)
    assert not [*tmp_path.rglob("*.pt"), *tmp_path.rglob("pixels.npy")]
    assert words in COUNTED or not [*(tmp_path / "cache").rglob("*"), *(tmp_path / "runs").rglob("*")]


def test_each_clash_of_the_config_was_tried() -> None:
    firsts = [keys.split()[0] for keys, _ in CONFLICTS]
    heads = [(f"{key}=", f"{key.split('.')[0]}=") for key in firsts]
    assert all(any(told.startswith(head) for told in CLASHING.values()) for head in heads)


FITTING = ["sampler=weighted people=6", "sampler=weighted loss.class_weights=inverse people=6", "ema=0.9 grad_accum_steps=2", "loss=f1 batch_size=2",
           "head=triple pseudo=none labels.soft=4", "precision=bf16", "ema=0.9 average_epochs=2"]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("words", FITTING)
def test_what_looks_like_a_clash_and_is_none_trains(words: str, tiny: list[str], tmp_path: Path) -> None:
    assert 0 <= run(compose(*tiny, "fold=0", *words.split())) <= 1
    (file,) = (tmp_path / "runs").glob("*/table.csv")
    table = pd.read_csv(file)
    trained = set(table.loc[(table["part"] == "train") & (table["fold"] == 1), "label"])
    assert len(trained) < 18 or "people=6" not in words.split(), "no class is absent from training"


def test_groups_of_one_person_must_fit_the_batch_of_each_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    words = ["name=t", "sampler=person", "sampler.images=4", "model=timm", "model.arch=test_efficientnet"]
    with pytest.raises(ConfigError, match=r"batch_size=12 is not divisible by sampler\.images=4 × 2 ranks\. Set batch_size=8$"):
        validate(compose(*words, "batch_size=12"))
    assert validate(compose(*words, "batch_size=16")).batch_size == 16


def test_mixing_needs_two_images_on_each_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    words = ["name=t", "mixing=halfcut", "model=timm", "model.arch=test_efficientnet"]
    with pytest.raises(ConfigError, match=r"mixing=halfcut needs batch_size ≥ 4 \(2 per rank\), got 3"):
        validate(compose(*words, "batch_size=3"))
    assert validate(compose(*words, "batch_size=4")).batch_size == 4
