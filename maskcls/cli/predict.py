"""Prediction with one finished run, or with several blended.

maskcls predict runs='[runs/a-1234,runs/b-5678]' blend=fitted     the evaluation set: submission.csv
maskcls predict runs='[a-1234]' photos=~/pictures tta=flip        any images: photos.csv
"""

from __future__ import annotations

from omegaconf import DictConfig

from maskcls.cli.hydra_app import hydra_app


def task(cfg: DictConfig) -> float:
    """Predict; heavy modules are imported here."""
    from maskcls.inference.predict import predict

    return predict(cfg)


main = hydra_app(task, "predict")
