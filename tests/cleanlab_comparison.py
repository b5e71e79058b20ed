"""The audit beside cleanlab, on the same predictions at equal numbers of flags, with errors planted in the labels.

python tests/cleanlab_comparison.py runs=a-1,b-2 errors=0.05 copies=10 out=drawn.json    errors planted in copies
python tests/cleanlab_comparison.py runs=a-1 truth=true out=trained.json                 errors of data.errors

cleanlab ranks images, as it is used, and people by the mean probabilities of their images. It gets the best of its three
scores in hindsight. A flag is a person for gender and age, and an image for masks; as many are flagged as were planted.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score

from maskcls.cli.arguments import parse_arguments
from maskcls.components.data import synthetic
from maskcls.core.competition import MASK18
from maskcls.evaluation.label_issues import Evidence, Suspicions
from maskcls.evaluation.planted_errors import count_errors, plant_errors
from maskcls.inference.audited_labels import read_audited
from maskcls.storage.run import Run
from maskcls.system.files import write_json

METHODS = ("self_confidence", "normalized_margin", "confidence_weighted_entropy")
KINDS = ("mask", "gender", "age")
Ranking = pd.Series  # suspicion of each unit, by its name: an image of a mask, else a person


@dataclass(frozen=True)
class Options:
    """Options of the comparison."""

    runs: tuple[str, ...]  # finished runs
    out: str  # JSON file to write
    errors: float = 0.05  # share of people with a planted error of each kind
    copies: int = 10  # copies of each run's labels with planted errors
    without: str | None = None  # list of label errors (label_issues.csv): its people are left out, so labels are clean
    truth: bool = False  # the errors are those of data.errors in training, not planted now


def our_ranking(part: Suspicions, table: pd.DataFrame) -> Ranking:
    """Return the audit's suspicion of each unit; of a mask, only the images that it would change."""
    if part.kind != "mask":
        return pd.Series(part.wrong, index=part.persons)
    is_changed = part.new != table["mask"].to_numpy()
    return pd.Series(np.where(is_changed, part.wrong[part.units], -1.0), index=table["id"])


def cleanlab_rankings(kind: str, table: pd.DataFrame, probs: np.ndarray) -> dict[str, Ranking]:
    """Return cleanlab's suspicions by images and by people, for each of its scores."""
    from cleanlab.rank import get_label_quality_scores

    labels = MASK18.decode(table["label"])[KINDS.index(kind)]
    groups = table["person"].to_numpy()
    probs = np.clip(probs / probs.sum(1, keepdims=True), 0, 1)
    person_probs = pd.DataFrame(probs).groupby(groups).mean()
    person_labels = pd.Series(labels).groupby(groups).first()
    rankings = {}
    for method in METHODS:
        images = pd.Series(-get_label_quality_scores(labels, probs, method=method), index=table["id"])
        if kind == "mask":
            rankings[f"images, {method}"] = images
            continue
        rankings[f"images, {method}"] = images.groupby(groups).max()  # a person is flagged with the first image
        people = -get_label_quality_scores(person_labels.to_numpy(), person_probs.to_numpy(), method=method)
        rankings[f"people, {method}"] = pd.Series(people, index=person_probs.index)
    return rankings


def score(ranking: Ranking, planted: Iterable[str]) -> dict[str, float]:
    """Return the share of planted errors among as many flags, and the average precision of the ranking."""
    is_planted = ranking.index.isin(set(planted))
    top = np.argsort(-ranking.to_numpy(), kind="stable")[: is_planted.sum()]
    return {"found": float(is_planted[top].mean()), "average_precision": float(average_precision_score(is_planted, ranking))}


def compare(evidence: Evidence, probs: np.ndarray, planted: pd.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """Return the scores of each ranking of each kind."""
    parts = dict(zip(KINDS, MASK18.marginals(np.asarray(probs, np.float64)), strict=True))
    results = {}
    for kind, part in evidence.suspicions().items():
        names = planted.loc[planted["kind"] == kind, "id" if kind == "mask" else "person"]
        rankings = {"ours": our_ranking(part, evidence.table)} | cleanlab_rankings(kind, evidence.table, parts[kind])
        results[kind] = {name: score(ranking, names) for name, ranking in rankings.items()}
    return results


def true_errors(run: Run, table: pd.DataFrame) -> pd.DataFrame:
    """Return the errors that data.errors has planted in the labels of a run."""
    params = {key: value for key, value in run.config["data"].items() if key not in ("name", "errors")}
    truth = synthetic(lambda note: None, **params, task=MASK18).set_index("id").loc[table["id"]].reset_index()
    wrong = [(kind, row.person, row.id if kind == "mask" else "") for kind in KINDS
             for row in table[(truth[kind] != table[kind]).to_numpy()].itertuples()]  # fmt: skip
    return pd.DataFrame(wrong, columns=["kind", "person", "id"]).drop_duplicates()


def run_comparison(options: Options) -> list[dict[str, Any]]:
    """Return the scores of all copies of all runs."""
    results = []
    for number, name in enumerate(options.runs):
        run = Run.open(name)
        table, predictions = read_audited([run], False)
        probs, ages = predictions.probs, predictions.numbers
        if options.without:
            known = pd.read_csv(options.without, dtype=str)["person"]
            is_clean = (~table["person"].str.partition("_")[0].isin(known)).to_numpy()
            table, probs, ages = table[is_clean].reset_index(drop=True), probs[is_clean], None if ages is None else ages[is_clean]
        evidence = Evidence.of(table, probs, ages, MASK18)
        if options.truth:
            results.append(compare(evidence, probs, true_errors(run, table)))
        for copy in range(0 if options.truth else options.copies):
            rng = np.random.default_rng([number, copy])
            wrong, planted = plant_errors(table, count_errors(table, options.errors, MASK18), rng, evidence.group_names, MASK18)
            results.append(compare(replace(evidence, table=wrong), probs, planted))
    return results


def summarize(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the mean and standard deviation over copies of ours and of cleanlab's best score, by images and people."""
    summary: dict[str, Any] = {}
    for kind in KINDS:
        names = list(results[0][kind])
        means = {name: float(np.mean([result[kind][name]["average_precision"] for result in results])) for name in names}
        best = {unit: max((name for name in names if name.startswith(unit)), key=means.__getitem__)
                for unit in ("images", "people") if any(name.startswith(unit) for name in names)}  # fmt: skip
        summary[kind] = {}
        for unit, name in {"ours": "ours", **{f"cleanlab {unit}": name for unit, name in best.items()}}.items():
            numbers = {key: [result[kind][name][key] for result in results] for key in ("found", "average_precision")}
            summary[kind][unit] = {"score": name} | {
                key: {"mean": round(float(np.mean(values)), 4), "sd": round(float(np.std(values)), 4)}
                for key, values in numbers.items()
            }
    return summary


if __name__ == "__main__":
    chosen, _ = parse_arguments(Options, sys.argv[1:])
    found = run_comparison(chosen)
    record = {"runs": [Path(run).name for run in chosen.runs], "errors": "data.errors" if chosen.truth else chosen.errors,
              "tables": len(found), "kinds": summarize(found)}  # fmt: skip
    write_json(Path(chosen.out), record)
    for kind, rows in record["kinds"].items():
        for who, row in rows.items():
            print(f"{kind:7} {who:16} found {row['found']['mean']:.3f} ± {row['found']['sd']:.3f}  "
                  f"AP {row['average_precision']['mean']:.3f} ± {row['average_precision']['sd']:.3f}  ({row['score']})")  # fmt: skip
