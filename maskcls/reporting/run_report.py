"""What a run shows: a closing table, plots and one self-contained HTML page."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from maskcls.core.task import CLASSES, decode, marginals
from maskcls.evaluation.calibration import calibration_bins
from maskcls.evaluation.error_analysis import count_wrong_attributes
from maskcls.reporting.figures import RunResults, render_figures
from maskcls.reporting.html import data_uri, render_template, thumbnail
from maskcls.reporting.summary import Numbers, format_score, leak_warning, summary_rows
from maskcls.storage.run import Run
from maskcls.system.console import format_duration
from maskcls.system.files import atomic_write, write_text

WORST = 24


def write(run: Run, metrics: Numbers, table: pd.DataFrame) -> None:
    """Write plots/ and report.html."""
    held = answers(run, table)
    images: dict[str, list[str]] = {}
    for name, pair in render_figures(RunResults(metrics, epochs_of(run, metrics), held)):
        atomic_write(run.plots_dir / f"{name}.png", lambda file, pair=pair: file.write(pair[0]))  # type: ignore[misc]
        images[name] = [data_uri("png", image) for image in pair]
    write_text(run.report_path, render(run, metrics, table, held, images))


def epochs_of(run: Run, metrics: Numbers) -> list[Numbers]:
    """Return the rows of the log that are of the run's folds."""
    folds = {row["fold"] for row in metrics["folds"]}
    return [row for row in run.history() if row["fold"] in folds]


def answers(run: Run, table: pd.DataFrame) -> pd.DataFrame:
    """Return oof.csv with what the page tells of each photo: path, years, confidence and age classes."""
    predictions = run.predictions("oof")
    rows, probs = table.set_index("id").loc[predictions.ids.tolist()].reset_index(), predictions.probs
    return rows[["id", "fold", "label"]].assign(
        guess=predictions.preds, path=rows["path"], years=rows["age"].to_numpy(float), sure=probs.max(1),
        age_truth=decode(rows["label"])[2], age_guess=marginals(probs)[2].argmax(1),
    )  # fmt: skip


def render(run: Run, metrics: Numbers, table: pd.DataFrame, held: pd.DataFrame, images: Mapping[str, Any]) -> str:
    """Return the page; whatever comes from outside is escaped by the template's engine."""
    values = page_context(held) | {
        "run": run.id,
        "metrics": metrics,
        "crowd": sample_size(metrics["oof"]),
        "images": images,
        "lines": list(summary_rows(metrics)),
        "tiles": list(headline_scores(metrics)),
        "leak": leak_warning(metrics["people_on_both_sides"]),
        "classes": class_rows(metrics),
        "sections": config_sections(run),
        "about": about(run),
        "epochs": len(run.history()),
        "unlabelled": int((table["part"] == "eval").sum()),
    }
    return render_template("run_report.html.j2", values, digits=format_score)


def page_context(held: pd.DataFrame) -> Numbers:
    """Return what the page tells of the out-of-fold photos."""
    return {
        "photos": len(held),
        "wrong": int((held["label"] != held["guess"]).sum()),
        "mistakes": list(top_errors(held)),
        "blame": count_wrong_attributes(held),
        "ages": int(held["years"].notna().sum()),
        "calibration": calibration_bins(held)[1],
    }


def headline_scores(metrics: Numbers) -> Iterator[tuple[str, str, str]]:
    """Yield the headline numbers: name, number, and of what."""
    oof, folds, evaluation = metrics["oof"], len(metrics["folds"]), metrics["eval"]
    of = sample_size(oof)
    yield "out-of-fold macro F1", format_score(oof["f1"]), of
    yield "out-of-fold accuracy", format_score(oof["accuracy"]), of
    for name in ("mask", "gender", "age"):
        yield f"{name} F1", format_score(oof[f"{name}_f1"]), f"out of fold, {of}"
    yield "macro F1 of a fold", spread(metrics["folds_mean"]), over_folds(folds)
    if evaluation:
        of = sample_size(evaluation)
        who = f"{folds} folds' models averaged" if folds > 1 else "1 fold's model"
        yield "evaluation macro F1", format_score(evaluation["f1"]), f"{who}, {of}"
        yield "evaluation accuracy", format_score(evaluation["accuracy"]), f"{who}, {of}"
        if evaluation.get("single") and folds > 1:
            yield "evaluation macro F1, one fold's model", spread(evaluation["single"]), f"{over_folds(folds)}, {of}"


def sample_size(part: Numbers) -> str:
    """Return n; where each photo counts as a person, the people may be unknown and are not told."""
    known = part["people"] < part["photos"]
    return f"n = {part['photos']} photos" + (f" of {part['people']} people" if known else "")


def spread(numbers: Numbers) -> str:
    """Return mean ± standard deviation of F1, without the latter where there is none."""
    return format_score(numbers["f1"]) + (f" ± {numbers['f1_sd']:.4f}" if "f1_sd" in numbers else "")


def over_folds(folds: int) -> str:
    """Return over how many folds a mean is taken."""
    return f"mean ± sd over {folds} folds" if folds > 1 else "1 fold only, so no sd"


def class_rows(metrics: Numbers) -> list[Numbers]:
    """Return the rows of the per-class table; what is divided by nothing is None."""
    said = np.asarray(metrics["confusion"]).sum(0)  # (18,)
    rows = []
    for row, guesses in zip(metrics["per_class"], said.tolist(), strict=True):
        blank = {"recall": None} if not row["photos"] else {}
        blank |= {"precision": None} if not guesses else {}
        blank |= {"f1": None} if not guesses + row["photos"] else {}
        rows.append(row | {"guesses": guesses} | blank)
    return rows


def top_errors(held: pd.DataFrame) -> Iterator[dict[Any, Any]]:
    """Yield the wrong photos that the run was surest of, the surest first."""
    wrong = held[held["label"] != held["guess"]].sort_values(["sure", "id"], ascending=[False, True], kind="stable")
    for row in wrong.head(WORST).to_dict("records"):
        truth, guess = CLASSES[row["label"]], CLASSES[row["guess"]]
        words = [(b, a != b) for a, b in zip(truth.split(), guess.split(), strict=True)]
        yield row | {"truth": truth, "guess": words, "image": thumbnail(row["path"])}


def config_sections(run: Run) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Return the config as sections: group, word, and its values under dotted names; plain values come first."""
    config = run.config if run.config_path.exists() else {}
    plain = [(name, text(value)) for name, value in config.items() if not isinstance(value, dict)]
    groups = [(name, value) for name, value in config.items() if isinstance(value, dict)]
    parts = [(name, str(value.get("name", "")), list(flatten(value))) for name, value in groups]
    return [("run", "", plain), *parts] if plain else parts


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the values of a nested section under dotted names, its word (`name`) left out."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from flatten(value, f"{prefix}{key}.")
        elif prefix or key != "name":
            yield f"{prefix}{key}", text(value)


def text(value: Any) -> str:
    """Return a config value as it may stand in YAML."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def about(run: Run) -> list[tuple[str, str]]:
    """Return what about.json and log.jsonl tell of machine, software and time, as names and texts."""
    facts = run.provenance()
    epochs = [row.get("seconds", 0) for row in run.history()]
    versions = {"maskcls": facts.get("maskcls"), "python": facts.get("python")} | (facts.get("versions") or {})
    rows = {
        "command": shlex.join(facts.get("command") or []), "begun": facts.get("begun"), "commit": facts.get("commit"),
        "time of the last call": format_duration(facts.get("seconds")),
        "time in epochs": f"{format_duration(sum(epochs))} in {len(epochs)} epochs" if epochs else "",
        "system": facts.get("system"), "hardware": joined(facts.get("hardware")),
        "versions": joined(versions),
    }  # fmt: skip
    return [(name, str(value)) for name, value in rows.items() if value]


def joined(facts: Mapping[str, Any] | None) -> str:
    """Return facts in one line, those that are not known left out."""
    return ", ".join(f"{name} {value}" for name, value in (facts or {}).items() if value is not None)
