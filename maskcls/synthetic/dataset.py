"""Synthetic data set in the layout of the competition."""

from __future__ import annotations

import csv
import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from maskcls.core.errors import DataError, write_error_message
from maskcls.imaging.face_masks import Image, Style, draw_mask, sample_mask
from maskcls.synthetic.appearance import sample_identity, sample_shot
from maskcls.synthetic.portrait import apply_camera, portrait
from maskcls.system.processes import exit_with_parent, free_shared_memory, num_cpus

DRAWING_VERSION = 2  # raise it when the pixels change: folders of earlier versions are then not read
GENDERS = ("male", "female")
POPULATION_SHARES = np.array([549, 410, 83, 732, 817, 109]) / 2700  # people of the competition by gender and age band
STEMS: dict[str, int] = {
    **{f"mask{k}": 0 for k in range(1, 6)},
    "incorrect_mask": 1,
    "normal": 2,
}  # file stem: mask class
_SLIPS: tuple[Style, ...] = ("nose", "chin", "ear")
_YOUNG = np.array([2, 8, 9, 9, 9, 9, 8, 7, 4, 3, 3, 3]) / 74  # ages 18 to 29
_MIDDLE = np.repeat([1.0, 0.9, 1.6], 10) / 35  # ages 30 to 59: the fifties are the most
_JUNK = bytes.fromhex("00051607000200004d6163204f5320582020202020202020") + bytes(96)  # an AppleDouble header


@dataclass(frozen=True)
class Person:
    """One row of the population; `seed` names the random stream of this person."""

    id: str
    gender: int
    age: int
    seed: tuple[int, ...]
    ending: str = "jpg"
    junk: bool = False

    @property
    def path(self) -> str:
        return f"{self.id}_{GENDERS[self.gender]}_Asian_{self.age}"

    @property
    def group(self) -> int:
        """Gender and age as the class of a worn mask, 0 to 5."""
        return self.gender * 3 + (self.age >= 30) + (self.age >= 60)


def write(
    root: Path,
    *,
    people: int = 160,
    eval_people: int = 40,
    height: int = 256,
    width: int = 192,
    seed: int = 0,
    workers: int | None = None,
    track: Callable[[Iterable[Any], int], Iterable[Any]] = lambda items, total: items,
) -> None:
    """Draws the people and writes `root` whole: it appears, complete, at the end or not at all.

    Sizes are in pixels. The bytes depend on the seed, never on the number of workers. `track(items, total)` may show
    progress, person by person. Raises FileExistsError if `root` already holds something. Only one process may
    write a root at a time.
    """
    root = Path(root).absolute()
    if root.exists() and any(root.iterdir()):
        raise FileExistsError(f"{root} is not empty. Choose another folder")
    trained, evaluated = sample_population(people, eval_people, seed)
    part = root.parent / f".{root.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    jobs = [(person, part / "train" / "images" / person.path, False) for person in trained]
    jobs += [(person, part / "eval" / "images", True) for person in evaluated]
    (part / "eval" / "images").mkdir(parents=True, exist_ok=True)
    head = ["id", "gender", "race", "age", "path"]
    table = [[p.id, GENDERS[p.gender], "Asian", p.age, p.path] for p in trained]
    _tabulate(part / "train" / "train.csv", head, table)
    _list_photos(part / "eval", evaluated, seed)
    for _ in track(_draw_all(jobs, height, width, workers), len(jobs)):
        pass
    part.rename(root)


def sample_population(people: int, eval_people: int, seed: int) -> tuple[list[Person], list[Person]]:
    """Return the people of train and of eval, with the competition's shares of gender and age."""
    if people < 1 or eval_people < 0:
        raise ValueError(f"expected people ≥ 1 and eval_people ≥ 0, got {people} and {eval_people}")
    rng = np.random.default_rng(seed)
    total = people + eval_people
    groups = np.concatenate([_deal(rng, people, 5), _deal(rng, eval_people, 2)])
    numbers = rng.choice(max(7000, 2 * total), total, replace=False)
    numbers[:people].sort()
    endings = _endings(rng, people) + ["jpg"] * eval_people
    junk = set(rng.choice(people, max(1, people // 80), replace=False).tolist())
    everyone = [
        Person(f"{number:06d}", int(group) // 3, _age(rng, int(group) % 3), (seed, 1 + k), endings[k], k in junk)
        for k, (number, group) in enumerate(zip(numbers.tolist(), groups, strict=True))
    ]
    return everyone[:people], everyone[people:]


def _deal(rng: np.random.Generator, people: int, least: int) -> np.ndarray:
    """Return the groups of so many people in random order; none has less than `least`, if they suffice."""
    least = least if people >= 30 else min(1, people // 6)
    counts = np.maximum(np.floor(POPULATION_SHARES * people), least).astype(int)
    while counts.sum() > people:
        counts[np.argmax(np.where(counts > least, counts - POPULATION_SHARES * people, -np.inf))] -= 1
    while counts.sum() < people:
        counts[np.argmax(POPULATION_SHARES * people - counts)] += 1
    return rng.permutation(np.repeat(np.arange(6), counts))


def _age(rng: np.random.Generator, band: int) -> int:
    if band == 2:
        return 60  # the maximum age in the competition
    return int(rng.choice(np.arange(30, 60), p=_MIDDLE)) if band else int(rng.choice(np.arange(18, 30), p=_YOUNG))


def _endings(rng: np.random.Generator, people: int) -> list[str]:
    few = {"png": max(1, round(0.027 * people)), "jpeg": max(1, round(0.019 * people))}
    rare = [ending for ending, count in few.items() for _ in range(count)][: people - 1]
    return [str(e) for e in rng.permutation(rare + ["jpg"] * (people - len(rare)))]


def _tabulate(file: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out, lineterminator="\n").writerows([header, *rows])


def _list_photos(folder: Path, people: Sequence[Person], seed: int) -> None:
    """Writes info.csv as the competition has it, without answers, and labels.csv with them."""
    rows = [
        [_alias(p, stem), mask * 6 + p.group, GENDERS[p.gender], p.age, p.path]
        for p in people
        for stem, mask in STEMS.items()
    ]
    rows = [rows[k] for k in np.random.default_rng((seed, 0)).permutation(len(rows))]
    _tabulate(folder / "info.csv", ["ImageID", "ans"], [[row[0], 0] for row in rows])
    _tabulate(folder / "labels.csv", ["ImageID", "ans", "gender", "age", "path"], rows)


def _alias(person: Person, stem: str) -> str:
    return hashlib.sha1(f"{person.seed}/{person.path}/{stem}".encode()).hexdigest() + ".jpg"


def _draw_all(
    jobs: Sequence[tuple[Person, Path, bool]], height: int, width: int, workers: int | None
) -> Iterator[None]:
    """Draws person after person, in several processes where that pays."""
    draw = partial(_draw, height=height, width=width)
    wanted = min(workers or num_cpus(), len(jobs) if workers else max(1, len(jobs) // 6))
    if wanted == 1 or not free_shared_memory():
        yield from map(draw, jobs)
        return
    # Not fork: the caller may have started threads (torch, OpenCV) whose locks a forked child would find held for ever.
    with ProcessPoolExecutor(wanted, get_context("forkserver"), _begin) as pool:
        yield from pool.map(draw, jobs, chunksize=2)


def _begin() -> None:
    exit_with_parent()
    cv2.setNumThreads(1)


def _draw(job: tuple[Person, Path, bool], height: int, width: int) -> None:
    person, folder, hidden = job
    folder.mkdir(parents=True, exist_ok=True)
    for stem, image in render_person(person, height, width):
        name = _alias(person, stem) if hidden else f"{stem}.{person.ending}"
        quality = [] if name.endswith("png") else [cv2.IMWRITE_JPEG_QUALITY, 92]
        if not cv2.imwrite(str(folder / name), image[..., ::-1], quality):
            raise DataError(write_error_message(folder / name))
    if person.junk:
        (folder / f"._mask1.{person.ending}").write_bytes(_JUNK)


def render_person(person: Person, height: int, width: int) -> Iterator[tuple[str, Image]]:
    """Yield the seven photos of a person by file stem, uint8 RGB (height, width, 3)."""
    rng = np.random.default_rng(person.seed)
    who = sample_identity(rng, person.gender, person.age)
    for stem, mask in STEMS.items():
        shot = sample_shot(rng, who)
        image, landmarks = portrait(who, shot, height, width)
        if mask < 2:
            style: Style = "worn" if mask == 0 else _SLIPS[rng.choice(3, p=[0.56, 0.4, 0.04])]
            image = draw_mask(image, landmarks, sample_mask(rng), style, rng)
        yield stem, apply_camera(image, shot)
