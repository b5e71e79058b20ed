"""A fold's ensemble of epochs: the mean of what the epochs' weights predict, also after a kill, an extension, elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from maskcls import load
from maskcls.config.compose import compose
from maskcls.config.validation import validate
from maskcls.core.errors import ConfigError
from maskcls.engine import fold as folds
from maskcls.engine.runner import run
from maskcls.storage.run import Run

ENSEMBLE = ("epochs=3", "ensemble_epochs=2", "fold=0", "scheduler=constant")


@pytest.mark.parametrize("select", ["best", "last"])
def test_the_predictions_of_the_selected_epochs_are_averaged(
    select: str, tiny: list[str], people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folds, "remove_unused_weights", lambda *arguments: None)  # keep the weights of all epochs
    words = [*tiny, *ENSEMBLE, f"select={select}"]
    run(compose(*words))
    one = Run.of(validate(compose(*words)))
    f1 = [row["f1"] for row in one.history()]
    chosen = sorted(range(1, 4), key=lambda epoch: -f1[epoch - 1])[:2] if select == "best" else [3, 2]
    predictions, images = one.fold_predictions(0), [people / name for name in one.eval_table["id"]]
    assert predictions.selected_epochs == chosen
    members = [load(one.epoch_path(0, epoch))(images) for epoch in chosen]
    assert np.abs(members[0] - members[1]).max() > 1e-3, "the epochs differ"
    np.testing.assert_allclose(predictions.eval.probs, (members[0] + members[1]) / 2, atol=1e-5)
    moved = shutil.copy(one.checkpoint_path(0), tmp_path / "moved.pt")
    np.testing.assert_allclose(load(moved)(images), predictions.eval.probs, atol=1e-5)
    first = torch.load(one.epoch_path(0, chosen[0]), weights_only=True)["model"]
    kept = torch.load(moved, weights_only=True)["model"]  # what model.init starts from
    assert all(torch.equal(first[key], kept[key]) for key in first)
    before = one.fold_predictions_path(0).read_bytes()
    one.fold_predictions_path(0).unlink()  # killed before it was written
    for path in one.fold_dir(0).glob("epoch*.pt"):
        path.unlink()
    run(compose(*words))
    assert one.fold_predictions_path(0).read_bytes() == before


@pytest.mark.slow
def test_an_ensemble_of_epochs_is_extended(tiny: list[str], tmp_path: Path) -> None:
    words = [*tiny, "ensemble_epochs=2", "scheduler=constant"]
    run(compose(*words, "epochs=2"))
    run(compose(*words, "epochs=4"))
    run(compose(*words, "epochs=4", f"runs_dir={tmp_path}/whole"))
    extended = Run.of(validate(compose(*words, "epochs=4")))
    whole = Run.of(validate(compose(*words, "epochs=4", f"runs_dir={tmp_path}/whole")))
    assert "extends" in extended.provenance()
    for name in ("metrics.json", "oof.csv", "eval.csv", "fold0/oof.npz", "fold1/oof.npz"):
        assert (whole.path / name).read_bytes() == (extended.path / name).read_bytes(), name


def test_predictions_and_weights_are_not_averaged_both() -> None:
    with pytest.raises(ConfigError, match="ensemble_epochs=2 averages predictions and average_epochs=3 weights"):
        validate(compose("name=t", "epochs=4", "ensemble_epochs=2", "average_epochs=3"))
    with pytest.raises(ConfigError, match="ensemble_epochs=5 exceeds epochs=4"):
        validate(compose("name=t", "epochs=4", "ensemble_epochs=5"))


@pytest.mark.slow
def test_layers_that_were_unfrozen_stay_so_when_only_the_prediction_is_missing(
    tiny: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [*tiny, "model.frozen=backbone", "freeze_epochs=1", "average_epochs=2", "split=holdout", "optimizer.lr=0.01"]
    run(compose(*words))
    whole = Run.of(validate(compose(*words)))
    words = [*words, "name=other"]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(folds, "finish_fold", lambda *arguments: (_ for _ in ()).throw(KeyboardInterrupt))
        run(compose(*words))
    run(compose(*words))
    resumed = Run.of(validate(compose(*words)))
    for part in ("val", "eval"):
        one, other = (getattr(place.fold_predictions(0), part).probs for place in (whole, resumed))
        np.testing.assert_array_equal(one, other)  # the statistics of the average were recomputed in both
