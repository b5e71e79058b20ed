"""A run with a head over years stores expected ages and reports their error; another head stores none."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY

import maskcls
from maskcls.components.labels import find_open_ended
from maskcls.config.compose import compose
from maskcls.config.validation import validate
from maskcls.core.competition import MASK18
from maskcls.core.errors import ConfigError
from maskcls.data.assemble import assemble_table
from maskcls.data.pixel_cache import load_pixels
from maskcls.engine.out_of_fold import score_numbers
from maskcls.engine.runner import run
from maskcls.inference.forward import channel_stats, normalize
from maskcls.inference.predict import predict
from maskcls.reporting.summary import number_note, print_summary
from maskcls.storage.predictions import Predictions, number_columns, prob_columns
from maskcls.storage.run import Run

GRID = torch.arange(10.0, 101)


@pytest.fixture(scope="module")
def aged(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Run]:
    """Return the words and the directory of a run whose folds predict with two epochs and two views of an image."""
    folder = tmp_path_factory.mktemp("aged")
    words = [*TINY, "epochs=2", "ensemble_epochs=2", "tta=flip", "head=years", "head.link=corn", f"data.root={drawn}",
             f"cache_dir={drawn}/cache", f"runs_dir={folder}/runs"]  # fmt: skip
    run(compose(*words))
    (place,) = (folder / "runs").glob("t-*")
    return words, Run(place)


def expected_ages(distributions: torch.Tensor) -> np.ndarray:
    """Return mean and standard deviation of distributions over years, (N, 2)."""
    mean = distributions @ GRID
    return torch.stack([mean, (distributions @ GRID**2 - mean**2).sqrt()], 1).numpy()


@torch.inference_mode()
def plain_distribution(predictor: Any, pixels: np.ndarray) -> torch.Tensor:
    """Return the distribution over years of images, the mean over networks and views."""
    predictor.predict_pixels(pixels)  # builds the networks
    found = []
    for model, head in zip(predictor.models, predictor.heads, strict=True):
        images = normalize(torch.from_numpy(pixels), channel_stats(model, torch.device("cpu")))
        found += [head.split_logits(model(view))[2].double().softmax(1).float() for view in (images, images.flip(3))]
    return torch.stack(found).mean(0)


def test_ages_are_those_of_the_mixture_of_epochs_views_and_folds(aged: tuple[list[str], Run]) -> None:
    words, done = aged
    cfg = validate(compose(*words))
    table = assemble_table(cfg, lambda note: None)
    pixels = np.array(load_pixels(table, cfg.crop, Path(cfg.cache_dir)))
    positions = pd.Series(np.arange(len(table)), index=table["id"])
    oof, evaluation = done.predictions("oof"), done.predictions("eval")
    assert oof.numbers is not None and evaluation.numbers is not None
    rest = pixels[positions[evaluation.ids.tolist()].to_numpy()]
    folds = []
    for k in range(2):
        predictor = maskcls.load(done.path / f"fold{k}")
        assert len(predictor.heads) == 2
        val = done.fold_predictions(k).val
        expected = expected_ages(plain_distribution(predictor, pixels[positions[val.ids.tolist()].to_numpy()]))
        np.testing.assert_allclose(oof.reorder(val.ids.tolist()).numbers, expected, rtol=2e-3, atol=2e-3)
        folds.append(plain_distribution(predictor, rest))
    np.testing.assert_allclose(evaluation.numbers, expected_ages(torch.stack(folds).mean(0)), rtol=2e-3, atol=2e-3)


def test_the_error_is_that_of_people_of_known_age(aged: tuple[list[str], Run], capsys: pytest.CaptureFixture[str]) -> None:
    words, done = aged
    table = assemble_table(validate(compose(*words)), lambda note: None)
    metrics, oof = done.metrics() or {}, done.predictions("oof")
    is_open = pd.Series(find_open_ended(table, MASK18["age"], 60), index=table["id"])[oof.ids.tolist()].to_numpy()
    truth = table.set_index("id")["age"][oof.ids.tolist()].to_numpy()
    assert oof.numbers is not None and is_open.any() and not is_open.all()
    errors = np.abs(oof.numbers[:, 0] - truth)
    assert metrics["oof"]["age_mae"] == pytest.approx(errors[~is_open].mean(), rel=1e-4)
    assert (metrics["oof"]["age_images"], metrics["oof"]["open_ended"]) == ((~is_open).sum(), is_open.sum())
    assert all(row["age_mae"] > 0 for row in metrics["folds"]) and metrics["eval"]["age_mae"] > 0
    print_summary(done, metrics)
    shown, page = capsys.readouterr().out, done.report_path.read_text(encoding="utf-8")
    assert max(len(line) for line in shown.splitlines() if line.startswith("│")) <= 80
    note = number_note(metrics, MASK18)
    assert note in " ".join(shown.split()) and note in page and f"{is_open.sum()} images of 60 or older" in note
    assert f"{metrics['oof']['age_mae']:.4f}" in page and "<th>age MAE</th>" in page
    assert f"evaluation {metrics['eval']['age_mae']:.2f} years" in note


def test_predict_and_load_give_ages(aged: tuple[list[str], Run], people: Path, tmp_path: Path) -> None:
    _, done = aged
    photos = sorted((people / "eval" / "images").iterdir())[:3]
    base = [f"runs=[{done.path}]", f"out={tmp_path}/a.csv", f"cache_dir={tmp_path}/cache", "hardware=cpu"]
    predict(compose(*base, f"photos={people}/eval/images", config="predict"))
    written = pd.read_csv(tmp_path / "a.csv").set_index("photo")
    model = maskcls.load(done.path)
    ages = model.predict_ages(photos)
    assert ages.shape == (3, 2) and model.predict_ages([]).shape == (0, 2) and model(photos).shape == (3, 18)
    rows = [next(name for name in written.index if name.endswith(path.name)) for path in photos]
    np.testing.assert_allclose(written.loc[rows, number_columns(MASK18)], ages, rtol=1e-3, atol=1e-3)
    predict(compose(f"runs=[{done.path},{done.path}]", f"out={tmp_path}/b.csv", "blend=greedy", config="predict"))
    again, own = Predictions.read(tmp_path / "probabilities-b.csv", task=MASK18), done.predictions("eval")
    assert again.numbers is not None and own.numbers is not None
    np.testing.assert_allclose(again.numbers, own.numbers[: len(again.numbers)], rtol=1e-4)


def test_a_finished_run_predicts_again_after_its_tables_are_lost(aged: tuple[list[str], Run], tmp_path: Path) -> None:
    words, done = aged
    shutil.copytree(done.path, tmp_path / "runs" / done.path.name)
    copied = Run(tmp_path / "runs" / done.path.name)
    kept = {name: (copied.path / name).read_bytes() for name in ("oof.csv", "eval.csv", "metrics.json")}
    for name in kept:
        (copied.path / name).unlink()
    run(compose(*words, f"runs_dir={tmp_path}/runs"))
    assert {name: (copied.path / name).read_bytes() for name in kept} == kept


def test_a_head_without_years_stores_no_ages(finished: tuple[list[str], Path]) -> None:
    _, place = finished
    header = (place / "oof.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
    assert header == ["id", "person", "fold", "label", "guess", *prob_columns(18)]
    with np.load(place / "fold0" / "oof.npz") as arrays:
        assert {*arrays} == {"ids", "probs", "eval_ids", "eval_probs", "epochs", "epoch"}
    metrics = (place / "metrics.json").read_text(encoding="utf-8") + (place / "report.html").read_text(encoding="utf-8")
    assert "age_mae" not in metrics and "age MAE" not in metrics
    with pytest.raises(ConfigError, match=r"predicts no age in years\. Use a model trained with head=years"):
        maskcls.load(place).predict_ages([])


def test_a_fractional_age_has_the_error_of_its_completed_years() -> None:
    ages = [29.9, 41.5, 33.0, 60.0]
    table = pd.DataFrame({"id": list("abcd"), "person": list("abcd"), "part": "train", "age": ages})
    expected = np.array([[29, 0], [40, 0], [33, 0], [75, 0]], np.float32)
    scores = score_numbers(table, np.arange(4), expected, MASK18)
    assert scores == {"age_images": 3, "open_ended": 1, "age_mae": pytest.approx(1 / 3)}
