"""Comparison of an exported model with torch: probabilities, macro F1, speed, on evaluation images."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from maskcls.components.crop import least_size, output_size
from maskcls.core.errors import DataError, RunError
from maskcls.core.registry import Component
from maskcls.core.task import FloatArray, Task
from maskcls.evaluation.intervals import confidence_interval, person_counts
from maskcls.evaluation.metrics import macro_f1
from maskcls.imaging.image_io import read_image
from maskcls.inference.evaluation_set import image_paths, load_own_evaluation
from maskcls.inference.predictor import Predictor
from maskcls.storage.run import Run
from maskcls.storage.trained_model import TrainedModel, fold_index
from maskcls.system import console

TOLERANCES = {"onnx": 1e-5, "timm": 1e-6}  # largest difference of a probability in fp32
BATCH = 32  # images that are decoded and predicted at once
NOISE_SIZES = ((512, 384), (640, 480), (300, 500), (90, 70))  # of images in place of an evaluation set


@dataclass(frozen=True)
class Agreement:
    """Differences of an exported model to torch; F1 and its loss are None without labelled people."""

    images: int
    difference: float  # largest of a probability
    changed: int  # images whose most probable class differs
    images_per_second: float
    torch_images_per_second: float
    f1: float | None = None
    f1_lost: float | None = None
    interval: list[float] | None = None  # of f1_lost, over people
    people: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as plain data."""
        return asdict(self)

    def describe(self, name: str, threads: int) -> str:
        """Return the comparison in one line."""
        line = f"{name} and torch on {self.images} images: largest |Δp| {self.difference:.1e}, "
        line += f"{self.changed} images of another class"
        line += f"; {self.images_per_second:.0f} and {self.torch_images_per_second:.0f} images/s on {threads} threads"
        if self.f1_lost is None:
            return line
        interval = "" if self.interval is None else " [{:+.4f}, {:+.4f}]".format(*self.interval)
        return f"{line}; macro F1 lost {self.f1_lost:+.4f}{interval} of {self.people} people"


def load_check_photos(model: TrainedModel, count: int | None, cache: Path, for_scores: bool) -> pd.DataFrame:
    """Return evaluation rows of a model's run with paths, `count` spread evenly or all; without any, an empty table.

    `for_scores`: the validation rows of a model that is one fold, if no evaluation row has a label.
    """
    try:
        rows = load_own_evaluation(model.run, cache) if model.run else pd.DataFrame()
        if for_scores and model.run and len(model.files) == 1 and not (len(rows) and (rows["label"] >= 0).any()):
            rows = load_val_rows(model.run, fold_index(model.files[0].parent))
    except (DataError, RunError) as error:
        console.info(f"{error}; the export is compared with torch on images of noise", "yellow")
        return pd.DataFrame()
    if rows.empty or count is None or count >= len(rows):
        return rows
    return rows.iloc[np.unique(np.linspace(0, len(rows) - 1, count).astype(int))].reset_index(drop=True)


def load_val_rows(run: Run, k: int) -> pd.DataFrame:
    """Return the validation rows of fold k with paths; RunError if their images are not where the run had them."""
    paths = image_paths(run)
    rows = run.val_table.query("fold == @k").reset_index(drop=True)
    if not rows["id"].isin(paths.index).all():
        raise RunError(f"{run.path}: validation images of fold {k} are not where its config.yaml says")
    return rows.assign(path=paths[rows["id"]].to_numpy())


def compare(
    predictor: Predictor, predict: Callable[[Any], FloatArray], rows: pd.DataFrame, for_scores: bool
) -> Agreement:
    """Return the differences of `predict`, from photos to probabilities (N, C), to torch on images of a table.

    `for_scores`: also the loss of macro F1, of the images that have labels.
    """
    batches = [rows.iloc[i : i + BATCH]["path"].tolist() for i in range(0, len(rows), BATCH)]
    noise = [] if batches else [noise_images(predictor.crop_component)]
    images = itertools.chain(([read_image(path) for path in batch] for batch in batches), noise)
    functions: tuple[Callable[[Any], FloatArray], ...] = (predict, predictor)
    seconds, parts = np.zeros(2), [[], []]  # type: tuple[Any, list[list[FloatArray]]]
    for i, batch in enumerate(console.track(images, max(len(batches), 1), "comparing with torch")):
        for j, function in enumerate(functions):
            if not i:
                function(batch[:1])  # the first call builds what later calls use
            begun = time.perf_counter()
            parts[j].append(function(batch))
            seconds[j] += time.perf_counter() - begun
    ours, torch_probs = (np.concatenate(part) for part in parts)
    speeds = len(ours) / np.maximum(seconds, 1e-9)
    difference, changed = np.abs(ours - torch_probs).max(), (ours.argmax(1) != torch_probs.argmax(1)).sum()
    loss = score_loss(rows, ours, torch_probs, predictor.task) if for_scores and len(rows) else {}
    return Agreement(len(ours), float(difference), int(changed), *speeds.tolist(), **loss)


def score_loss(rows: pd.DataFrame, probs: FloatArray, reference: FloatArray, task: Task) -> dict[str, Any]:
    """Return the macro F1 of labelled rows, its loss against that of the reference, and the interval of the loss."""
    known = (rows["label"] >= 0).to_numpy()
    if not known.any():
        return {}
    labels, persons = rows["label"].to_numpy(np.int64)[known], rows["person"][known].tolist()
    preds, others = probs[known].argmax(1), reference[known].argmax(1)
    f1, other = macro_f1(labels, preds), macro_f1(labels, others)
    first, second = (person_counts(labels, one, persons, task) for one in (others, preds))
    interval = confidence_interval([first], [second])
    return {"f1": f1, "f1_lost": other - f1, "interval": interval, "people": len(set(persons))}


def noise_images(crop: Component) -> list[np.ndarray]:
    """Return images of noise in several sizes that a crop takes, for models whose evaluation images are not at hand."""
    rng, least = np.random.default_rng(0), least_size(crop)
    sizes = NOISE_SIZES if min(output_size(crop)) else NOISE_SIZES[:1]  # crop=none needs images of one size
    return [rng.integers(0, 256, (*np.maximum(size, least), 3), dtype=np.uint8) for size in sizes]
