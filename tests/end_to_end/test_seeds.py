"""Runs of two seeds over the same folds: blended by predict and compared, as an ensemble of seeds is."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from maskcls.config.compose import compose
from maskcls.engine import runner


@pytest.mark.slow
def test_runs_of_two_seeds_share_folds_and_blend(
    tiny: list[str], tmp_path: Path, command: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    for seed in (0, 1):
        runner.run(compose(*tiny, "epochs=1", f"seed={seed}", "split.seed=0", f"name=s{seed}"))
    runner.run(compose(*tiny, "epochs=1", "seed=1", "name=own"))
    names = {path.name.split("-")[0]: path.name for path in (tmp_path / "runs").iterdir() if path.is_dir()}
    runs = f"{names['s0']},{names['s1']}"
    done = command(f"runs=[{runs}]", "blend=fitted", name="predict")
    assert done.returncode == 0 and "ensemble: fitted" in done.stdout, done.stderr
    assert len(pd.read_csv(tmp_path / "submission.csv")) == 28
    oof = [pd.read_csv(tmp_path / "runs" / names[name] / "oof.csv").set_index("id") for name in ("s0", "s1")]
    assert oof[0]["fold"].equals(oof[1]["fold"].reindex(oof[0].index)) and not oof[0]["p0"].equals(oof[1]["p0"])
    assert command(f"runs={runs}", name="compare").returncode == 0
    refused = command(f"runs=[{names['s0']},{names['own']}]", name="predict")
    assert refused.returncode == 2 and "have different folds" in refused.stderr and "split.seed=0" in refused.stderr
