"""The model card of an export, in the format of Hugging Face: YAML facts, then what was measured, and limits of use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from maskcls.core.task import Attribute, FloatArray, IntArray
from maskcls.evaluation.metrics import distinct_scores
from maskcls.reporting.comparison import format_ci, run_facts, scored_rows
from maskcls.reporting.limits_of_use import limits_of_use, unmeasured_groups
from maskcls.reporting.page_rendering import render_template
from maskcls.reporting.reliability_tables import reliability_context
from maskcls.reporting.score_table import score_predictions
from maskcls.reporting.summary import leak_warning
from maskcls.storage.run import Run
from maskcls.storage.run_paths import Part
from maskcls.storage.trained_model import TrainedModel, fold_index
from maskcls.system.console import format_duration
from maskcls.system.files import write_text

PARTS: dict[Part, str] = {"eval": "evaluation set, {people} of no fold", "oof": "out of fold"}
Facts = Mapping[str, Any]


def write_card(path: Path, model: TrainedModel, facts: Facts, agreement: Facts, license: str) -> None:
    """Write the card of an exported model: `facts` about the file, its `agreement` with torch, the weights' licence."""
    scores = measured_scores(model.run, find_fold(model)) if model.run and model.run.is_done else {}
    body = render_template("model_card.md.j2", card_context(model, facts, agreement, scores) | {"license": license})
    head = yaml.safe_dump(front_matter(model, facts, scores, license), sort_keys=False, allow_unicode=True)
    write_text(path, f"---\n{head}---\n\n{body}\n")


def front_matter(model: TrainedModel, facts: Facts, scores: Facts, license: str) -> dict[str, Any]:
    """Return the facts that a hub reads: licence, task, tags, and the scores as a model index."""
    library = {"library_name": "timm"} if "architecture" in facts else {"library_name": "onnx"}
    matter: dict[str, Any] = {
        "license": license, **library, "pipeline_tag": "image-classification",
        "tags": ["maskcls", "image-classification"], "metrics": ["f1", "accuracy"],
    }  # fmt: skip
    if scores:
        name, part = next(iter(scores.items()))
        values = [{"type": key, "value": round(part[key], 4), "name": text}
                  for key, text in (("f1", "macro F1"), ("accuracy", "accuracy"))]  # fmt: skip
        data = {"name": f"{model.config['data']['name']}, {name}", "type": str(model.config["data"]["name"])}
        results = [{"task": {"type": "image-classification"}, "dataset": data, "metrics": values}]
        matter["model-index"] = [{"name": model.name, "results": results}]
    return matter


def card_context(model: TrainedModel, facts: Facts, agreement: Facts, scores: Facts) -> dict[str, Any]:
    """Return the values of the template: only what the run and the export have measured or stored."""
    run, config, task = model.run, model.config, model.task
    measured = run_facts([[run]]) if run else {}
    metrics = (run.metrics() if run else None) or {}
    split_people = metrics.get("people_on_both_sides", 0)
    return {
        "name": model.name, "facts": facts, "agreement": agreement, "scores": scores, "note": model.note,
        "config": config, "classes": task.classes, "attributes": [(one, describe_values(one)) for one in task],
        "score_heads": {name: f"{name.removesuffix('_f1')} F1" for name in distinct_scores(task)[2:]},
        "limits": limits_of_use(task), "unmeasured": unmeasured_groups(task), "one_person": task.group == "person",
        "counts": count_rows(run.table) if run else [], "hardware": measured.get("hardware", []),
        "seconds": format_duration(sum(measured.get("runs", {}).values())) if measured else "",
        "versions": measured.get("versions") or {}, "weights": describe_weights(model),
        "leak": leak_warning(split_people, task) if split_people else "",
        "notes": metrics.get("notes", []), **reliability_context({} if model.note else metrics, task),
    }  # fmt: skip


def describe_values(attribute: Attribute) -> str:
    """Return the values of an attribute in words; those of a number by its borders."""
    if not attribute.is_number:
        return ", ".join(attribute.values)
    borders, is_whole = attribute.borders, all(border == round(border) for border in attribute.borders)
    last = [f"{border - 1:g}" if is_whole else f"below {border:g}" for border in borders[1:]]
    middle = [f"{low:g} to {high}" for low, high in zip(borders, last, strict=False)]
    return ", ".join([f"under {borders[0]:g}", *middle, f"{borders[-1]:g} or {attribute.more}"])


def find_fold(model: TrainedModel) -> int | None:
    """Return the index of the fold that a model is, None for a whole run."""
    return fold_index(model.files[0].parent) if model.note else None


def measured_scores(run: Run, fold: int | None) -> dict[str, Any]:
    """Return the scores of each part that has labels, with intervals over people, and the calibration error."""
    scores = {}
    for part, name in PARTS.items():
        labels, probs, persons = labelled(run, part, fold)
        if len(labels):
            found = score_predictions(labels, probs, persons, run.task)
            text = name.format(people=run.task.groups)
            scores[text] = found | {"ci": format_ci(found["interval"], ".3f")}
    return scores


def labelled(run: Run, part: Part, fold: int | None) -> tuple[IntArray, FloatArray, list[str]]:
    """Return labels (N,), probabilities (N, C) and persons of the labelled rows of a part, of a run or of one fold."""
    table = scored_rows(run, part)
    if fold is not None:
        table = table[table["fold"] == fold] if part == "oof" else table
        predictions = run.fold_predictions(fold).val if part == "oof" else run.fold_predictions(fold).eval
    elif not table.empty:
        predictions = run.predictions(part)
    if table.empty:
        return np.zeros(0, np.int64), np.zeros((0, run.task.num_classes), np.float32), []
    return table["label"].to_numpy(np.int64), predictions.select(table["id"].tolist()), table["person"].tolist()


def count_rows(table: pd.DataFrame) -> list[tuple[str, int, int]]:
    """Return images and people of each part of a run's data."""
    names = {"train": "training, in folds", "eval": "evaluation", "extra": "extra, training only"}
    parts = [(text, table[table["part"] == part]) for part, text in names.items()]
    return [(text, len(rows), rows["person"].nunique()) for text, rows in parts if len(rows)]


def describe_weights(model: TrainedModel) -> str:
    """Return where the training began."""
    options = model.config.get("model", model.contents[0]["model_word"])
    if options.get("init"):
        return "the weights of an earlier run of the same folds"
    pretrained = options.get("pretrained")
    if not pretrained:
        return "random weights"
    source = "of the hub" if pretrained is True else f"({Path(str(pretrained)).name})"
    return f"pretrained weights {source}"
