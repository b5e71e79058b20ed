"""Prediction with one run, or with several blended; also with a run that is not finished, a fold or a checkpoint.

maskcls predict runs='[runs/a-1234,runs/b-5678]' blend=fitted     the evaluation set: submission.csv
maskcls predict runs='[a-1234]' photos=~/pictures tta=flip        any images: predictions-pictures.csv
maskcls predict runs='[a-1234]' photos=labelled.csv               a CSV with path and labels: also their scores
maskcls predict runs='[runs/a-1234/fold0]' photos=~/pictures      one fold; or a file, as runs/a-1234/fold0/last.pt
"""

from __future__ import annotations

from omegaconf import DictConfig

from maskcls.cli.hydra_app import hydra_app


def task(cfg: DictConfig) -> float | None:
    """Predict; heavy modules are imported here."""
    from maskcls.inference.predict import predict

    return predict(cfg)


main = hydra_app(lambda cfg, group: task(cfg), "predict")
