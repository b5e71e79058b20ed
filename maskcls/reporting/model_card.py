"""The model card of an export, in the format of Hugging Face: YAML facts, then what was measured, and limits of use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from maskcls.core.task import AGE_THRESHOLDS, ATTRIBUTES, CLASSES, FloatArray, IntArray
from maskcls.reporting.comparison import format_ci, run_facts
from maskcls.reporting.page_rendering import render_template
from maskcls.reporting.reliability_tables import reliability_context
from maskcls.reporting.score_table import score_predictions
from maskcls.reporting.summary import leak_warning
from maskcls.storage.run import Run
from maskcls.storage.run_paths import Part
from maskcls.storage.trained_model import TrainedModel, fold_index
from maskcls.system.console import format_duration
from maskcls.system.files import write_text

PARTS: dict[Part, str] = {"eval": "evaluation set, people of no fold", "oof": "out of fold"}
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
    run, config = model.run, model.config
    measured = run_facts([[run]]) if run else {}
    metrics = (run.metrics() if run else None) or {}
    split_people = metrics.get("people_on_both_sides", 0)
    return {
        "name": model.name, "facts": facts, "agreement": agreement, "scores": scores, "classes": CLASSES,
        "attributes": ATTRIBUTES, "thresholds": AGE_THRESHOLDS, "note": model.note, "config": config,
        "counts": count_rows(run.table) if run else [], "hardware": measured.get("hardware", []),
        "seconds": format_duration(sum(measured.get("runs", {}).values())) if measured else "",
        "versions": measured.get("versions") or {}, "weights": describe_weights(model),
        "leak": leak_warning(split_people) if split_people else "",
        "notes": metrics.get("notes", []), **reliability_context({} if model.note else metrics),
    }  # fmt: skip


def find_fold(model: TrainedModel) -> int | None:
    """Return the index of the fold that a model is, None for a whole run."""
    return fold_index(model.files[0].parent) if model.note else None


def measured_scores(run: Run, fold: int | None) -> dict[str, Any]:
    """Return the scores of each part that has labels, with intervals over people, and the calibration error."""
    scores = {}
    for part, name in PARTS.items():
        labels, probs, persons = labelled(run, part, fold)
        if len(labels):
            found = score_predictions(labels, probs, persons)
            scores[name] = found | {"ci": format_ci(found["interval"], ".3f")}
    return scores


def labelled(run: Run, part: Part, fold: int | None) -> tuple[IntArray, FloatArray, list[str]]:
    """Return labels (N,), probabilities (N, 18) and persons of the labelled rows of a part, of a run or of one fold."""
    table = run.val_table if part == "oof" else run.eval_table.query("label >= 0")
    if fold is not None:
        table = table[table["fold"] == fold] if part == "oof" else table
        predictions = run.fold_predictions(fold).val if part == "oof" else run.fold_predictions(fold).eval
    elif not table.empty:
        predictions = run.predictions(part)
    if table.empty:
        return np.zeros(0, np.int64), np.zeros((0, len(CLASSES)), np.float32), []
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
