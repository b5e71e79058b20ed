"""What a set of many photos costs: drawn people are copied under other names, and each size is measured by itself."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from maskcls.benchmark.harness import Job, build_training, synchronize
from maskcls.benchmark.memory import peak_memory, resident_memory, worker_memory
from maskcls.components.data import synthetic
from maskcls.core.config import Config
from maskcls.core.table import table_digest
from maskcls.data.assemble import assemble_table
from maskcls.data.pixel_cache import load_pixels
from maskcls.engine.experiment import Fold
from maskcls.engine.training_loop import train_one_epoch
from maskcls.system import console

HEAD = ("id", "gender", "race", "age", "path")
SHOTS = 7  # photos of a person


def enlarge_dataset(place: Path, photos: int, people: int, root: str) -> int:
    """Write a set in the competition's layout of at least `photos` photos of 512 × 384 pixels; return how many.

    `people` are drawn once into `root`; from then on they come again under other names, each file with other bytes
    behind its picture.
    """
    synthetic(lambda note: None, root=root, people=people, eval_people=0, height=512, width=384)
    source = Path(root) / f"people-{people}+0-512x384-seed0" / "train"
    with (source / "train.csv").open(newline="", encoding="utf-8") as file:
        drawn = list(csv.DictReader(file))
    wanted = -(-photos // SHOTS)
    (place / "train").mkdir(parents=True)
    with (place / "train" / "train.csv").open("w", newline="", encoding="utf-8") as file:
        sheet = csv.writer(file)
        sheet.writerow(HEAD)
        for i in console.track(range(wanted), wanted, "copying people"):
            person, copy = drawn[i % people], i // people
            name = f"{copy:03d}{person['path']}"
            sheet.writerow([f"{copy:03d}{person['id']}", *(person[key] for key in HEAD[1:4]), name])
            copy_person(source / "images" / person["path"], place / "train" / "images" / name, i)
    return wanted * SHOTS


def copy_person(source: Path, target: Path, number: int) -> None:
    """Copy the photos of a person with a number behind each, which no decoder reads."""
    target.mkdir(parents=True)
    for file in source.iterdir():
        if file.name[0] != ".":
            (target / file.name).write_bytes(file.read_bytes() + number.to_bytes(4, "big"))


def measure_costs(cfg: Config) -> dict[str, float]:
    """Return seconds and MB of a run's stages over a set: table, cache, an epoch of loading, one of training."""
    found: dict[str, float] = {}
    hardware = cfg.hardware.build()
    table = measure(found, "table_s", lambda: assemble_table(cfg, lambda note: None))
    measure(found, "digest_s", lambda: table_digest(table))
    photos = measure(found, "cache_cold_s", lambda: load_pixels(table, cfg.crop, Path(cfg.cache_dir)))
    measure(found, "cache_warm_s", lambda: load_pixels(table, cfg.crop, Path(cfg.cache_dir)))
    fold = Fold.of(table, photos, 0, hardware)
    job = Job(cfg, hardware, fold, [], len(fold.train_indices) // cfg.batch)
    found |= {"photos": len(table), "trained": job.steps * cfg.batch, "cache_mb": photos.nbytes / 1e6}
    state, work, batches, source = build_training(job)
    found["before_rss_mb"] = peak_memory()
    measure(found, "loading_s", lambda: sum(len(images) for images, _ in source))
    batches.epoch = 1

    def epoch() -> None:
        train_one_epoch(cfg, state, work, source, len(batches), hardware)
        synchronize(hardware.device)

    measure(found, "training_s", epoch)
    return found | {"peak_rss_mb": peak_memory(), "workers_mb": worker_memory()} | resident_memory()


def measure(found: dict[str, float], name: str, work: Callable[[], Any]) -> Any:
    """Return what a function returns, and book its seconds."""
    begun = time.perf_counter()
    result = work()
    found[name] = time.perf_counter() - begun
    return result
