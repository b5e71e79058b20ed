"""The report of a finished run: plots and one self-contained HTML page."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from maskcls.core.errors import join_words
from maskcls.core.task import Task
from maskcls.evaluation.calibration import calibration_bins
from maskcls.evaluation.error_analysis import count_wrong_attributes
from maskcls.reporting.figures import MAX_CLASSES, RunResults, confused_classes, number_figure, render_figures
from maskcls.reporting.page_rendering import data_uri, render_template, thumbnail
from maskcls.reporting.reliability_tables import reliability_context
from maskcls.reporting.summary import (
    Numbers,
    format_score,
    leak_notes,
    leak_warning,
    number_note,
    score_heads,
    score_names,
    summary_rows,
)
from maskcls.storage.run import Run
from maskcls.system.console import format_duration
from maskcls.system.files import atomic_write, write_text

NUM_TOP_ERRORS = 24


def write_report(run: Run, metrics: Numbers, table: pd.DataFrame) -> None:
    """Write plots/ and report.html."""
    oof = load_oof_rows(run, table)
    images: dict[str, list[str]] = {}
    for name, pair in render_figures(RunResults(metrics, fold_history(run, metrics), oof, run.task)):
        atomic_write(run.plots_dir / f"{name}.png", lambda file, pair=pair: file.write(pair[0]))  # type: ignore[misc]
        images[name] = [data_uri("png", image) for image in pair]
    write_text(run.report_path, render_report(run, metrics, table, oof, images))


def fold_history(run: Run, metrics: Numbers) -> list[Numbers]:
    """Return the rows of the history that belong to the run's folds."""
    folds = {row["fold"] for row in metrics["folds"]}
    return [row for row in run.history() if row["fold"] in folds]


def load_oof_rows(run: Run, table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per out-of-fold image with a class: label, prediction, path and confidence, and of the attribute
    that is made of a number this number, its true and its predicted value."""
    predictions, task = run.predictions("oof"), run.task
    rows, probs = table.set_index("id").loc[predictions.ids.tolist()].reset_index(), predictions.probs
    oof = rows[["id", "fold", "label"]].assign(guess=predictions.preds, path=rows["path"], sure=probs.max(1))
    oof = oof[(has_class := oof["label"] >= 0)]
    if task.number is None:
        return oof
    axis, numbers = task.axis(task.number.name), rows[task.number.source].to_numpy(float)[has_class]
    guess = task.marginals(probs[has_class])[axis].argmax(1)
    return oof.assign(number=numbers, value_truth=task.decode(oof["label"])[axis], value_guess=guess)


def render_report(run: Run, metrics: Numbers, table: pd.DataFrame, oof: pd.DataFrame, images: Mapping[str, Any]) -> str:
    """Return the HTML page."""
    task, names = run.task, score_names(metrics, run.task)
    values = page_context(oof, task) | {
        "run": run.id,
        "metrics": metrics,
        "sample": sample_size(metrics["oof"], task),
        "images": images,
        "lines": list(summary_rows(metrics, names)),
        "heads": [score_heads(task)[name].replace("\n", " ") for name in names],
        "number_note": number_note(metrics, task),
        "tiles": list(headline_scores(metrics, task)),
        "leak": leak_warning(metrics["people_on_both_sides"], task),
        "classes": class_rows(metrics),
        "sections": config_sections(run),
        "monitor": "cross entropy" if read_config(run).get("monitor") == "val_loss" else "F1",
        "environment": describe_environment(run),
        "epochs": len(run.history()),
        "unlabelled": int((table["part"] == "eval").sum()),
        "attributes": join_words([name if i else name[0].upper() + name[1:] for i, name in enumerate(task.names)]),
        "confused": len(confused_classes(np.asarray(metrics["confusion"]))),
        "max_classes": MAX_CLASSES,
    }
    values |= reliability_context(metrics, task) | {"leaks": list(leak_notes(metrics, task))}
    return render_template("run_report.html.j2", values, score=format_score)


def page_context(oof: pd.DataFrame, task: Task) -> Numbers:
    """Return the template values computed from the out-of-fold rows."""
    number = task.number
    named = {"number_figure": number_figure(number), "in_unit": number.in_unit,
             "numbers": int(oof["number"].notna().sum())} if number else {}  # fmt: skip
    return named | {
        "photos": len(oof),
        "wrong": int((oof["label"] != oof["guess"]).sum()),
        "top_errors": list(top_errors(oof, task)),
        "blame": count_wrong_attributes(oof, task),
        "calibration": calibration_bins(oof)[1],
    }


def headline_scores(metrics: Numbers, task: Task) -> Iterator[tuple[str, str, str]]:
    """Yield name, value and detail of each headline score."""
    oof, folds, evaluation = metrics["oof"], len(metrics["folds"]), metrics["eval"]
    sample = sample_size(oof, task)
    yield "out-of-fold macro F1", format_score(oof["f1"]), sample
    if decision := metrics.get("decision"):
        yield "plain argmax macro F1", format_score(decision["plain"]["oof"]["f1"]), "out of fold, without the decision"
    yield "out-of-fold accuracy", format_score(oof["accuracy"]), sample
    for name in task.names if len(task.names) > 1 else ():
        yield f"{name} F1", format_score(oof[f"{name}_f1"]), f"out of fold, {sample}"
    if (number := task.number) and oof.get(f"{number.name}_mae") is not None:
        name, title = number.name, f"{number.name} MAE" + (f" in {number.unit}" if number.unit else "")
        detail = f"out of fold, n = {oof[f'{name}_images']} images of known {name}"
        yield title, f"{oof[f'{name}_mae']:.2f}", detail
    yield "macro F1 per fold", format_mean_std(metrics["folds_mean"]), over_folds(folds)
    if evaluation:
        sample = sample_size(evaluation, task)
        models = f"mean of {folds} fold models" if folds > 1 else "1 fold model"
        yield "evaluation macro F1", format_score(evaluation["f1"]), f"{models}, {sample}"
        yield "evaluation accuracy", format_score(evaluation["accuracy"]), f"{models}, {sample}"
        if evaluation.get("single") and folds > 1:
            yield (
                "evaluation macro F1 per fold model",
                format_mean_std(evaluation["single"]),
                f"{over_folds(folds)}, {sample}",
            )


def sample_size(part: Numbers, task: Task) -> str:
    """Return n; the people are omitted if each image counts as a person, for then they may be unknown."""
    has_people = part["people"] < part["photos"]
    return f"n = {part['photos']} images" + (f" of {part['people']} {task.groups}" if has_people else "")


def format_mean_std(numbers: Numbers) -> str:
    """Return mean ± standard deviation of F1, without the latter for one fold."""
    return format_score(numbers["f1"]) + (f" ± {numbers['f1_sd']:.4f}" if "f1_sd" in numbers else "")


def over_folds(folds: int) -> str:
    """Return the number of folds that a mean is over."""
    return f"mean ± sd over {folds} folds" if folds > 1 else "1 fold only, no sd"


def class_rows(metrics: Numbers) -> list[Numbers]:
    """Return the rows of the per-class table, with None for an undefined score."""
    pred_counts = np.asarray(metrics["confusion"]).sum(0)  # (C,)
    rows = []
    for row, predicted in zip(metrics["per_class"], pred_counts.tolist(), strict=True):
        blank = {"recall": None} if not row["photos"] else {}
        blank |= {"precision": None} if not predicted else {}
        blank |= {"f1": None} if not predicted + row["photos"] else {}
        rows.append(row | {"predicted": predicted} | blank)
    return rows


def top_errors(oof: pd.DataFrame, task: Task) -> Iterator[dict[Any, Any]]:
    """Yield the misclassified images with the highest confidence, highest first, with the values of the attributes."""
    for row in worst_errors(oof, NUM_TOP_ERRORS):
        label, pred = ([attribute.values[i] for attribute, i in zip(task, task.decode(row[key]), strict=True)]
                       for key in ("label", "guess"))  # fmt: skip
        values = [(b, a != b) for a, b in zip(label, pred, strict=True)]
        yield row | {"label": label, "pred": values, "image": thumbnail(row["path"])}


def worst_errors(oof: pd.DataFrame, count: int) -> list[dict[Any, Any]]:
    """Return the rows of the misclassified images with the highest confidence, highest first."""
    wrong = oof[oof["label"] != oof["guess"]].sort_values(["sure", "id"], ascending=[False, True], kind="stable")
    return wrong.head(count).to_dict("records")


def read_config(run: Run) -> Mapping[str, Any]:
    """Return the config of a run, empty if there is none."""
    return run.config if run.config_path.exists() else {}


def config_sections(run: Run) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Return the config as sections: group, option, and its values under dotted names; plain values come first."""
    config = read_config(run)
    plain = [(name, format_value(value)) for name, value in config.items() if not isinstance(value, dict)]
    groups = [(name, value) for name, value in config.items() if isinstance(value, dict)]
    parts = [(name, str(value.get("name", "")), list(flatten(value))) for name, value in groups]
    return [("run", "", plain), *parts] if plain else parts


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the values of a nested section under dotted names, without its option (`name`)."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from flatten(value, f"{prefix}{key}.")
        elif prefix or key != "name":
            yield f"{prefix}{key}", format_value(value)


def format_value(value: Any) -> str:
    """Return a config value as text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def describe_environment(run: Run) -> list[tuple[str, str]]:
    """Return names and texts of the machine, software and time of a run."""
    facts = run.provenance()
    epochs = [row.get("seconds", 0) for row in run.history()]
    versions = {"maskcls": facts.get("maskcls"), "python": facts.get("python")} | (facts.get("versions") or {})
    rows = {
        "command": shlex.join(facts.get("command") or []), "started": facts.get("begun"), "commit": facts.get("commit"),
        "duration of the last call": format_duration(facts.get("seconds")),
        "duration of training": f"{format_duration(sum(epochs))} in {len(epochs)} epochs" if epochs else "",
        "system": facts.get("system"), "hardware": format_facts(facts.get("hardware")),
        "versions": format_facts(versions),
    }  # fmt: skip
    return [(name, str(value)) for name, value in rows.items() if value]


def format_facts(facts: Mapping[str, Any] | None) -> str:
    """Return facts in one line, without the missing ones."""
    return ", ".join(f"{name} {value}" for name, value in (facts or {}).items() if value is not None)
