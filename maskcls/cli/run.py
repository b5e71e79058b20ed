"""Training of an experiment, or with -m of a sweep.

python -m maskcls.run model=effnet_b4 loss=focal
python -m maskcls.run -m model=resnet18,effnet_b0 loss=ce,focal
"""

from __future__ import annotations

from omegaconf import DictConfig

from maskcls.cli.hydra_app import hydra_app


def task(cfg: DictConfig) -> float:
    """Run one job; heavy modules are imported here."""
    from maskcls.ladder.rungs import check_single_run

    check_single_run(cfg)
    from maskcls.engine.runner import run

    return run(cfg)


main = hydra_app(task)
