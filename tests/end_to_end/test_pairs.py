"""Anything goes with anything: each word with each head, loss and mixing takes a training step and predicts."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from one_step import one_step

from maskcls.config.compose import compose
from maskcls.config.validation import validate
from maskcls.data.assemble import assemble_table
from maskcls.data.pixel_cache import load_pixels
from maskcls.engine.runner import run

HEADS, LOSSES, MIXINGS = ("single", "triple"), ("ce", "focal", "f1"), ("none", "mixup")
WORDS = {
    "mixing": ["mixing=cutmix", "mixing=halfcut", "mixing=halfcut mixing.pairs=within", "mixing=halfcut mixing.pairs=between"],
    "labels": ["labels=plain", "labels=age58", "labels=soft", "labels=winner", "labels.patches=core", "labels.patches=extended"],
    "crop": ["crop=center", "crop=center crop.clahe=2.0", "crop=face", "crop=face crop.detector=retinaface", "crop=none",
             *[f"crop=region crop.part={part}" for part in ("forehead", "nose_chin", "chin_neck")]],
    "sampler": ["sampler=shuffle", "sampler=weighted", "sampler=weighted sampler.power=0.5", "sampler=person sampler.images=4"],
    "weights": ["loss.class_weights=inverse", "loss.class_weights=effective", "loss.label_smoothing=0.1"],
    "comforts": ["clip_grad=1.0", "grad_accum_steps=2", "ema=0.9", "scheduler.warmup=0.5", "layer_decay=0.8", "precision=bf16", "average_epochs=2 epochs=2",
                 "size_schedule=[0.5,1.0] epochs=2",
                 "model.frozen=[conv_stem]", "select=last"],
    "optimizer": ["optimizer=sgd", "optimizer=adam", "optimizer=adamp", "optimizer=madgrad",
                  "optimizer=timm optimizer.opt=lookahead_lion layer_decay=0.8 ema=0.9 clip_grad=1.0"],
    "scheduler": ["scheduler=constant", "scheduler=step", "scheduler=multistep", "scheduler=plateau", "scheduler=onecycle"],
    "augmentation": ["augmentation=none", "augmentation=team", "augmentation=heavy", "augmentation=randaugment augmentation.erasing=0.5"],
    "split": ["split=holdout", "split=holdout_images", "split=stratified_label", "split=stratified_age"],
    "tta": ["tta=flip", "tta=scales"],
    "overlay": ["overlay=masks overlay.of=train"],
    "extra": ["extra=folder extra.root={outside}", "extra=folder extra.root={outside} overlay=masks"],
    "pseudo": ["pseudo=confident pseudo.run={finished} pseudo.threshold=0.0",
               "pseudo=confident pseudo.run={finished} pseudo.threshold=0.0 pseudo.soft=true",
               "pseudo=distil pseudo.runs=[{finished}]"],
    "init": ["model.init={finished}"],
}  # fmt: skip
SMALL = {"crop=center": "crop.height=32 crop.width=24", "crop=face": "crop.height=32 crop.width=24",
         "crop=region": "crop.height=16 crop.width=24", "crop=none": ""}  # fmt: skip


@pytest.fixture(scope="session")
def places(drawn: Path, people: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a folder of outside faces and a finished run."""
    from conftest import TINY

    base = tmp_path_factory.mktemp("places")
    (base / "outside").mkdir()
    for i, photo in enumerate(sorted(people.glob("train/images/*/normal.*"))[:6]):
        (base / "outside" / f"{60 + i}_{i % 2}_{i}{photo.suffix}").write_bytes(photo.read_bytes() + b"\0" * (i + 1))
    run(compose(*TINY, "epochs=1", f"data.root={drawn}", f"runs_dir={base}/runs", f"cache_dir={drawn}/cache"))
    return {"outside": base / "outside", "finished": next((base / "runs").iterdir())}


@pytest.mark.parametrize("words", [word for group in WORDS.values() for word in group])
def test_each_word_goes_with_each_head_loss_and_mixing(words: str, tiny: list[str], places: dict[str, Path]) -> None:
    words = words.format(**places)
    kept = [word for word in tiny if not (words.startswith("crop=") and word.startswith("crop."))]
    small = SMALL.get(words.split()[0], "").split()
    raw = compose(*kept, "batch_size=8", "epochs=1", *words.split(), *small)
    cfg = validate(raw)
    table = assemble_table(cfg, lambda note: None)
    photos = load_pixels(table, cfg.crop, Path(cfg.cache_dir))
    for head, loss, mixing in itertools.product(HEADS, LOSSES, MIXINGS):
        raw["head"], raw["loss"]["name"] = {"name": head}, loss
        if not words.startswith("mixing"):
            raw["mixing"] = {"name": mixing}
        numbers = one_step(validate(raw), table, photos)
        assert np.isfinite(numbers["loss"]) and 0 <= numbers["f1"] <= 1, (words, head, loss, mixing)


@pytest.mark.slow
def test_a_run_begins_from_the_same_folds_of_another_one(tiny: list[str], tmp_path: Path) -> None:
    run(compose(*tiny, "epochs=1"))
    (first,) = (tmp_path / "runs").iterdir()
    run(
        compose(
            *tiny, "epochs=1", f"model.init={first}", "optimizer=sgd", "optimizer.lr=1e-12", f"runs_dir={tmp_path}/more"
        )
    )
    (second,) = (tmp_path / "more").iterdir()
    for k in (0, 1):
        old, new = (torch.load(place / f"fold{k}" / "best.pt", weights_only=True)["model"] for place in (first, second))
        assert all(
            torch.allclose(old[key], new[key], atol=1e-6)
            for key in old
            if "running" not in key and "num_batches" not in key
        )


def test_beginning_from_folds_of_other_people_is_refused(tiny: list[str], tmp_path: Path) -> None:
    run(compose(*tiny, "epochs=1"))
    (first,) = (tmp_path / "runs").iterdir()
    with pytest.raises(Exception, match="other folds"):
        run(compose(*tiny, "epochs=1", "seed=5", f"model.init={first}"))


def test_weights_of_several_epochs_are_averaged_with_statistics_of_their_own(tiny: list[str], tmp_path: Path) -> None:
    run(compose(*tiny, "epochs=3", "average_epochs=2", "select=last", "fold=0"))
    (place,) = (tmp_path / "runs").iterdir()
    best = torch.load(place / "fold0" / "best.pt", weights_only=True)
    assert best["epoch"] == [2, 3] and not list(place.rglob("epoch*.pt"))
    last = torch.load(place / "fold0" / "last.pt", weights_only=True)["model"]
    assert any(not torch.equal(best["model"][key], last[key]) for key in last)
