"""Cost of large data sets: synthetic people are copied under new ids, and each size is measured in its own process."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from maskcls.benchmark.harness import Job, build_training, synchronize
from maskcls.benchmark.memory import peak_memory, resident_memory, worker_memory
from maskcls.components.data import synthetic, synthetic_dir
from maskcls.components.sources.competition_layout import MASK_BY_STEM
from maskcls.core.config import Config
from maskcls.core.table import table_digest
from maskcls.core.task_options import DEFAULT_TASK
from maskcls.data.assemble import assemble_table
from maskcls.data.pixel_cache import load_pixels
from maskcls.engine.experiment import Fold
from maskcls.engine.training_loop import train_one_epoch
from maskcls.system import console

COLUMNS = ("id", "gender", "race", "age", "path")
IMAGES_PER_PERSON = len(MASK_BY_STEM)


def enlarge_dataset(folder: Path, min_images: int, num_people: int, root: str) -> int:
    """Write a data set in the competition's layout with at least `min_images` images of 512 × 384; return how many.

    `num_people` people are drawn once into `root` and then repeated under new ids. Each copied file has different
    bytes after its image data.
    """
    synthetic(lambda note: None, DEFAULT_TASK, root=root, people=num_people, eval_people=0, height=512, width=384)
    source = synthetic_dir(root, num_people, 0, 512, 384, 0) / "train"
    with (source / "train.csv").open(newline="", encoding="utf-8") as file:
        people = list(csv.DictReader(file))
    num_copies = -(-min_images // IMAGES_PER_PERSON)
    (folder / "train").mkdir(parents=True)
    with (folder / "train" / "train.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for i in console.track(range(num_copies), num_copies, "copying people"):
            person, prefix = people[i % num_people], f"{i // num_people:03d}"
            name = f"{prefix}{person['path']}"
            writer.writerow([f"{prefix}{person['id']}", *(person[key] for key in COLUMNS[1:4]), name])
            copy_person(source / "images" / person["path"], folder / "train" / "images" / name, i)
    return num_copies * IMAGES_PER_PERSON


def copy_person(source: Path, target: Path, number: int) -> None:
    """Copy a person's images and append a number to each file, which decoders ignore."""
    target.mkdir(parents=True)
    for file in source.iterdir():
        if file.name[0] != ".":
            (target / file.name).write_bytes(file.read_bytes() + number.to_bytes(4, "big"))


def measure_costs(cfg: Config) -> dict[str, float]:
    """Return seconds and MB of a run's stages: table, pixel cache, an epoch of loading, an epoch of training."""
    costs: dict[str, float] = {}
    hardware = cfg.hardware.build()
    table = measure(costs, "table_s", lambda: assemble_table(cfg, lambda note: None))
    measure(costs, "digest_s", lambda: table_digest(table, cfg.task.build()))
    pixels = measure(costs, "cache_cold_s", lambda: load_pixels(table, cfg.crop, Path(cfg.cache_dir)))
    measure(costs, "cache_warm_s", lambda: load_pixels(table, cfg.crop, Path(cfg.cache_dir)))
    fold = Fold.of(table, pixels, 0, hardware, cfg.head.build())
    job = Job(cfg, hardware, fold, [], len(fold.train_indices) // cfg.batch_size)
    costs |= {"photos": len(table), "trained": job.steps * cfg.batch_size, "cache_mb": pixels.nbytes / 1e6}
    state, step, sampler, loader = build_training(job)
    costs["before_rss_mb"] = peak_memory()
    measure(costs, "loading_s", lambda: sum(len(images) for images, _ in loader))
    sampler.epoch = 1

    def train_epoch() -> None:
        train_one_epoch(cfg, state, step, loader, len(sampler), hardware)
        synchronize(hardware.device)

    measure(costs, "training_s", train_epoch)
    return costs | {"peak_rss_mb": peak_memory(), "workers_mb": worker_memory()} | resident_memory()


def measure(seconds: dict[str, float], name: str, function: Callable[[], Any]) -> Any:
    """Call a function, store its duration in `seconds`, and return its result."""
    started_at = time.perf_counter()
    result = function()
    seconds[name] = time.perf_counter() - started_at
    return result
