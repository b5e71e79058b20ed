"""Finished runs, blended: their out-of-fold score, the submission, and the classes of any photos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from omegaconf import DictConfig
from pydantic import AfterValidator

from maskcls.components.blend import Blend
from maskcls.components.hardware import Hardware
from maskcls.config.validation import checked, resolved
from maskcls.core.errors import ConfigError, DataError, RunError
from maskcls.core.registry import Word
from maskcls.core.table import differ, straddling
from maskcls.core.task import AGES, CLASSES, GENDERS, MASKS, Floats, Ints, decode
from maskcls.data.pixel_cache import pixels
from maskcls.evaluation.metrics import scores
from maskcls.imaging.image_files import describe_left_out, find_images
from maskcls.inference.evaluation_set import load_evaluation, load_own_evaluation, stored_probs
from maskcls.inference.predictor import Predictor, restore_component
from maskcls.storage.predictions import COLUMNS, ordered
from maskcls.storage.run import Finished, opened
from maskcls.system import console, distributed
from maskcls.system.files import write_text

STANDINS = {"data": {"name": "synthetic"}, "tta": {"name": "none"}}  # checked where the runs' own words are meant
RULER = ["person", "label", "fold", "scored"]
SCORES = ("f1", "accuracy", "mask_f1", "gender_f1", "age_f1")
HEAD = ["", "macro\nF1", "accuracy", "mask\nF1", "gender\nF1", "age\nF1"]
SHOWN = 20


def some(names: list[str]) -> list[str]:
    """Return names, at least one."""
    if not names:
        raise ValueError("it names no run, as runs='[runs/a-1234]' would")
    return names


@dataclass(frozen=True)
class PredictConfig:
    """A prediction: which runs, of which photos, blended how."""

    runs: Annotated[list[str], AfterValidator(some)]
    photos: str | list[str] | None  # files, folders, patterns; null: the evaluation part of the data
    out: str | None  # null: submission.csv, or photos.csv where photos are given
    runs_dir: str
    cache_dir: str
    precision: Literal["fp32", "bf16", "fp16"] | None  # null: each run's own
    plugins: list[str]
    data: Word
    tta: Word
    blend: Word
    hardware: Word


def predict(raw: DictConfig | Mapping[str, Any]) -> float:
    """Write the predictions that a config asks for and return the ensemble's out-of-fold macro F1."""
    values = resolved(raw)
    own = {group for group in STANDINS if values.get(group) is None}
    cfg = checked(values | {group: STANDINS[group] for group in own}, PredictConfig)
    out = Path(cfg.out or ("photos.csv" if cfg.photos else "submission.csv"))
    if out.name == "probabilities.csv":
        raise ConfigError("out: probabilities.csv is the name of the file beside it")
    listing = photos([cfg.photos] if isinstance(cfg.photos, str) else cfg.photos) if cfg.photos else None
    hardware = cfg.hardware()
    distributed.start(hardware.device)
    runs = [opened(name, cfg.runs_dir) for name in cfg.runs]
    ensemble, score = blended(cfg.blend, runs)
    tta = None if "tta" in own else cfg.tta
    if tta and any(tta != restore_component(run, "tta") for run in runs):
        console.say(f"tta={tta.name} is for the photos below; out-of-fold scores are with each run's own", "yellow")
    if listing is None:
        answer(cfg, runs, ensemble, tta, hardware, out, own_data="data" in own)
    else:
        describe(listing, ensemble(np.stack([computed(run, listing, cfg, tta, hardware) for run in runs])), out)
    return score


def blended(word: Word, runs: Sequence[Finished]) -> tuple[Blend, float]:
    """Return the ensemble of some runs and its out-of-fold macro F1, printed beside its members'."""
    same_folds(runs)
    ruler = runs[0].scored
    truth, ids = ruler["label"].to_numpy(np.int64), ruler["id"].tolist()
    members = np.stack([ordered(ids, run.probabilities("oof.csv"), run.path / "oof.csv") for run in runs])
    ensemble: Blend = word(members, truth, ruler["person"].tolist())
    title = f"out of fold: {len(ruler)} photos of {ruler['person'].nunique()} people"
    show(title, truth, named(runs, word, members, ensemble.oof))
    console.say(f"blend={word.name}: {ensemble.honest}")
    if both := max(straddling(run.table) for run in runs):
        console.say(f"LEAK: {both} people stand on both sides of a fold: no score on new people", "bold red")
    return ensemble, scores(truth, ensemble.oof)["f1"]


def same_folds(runs: Sequence[Finished]) -> None:
    """Raise a RunError where two runs were scored on different rows, labels or folds."""
    first = runs[0].scored.set_index("id").sort_index()
    for run in runs[1:]:
        other = run.scored.set_index("id").sort_index()
        where = f"{runs[0].path} and {run.path} have different fold tables"
        if not first.index.equals(other.index):
            alone = len(first.index.symmetric_difference(other.index))
            raise RunError(f"{where} ({alone} scored photos stand in one of them only): they cannot be blended")
        apart = {name: (first[name] != other[name]).to_numpy() for name in RULER}
        apart["content"] = differ(first["content"], other["content"])
        if unequal := [name for name, rows_ in apart.items() if rows_.any()]:
            count = int(np.any([apart[name] for name in unequal], axis=0).sum())
            raise RunError(f"{where} ({count} photos differ in {', '.join(unequal)}): they cannot be blended")


def named(runs: Sequence[Finished], word: Word, members: Floats, whole: Floats) -> list[tuple[str, Floats]]:
    """Return the lines of a table of scores: each run, and the ensemble where it is more than one run as it is."""
    lines = [(run.path.name, probs) for run, probs in zip(runs, members, strict=True)]
    return lines if len(runs) == 1 and word.name == "mean" else [*lines, (f"ensemble: {word.name}", whole)]


def show(title: str, truth: Ints, lines: Sequence[tuple[str, Floats]]) -> None:
    """Print the scores of several tables of probabilities on the same photos."""
    results = [(name, scores(truth, probs)) for name, probs in lines]
    console.table(title, HEAD, [[name, *[result[key] for key in SCORES]] for name, result in results])


def answer(
    cfg: PredictConfig, runs: Sequence[Finished], ensemble: Blend, tta: Word | None, hardware: Hardware, out: Path,
    own_data: bool,
) -> None:  # fmt: skip
    """Write the submission of the evaluation photos: stored predictions where they are what is asked for, else new."""
    cache = Path(cfg.cache_dir)
    table = runs[0].evaluation if own_data else load_evaluation(cfg.data, cache)
    if table.empty:
        raise DataError("the data has no evaluation photos: photos=<folder> predicts any others")
    kept = [stored_probs(run, table, cfg.precision, tta) for run in runs]
    if own_data and any(probs is None for probs in kept):
        table = load_own_evaluation(runs[0], cache)
        kept = [stored_probs(run, table, cfg.precision, tta) for run in runs]
    members = np.stack([computed(run, table, cfg, tta, hardware) if probs is None else probs
                        for run, probs in zip(runs, kept, strict=True)])  # fmt: skip
    probs, known = ensemble(members), (table["label"] >= 0).to_numpy()
    if known.any():
        lines = [(name, part[known]) for name, part in named(runs, cfg.blend, members, probs)]
        show(f"evaluation: {known.sum()} photos with labels", table["label"].to_numpy(np.int64)[known], lines)
    submit(table["id"].tolist(), framed(table["id"], probs), out)


def computed(run: Finished, table: pd.DataFrame, cfg: PredictConfig, tta: Word | None, hardware: Hardware) -> Floats:
    """Return the probabilities (N, 18) of photos by the mean of a run's folds."""
    predictor = Predictor(run, hardware, cfg.precision, tta)
    console.say(f"{run.path.name}: {len(table)} photos, {len(predictor.files)} folds")
    return predictor.predict(pixels(table, predictor.crop_word, Path(cfg.cache_dir), console.say))


def framed(ids: pd.Series, probs: Floats) -> pd.DataFrame:
    """Return id and p0 … p17."""
    table = pd.DataFrame(probs.astype(np.float64), columns=COLUMNS)
    table.insert(0, "id", ids.to_numpy())
    return table


def submit(wanted: Sequence[str], given: pd.DataFrame, out: Path) -> None:
    """Write ImageID,ans in the order of the wanted ids, and probabilities.csv; a missing or double row is refused."""
    probs = ordered(wanted, given, out)
    names = pd.Series([Path(name).name for name in wanted])
    if (twice := names[names.duplicated()]).size:
        raise DataError(f"{out}: two evaluation photos have the name {twice.iloc[0]}")
    write(out, pd.DataFrame({"ImageID": names, "ans": probs.argmax(1)}), framed(pd.Series(wanted), probs))


def write(out: Path, answers: pd.DataFrame, probs: pd.DataFrame) -> None:
    """Write the answers and, beside them, the probabilities, each whole or not at all, from the first rank only."""
    beside = out.parent / "probabilities.csv"
    for path, table in ((beside, probs), (out, answers)) if console.main_rank() else ():
        write_text(path, table.to_csv(index=False, float_format="%.8g", lineterminator="\n"))
    console.say(f"{len(answers)} photos: {out} and {beside}")


def photos(sources: Sequence[str]) -> pd.DataFrame:
    """Return id and path of the photos in folders (with theirs below), files and patterns; DataError where none is."""
    found: list[str] = []
    for source in sources:
        images, left_out = find_images(source)
        others = describe_left_out(left_out)
        if not images:
            raise DataError(f"photos: there is no photo at {source!r}{': ' * bool(others)}{others}")
        if others:
            console.say(f"photos: {source}: {others}", "yellow")
        found += map(str, images)
    unique = list(dict.fromkeys(found))
    return pd.DataFrame({"id": unique, "path": unique})


def describe(listing: pd.DataFrame, probs: Floats, out: Path) -> None:
    """Print and write mask, gender, age and probability of each photo."""
    guess = probs.argmax(1)
    mask, gender, age = decode(guess)
    words = {"mask": np.array(MASKS)[mask], "gender": np.array(GENDERS)[gender], "age": np.array(AGES)[age]}
    table = pd.DataFrame({"photo": listing["id"], "ans": guess, **words, "probability": probs.max(1).astype(float)})
    title = f"{len(table)} photos, {len(np.unique(guess))} of {len(CLASSES)} classes"
    brief = table.head(SHOWN).assign(photo=[Path(name).name for name in table["photo"].head(SHOWN)])
    console.table(title, brief.columns.tolist(), brief.to_numpy().tolist())
    if len(table) > SHOWN:
        console.say(f"… and {len(table) - SHOWN} more")
    write(out, table, framed(listing["id"], probs))
