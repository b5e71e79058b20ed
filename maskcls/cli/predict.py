"""Predict with one finished run, or with several of them blended.

python -m maskcls predict runs='[runs/a-1234,runs/b-5678]' blend=fitted     the evaluation photos: submission.csv
python -m maskcls predict runs='[a-1234]' photos=~/pictures tta=flip        any photos: photos.csv
"""

from __future__ import annotations

from omegaconf import DictConfig

from maskcls.cli.hydra_app import hydra_app


def task(cfg: DictConfig) -> float:
    """Predict once; what is heavy to import is imported only now."""
    from maskcls.inference.predict import predict

    return predict(cfg)


main = hydra_app(task, "predict")
