"""Time to score: macro F1 on people set aside against wall seconds, of a recipe of this package and of timm's training.

Each contender is a process of its own, started with an empty cache, one after the other. Its clock runs from the start
of the process, imports and decoding included, to the moment at which the weights of an epoch are on disk; for this
package, the last point is the end of the command. Scores are computed afterwards, outside the clock.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from maskcls.benchmark.baselines import link_images
from maskcls.benchmark.harness import check_labels, check_time_overrides, merge_overrides, without_paths
from maskcls.benchmark.options import BenchmarkOptions
from maskcls.benchmark.timm_training import SETTINGS, TimmJob, predict
from maskcls.components.hardware import auto
from maskcls.config.compose import compose
from maskcls.config.validation import validate
from maskcls.core.config import Config
from maskcls.core.errors import ConfigError, RunError
from maskcls.core.table import eval_indices
from maskcls.core.task import FloatArray
from maskcls.data.assemble import assemble_table
from maskcls.engine.sanity_check import cropped_size
from maskcls.evaluation.intervals import confidence_interval, person_counts
from maskcls.evaluation.metrics import macro_f1
from maskcls.inference.predictor import Predictor
from maskcls.reporting.figure_style import LIGHT, legend, new_figure, png, set_titles
from maskcls.storage.run import Run
from maskcls.storage.trained_model import open_model
from maskcls.system import console
from maskcls.system.files import write_json

DEFAULTS = ("best=fast", "eval_fraction=0.2", "logger=none")
OURS = "maskcls"
POLL_SECONDS = 0.05
Curve = list[dict[str, float]]  # seconds and f1 of each point


@dataclass(frozen=True)
class Race:
    """What all contenders share: the recipe, its overrides, the images to train on and to score, and a folder."""

    cfg: Config
    overrides: Sequence[str]
    train: pd.DataFrame
    evaluation: pd.DataFrame
    folder: Path
    timm_epochs: int

    def f1(self, probs: FloatArray) -> float:
        """Return the macro F1 of probabilities (N, C) of the evaluation rows."""
        return macro_f1(self.evaluation["label"].to_numpy(), probs.argmax(1))

    def interval(self, probs: FloatArray) -> list[float] | None:
        """Return the interval of the macro F1 over people."""
        labels, people = self.evaluation["label"].to_numpy(), self.evaluation["person"].tolist()
        return confidence_interval([person_counts(labels, probs.argmax(1), people, self.cfg.task.build())])

    def result(self, points: Sequence[tuple[float, FloatArray]]) -> dict[str, Any]:
        """Return the curve of predictions over seconds, and the last score with its interval."""
        curve = [{"seconds": seconds, "f1": self.f1(probs)} for seconds, probs in points]
        return {"curve": curve, **curve[-1], "interval": self.interval(points[-1][1])}


def measure_time_to_score(options: BenchmarkOptions, overrides: list[str]) -> dict[str, Any]:
    """Run the contenders one after the other; print and return their curves and the ratios of their times."""
    check_time_overrides(overrides)
    with tempfile.TemporaryDirectory() as folder:
        race = prepare(Path(folder), merge_overrides(DEFAULTS, overrides), options.timm_epochs)
        results: dict[str, Any] = {}
        for name in dict.fromkeys(options.contenders):
            console.info(f"{name}: training on {len(race.train)} images", "bold")
            results[name] = race_maskcls(race) if name == OURS else race_timm(race, name)
    others = [name for name in results if OURS in results and name != OURS]
    ratios = {name: compare(results[OURS], results[name]) for name in others}
    facts = {"train_images": len(race.train), "train_people": race.train["person"].nunique(),
             "eval_images": len(race.evaluation), "eval_people": race.evaluation["person"].nunique()}  # fmt: skip
    settings = {"timm_epochs": options.timm_epochs, "overrides": without_paths(race.overrides),
                "config": race.cfg.hashed_items()}  # fmt: skip
    print_results(results, ratios, facts["eval_people"])
    return {**facts, "contenders": results, "ratios": ratios, **settings}


def prepare(folder: Path, overrides: list[str], timm_epochs: int) -> Race:
    """Return the race of a recipe, with a new folder for caches and runs."""
    cfg: Config = validate(compose(*overrides, f"runs_dir={folder}/runs", f"cache_dir={folder}/first_cache"))
    if not min(cropped_size(cfg)):
        raise ConfigError(f"benchmark: time-to-score needs a fixed size, got crop={cfg.crop.name}. Use crop=resize")
    table = assemble_table(cfg, console.info)
    check_labels(table)
    evaluation = table.iloc[eval_indices(table)].query("scored")
    if evaluation.empty:
        raise ConfigError("benchmark: time-to-score needs labelled evaluation people. Set eval_fraction=0.2")
    train = table[(table["part"] == "train") & table["trained"]]
    return Race(cfg, overrides, train, evaluation, folder, timm_epochs)


def race_maskcls(race: Race) -> dict[str, Any]:
    """Run the command of the recipe; return its curve, whose last point is the finished run."""
    runs_dir, kept = race.folder / "runs", race.folder / "weights"
    kept.mkdir()
    command = [sys.executable, "-m", "maskcls.run", *race.overrides]
    command += [f"runs_dir={runs_dir}", f"cache_dir={race.folder}/cache"]
    started_at, seconds = run_process(command, race.folder, lambda: keep_weights(runs_dir, kept))
    (path,) = [folder for folder in runs_dir.iterdir() if (folder / "metrics.json").is_file()]
    final = Run.open(path).predictions("eval").select(race.evaluation["id"].tolist())
    points = [(weights.stat().st_mtime - started_at, fold, predict_images(weights, race.evaluation))
              for fold, weights in list_weights(kept)]  # fmt: skip
    return race.result([*mean_over_folds(points), (seconds, final)])


def predict_images(weights: Path, rows: pd.DataFrame) -> FloatArray:
    """Return the probabilities (N, C) of images by a checkpoint."""
    return Predictor(open_model(weights), auto(workers=0))(rows["path"].tolist())


def race_timm(race: Race, name: str) -> dict[str, Any]:
    """Run timm's training with a setting; return its curve, a point for each epoch."""
    folder, cfg = race.folder / name, race.cfg
    (folder / "weights").mkdir(parents=True)
    train, evaluation = (
        link_images(rows["path"].tolist(), rows["label"].tolist(), folder / part)
        for part, rows in (("train", race.train), ("eval", race.evaluation))
    )
    params = cfg.model.params
    job = TimmJob(
        params["arch"], params["pretrained"], cropped_size(cfg), str(train), str(folder / "weights"), race.timm_epochs,
        cfg.seed, str(cfg.hardware.build().device), cfg.task.build().num_classes, SETTINGS[name],
    )  # fmt: skip
    write_json(folder / "job.json", job.to_dict())
    command = [sys.executable, "-m", "maskcls.benchmark.timm_training", str(folder / "job.json")]
    started_at, _ = run_process(command, folder)
    points = []
    for epoch in range(1, race.timm_epochs + 1):
        names, probs = predict(job, job.weights_path(epoch), str(evaluation))
        order = np.argsort([int(Path(file).stem) for file in names])  # link_images numbers the files
        points.append((job.weights_path(epoch).stat().st_mtime - started_at, probs[order]))
    return race.result(points) | {"setting": job.to_dict()["setting"]}


def run_process(command: Sequence[str], folder: Path, watch: Callable[[], None] = lambda: None) -> tuple[float, float]:
    """Run a command, calling `watch` until it ends; return start (epoch seconds) and duration. Failure is RunError."""
    log = folder / "output.txt"
    with log.open("wb") as output:
        started_at = time.time()
        with subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL) as process:
            while process.poll() is None:
                watch()
                time.sleep(POLL_SECONDS)
    seconds = time.time() - started_at
    if process.returncode:
        tail = log.read_text(encoding="utf-8", errors="replace").strip()[-1000:]
        raise RunError(f"benchmark: {' '.join(command[1:4])} … failed: {tail}")
    return started_at, seconds


def keep_weights(runs_dir: Path, kept: Path) -> None:
    """Keep the weights of each epoch, which a run removes later, under the name <fold>.<epoch>.pt, with their time."""
    for path in runs_dir.glob("*/fold*/epoch*.pt"):
        target = kept / f"{path.parent.name.removeprefix('fold')}.{path.stem.removeprefix('epoch')}.pt"
        if not target.exists():
            with contextlib.suppress(FileNotFoundError):  # removed in this moment
                link_or_copy(path, target)


def link_or_copy(path: Path, target: Path) -> None:
    """Give a file a second name, or copy it with its time where links are not possible."""
    try:
        os.link(path, target)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copy2(path, target)


def list_weights(kept: Path) -> list[tuple[int, Path]]:
    """Return fold and file of kept weights, in the order in which they were written."""
    files = sorted(kept.iterdir(), key=lambda file: file.stat().st_mtime_ns)
    return [(int(file.name.split(".")[0]), file) for file in files]


def mean_over_folds(points: Sequence[tuple[float, int, FloatArray]]) -> Iterator[tuple[float, FloatArray]]:
    """Yield at each point the mean over the folds begun so far of the prediction of their latest weights."""
    latest: dict[int, FloatArray] = {}
    for seconds, fold, probs in points:
        latest[fold] = probs
        yield seconds, np.mean(list(latest.values()), axis=0)


def seconds_to_reach(curve: Curve, f1: float) -> float | None:
    """Return the seconds of the first point with at least this F1, None without one."""
    return next((point["seconds"] for point in curve if point["f1"] >= f1), None)


def compare(ours: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the seconds of both to the final F1 of the other one, and their ratio, None if ours does not reach it.

    The other one's seconds are those of its first point with this F1, which may be earlier than its last.
    """
    reached, others = (seconds_to_reach(result["curve"], other["f1"]) for result in (ours, other))
    ratio = None if reached is None or others is None else others / reached
    return {"f1": other["f1"], "seconds": reached, "other_seconds": others, "ratio": ratio}


def print_results(
    results: Mapping[str, Mapping[str, Any]], ratios: Mapping[str, Mapping[str, float | None]], num_people: int
) -> None:
    """Print a row for each contender."""
    rows = []
    for name, result in results.items():
        interval = " [{:.3f}, {:.3f}]".format(*result["interval"]) if result["interval"] else ""
        reached = [ratios[name][key] for key in ("seconds", "ratio")] if name in ratios else []
        texts = ["not reached" if value is None else f"{value:.1f}" for value in reached] or ["", ""]
        rows.append([name, f"{result['f1']:.3f}{interval}", f"{result['seconds']:.0f}", *texts])
    head = ["contender", f"F1 [95 %] on\n{num_people} people", "seconds", "maskcls reaches\nit after (s)", "× faster"]
    console.print_table("time to score", head, rows)


def plot_curves(result: Mapping[str, Any]) -> bytes:
    """Return the PNG of all curves: macro F1 against wall seconds."""
    figure, (ax,) = new_figure(LIGHT, 7.0, 4.2)
    for color, (name, contender) in zip(LIGHT.series, result["contenders"].items(), strict=False):
        seconds, f1 = zip(*((point["seconds"], point["f1"]) for point in contender["curve"]), strict=True)
        ax.plot(seconds, f1, "o-", color=color, label=name)
        if name != OURS:
            ax.axhline(contender["f1"], color=color, linestyle="--", linewidth=1)
    ax.set_xlim(left=0)
    set_titles(ax, LIGHT, "wall seconds", f"macro F1 on {result['eval_people']} people set aside", "Time to score")
    legend(ax, LIGHT, loc="lower right")
    return png(figure)
