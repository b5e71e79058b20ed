"""The closing of a run with a decision: what is scored and stored is decided, and what is loaded decides alike."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import TINY

from maskcls import load
from maskcls.components import decision
from maskcls.config.compose import compose
from maskcls.config.validation import validate
from maskcls.core.competition import MASK18
from maskcls.core.errors import RunError
from maskcls.core.table import num_folds
from maskcls.core.task import FloatArray
from maskcls.engine.runner import print_fold_scores, run
from maskcls.evaluation.metrics import macro_f1
from maskcls.evaluation.stacking import decide
from maskcls.reporting.comparison import probs_per_fold
from maskcls.storage.predictions import prob_columns
from maskcls.storage.run import Run

DECIDED = ("decision=bias", "decision.per=class", "decision.folds=4", "decision.shrink=0.0")


@pytest.fixture(scope="module")
def decided(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Run, float]:
    """Return the words, the directory and the score of a finished run with a decision."""
    folder = tmp_path_factory.mktemp("decided")
    words = [*TINY, *DECIDED, "epochs=1", f"data.root={drawn}", f"cache_dir={drawn}/cache", f"runs_dir={folder}/runs"]
    score = run(compose(*words))
    (place,) = (folder / "runs").glob("t-*")
    return words, Run(place), score


def plain_probs(one: Run, ids: list[str]) -> FloatArray:
    """Return what the folds predict for their validation rows."""
    parts = [one.fold_predictions(k).val for k in range(num_folds(one.table))]
    frame = pd.DataFrame(np.concatenate([part.probs for part in parts]), np.concatenate([part.ids for part in parts]))
    return frame.loc[ids].to_numpy()


def test_the_scores_are_of_decided_classes_and_those_of_plain_ones_stand_beside_them(
    decided: tuple[list[str], Run, float], capsys: pytest.CaptureFixture[str]
) -> None:
    words, one, score = decided
    metrics, oof = one.metrics() or {}, pd.read_csv(one.predictions_path("oof"))
    labels, plain = oof["label"].to_numpy(), plain_probs(one, oof["id"].tolist())
    expected = decision.bias(plain, labels, oof["person"].tolist(), MASK18, per="class", folds=4, shrink=0.0)
    np.testing.assert_allclose(oof[prob_columns(18)], expected.oof, rtol=1e-5)
    assert (oof["plain"] == plain.argmax(1)).all() and (oof["guess"] == oof[prob_columns(18)].to_numpy().argmax(1)).all()
    assert score == metrics["oof"]["f1"] == macro_f1(labels, oof["guess"].to_numpy())
    assert metrics["decision"]["plain"]["oof"]["f1"] == macro_f1(labels, plain.argmax(1)) != score
    for row in metrics["folds"]:
        mask = oof["fold"] == row["fold"]
        assert row["f1"] == macro_f1(labels[mask], oof["guess"][mask].to_numpy())
    np.testing.assert_array_equal(metrics["decision"]["bias"], expected.bias)
    capsys.readouterr()
    assert run(compose(*words)) == score
    shown = " ".join(capsys.readouterr().out.split())
    assert "plain argmax" in shown and "a bias per class, cross-fitted over 4 groups of people" in shown
    page = one.report_path.read_text(encoding="utf-8")
    assert "plain argmax macro F1" in page and "cross-fitted over 4 groups of people" in page


def test_evaluation_predictions_and_a_loaded_run_have_the_bias_of_all_people(
    decided: tuple[list[str], Run, float], people: Path
) -> None:
    _, one, _ = decided
    rows = one.eval_table
    folds = [one.fold_predictions(k).eval.select(rows["id"].tolist()) for k in range(num_folds(one.table))]
    expected = decide(np.mean(folds, axis=0), one.bias)
    assert one.bias is not None and np.ptp(one.bias) > 0
    np.testing.assert_allclose(one.predictions("eval").select(rows["id"].tolist()), expected, atol=1e-6)
    assert (pd.read_csv(one.predictions_path("eval"))["plain"] == np.mean(folds, axis=0).argmax(1)).all()
    photos = sorted((people / "eval" / "images").iterdir())
    order = {Path(name).stem: i for i, name in enumerate(rows["id"])}
    np.testing.assert_allclose(load(one.path)(photos), expected[[order[photo.stem] for photo in photos]], atol=1e-4)
    compared = probs_per_fold(one, rows["id"].tolist())
    np.testing.assert_allclose(compared, [decide(probs, one.bias) for probs in folds], atol=1e-6)


def test_a_fold_alone_has_no_decision_and_says_so(
    decided: tuple[list[str], Run, float], capsys: pytest.CaptureFixture[str]
) -> None:
    words, one, _ = decided
    capsys.readouterr()
    score = print_fold_scores(validate(compose(*words, "fold=1")), one)
    assert score == macro_f1(*zip_labels(one, 1))
    each = [macro_f1(*zip_labels(one, k)) for k in range(num_folds(one.table))]
    assert print_fold_scores(validate(compose(*words)), one) == pytest.approx(np.mean(each))  # as of a stopped run
    assert "before decision=bias, which needs all folds" in " ".join(capsys.readouterr().out.split())
    model = load(one.path / "fold1")
    assert model.source.bias is None
    assert "without the run's decision, which needs all folds" in " ".join(capsys.readouterr().out.split())


def zip_labels(one: Run, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return labels and plain classes of a fold."""
    part = one.fold_predictions(k).val
    return one.table.set_index("id")["label"][part.ids.tolist()].to_numpy(), part.preds


def test_too_few_people_finish_a_run_with_a_note(decided: tuple[list[str], Run, float]) -> None:
    words, one, _ = decided
    run(compose(*words, "decision.folds=15"))
    (other,) = (path for path in one.path.parent.glob("t-*") if path != one.path)
    metrics = Run(other).metrics() or {}
    assert "decision" not in metrics and Run(other).bias is None
    assert "decision=bias is not fitted" in " ".join(metrics["notes"])
    assert "plain" not in pd.read_csv(other / "oof.csv")
    assert metrics["oof"] == (one.metrics() or {})["decision"]["plain"]["oof"]  # the same folds


@pytest.mark.parametrize("bias", [None, 3, [], [0.0] * 17, [0.0] * 19, ["x"] * 18, [101.0] * 18, [None] * 18])
def test_a_bias_that_is_none_is_refused(
    decided: tuple[list[str], Run, float], tmp_path: Path, bias: object
) -> None:
    _, one, _ = decided
    other = Run(tmp_path)
    other.config_path.write_bytes(one.config_path.read_bytes())
    other.metrics_path.write_text(json.dumps((one.metrics() or {}) | {"decision": (one.metrics() or {})["decision"] | {"bias": bias}}))
    with pytest.raises(RunError, match=r"metrics\.json.*decision\.bias"):
        _ = other.bias
